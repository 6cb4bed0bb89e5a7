"""Changing and refusing queries before they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from tests.hooks.observers import HOUR, Leaves, Observer, opened, price

from perdure import QueryRecord, SessionStore, Settings, hookimpl
from perdure.backends import MemoryBackend, MemoryData
from perdure.backends.tiered import TieredBackend
from perdure.errors import InvalidInputError, QueryVetoedError, SessionNotFoundError
from perdure.store.hooks import HookRelay
from perdure.testing import ManualClock


class Redacts:
    @hookimpl
    def prepare_query(self, session_id: UUID, query: QueryRecord) -> QueryRecord:
        kept = {key: value for key, value in query.parameters.items() if key != "password"}
        return QueryRecord(query_type=query.query_type, parameters=kept, timestamp=query.timestamp, position=99)


class Enriches:
    @hookimpl
    async def prepare_query(self, session_id: UUID, query: QueryRecord) -> QueryRecord:
        await asyncio.sleep(0)
        return query.model_copy(update={"metadata": {"saw": sorted(query.parameters), "in": str(session_id)}})


@pytest.mark.parametrize("way", ["track_query", "tracking", "save"])
async def test_a_query_is_redacted_and_enriched_before_anything_is_stored(way: str, observer: Observer) -> None:
    query = price(parameters={"user": "ann", "password": "swordfish"})
    async with opened(Redacts(), Leaves(), Enriches(), observer) as store:
        session = await store.create_session(["A"], "equity")
        observer.seen.clear()
        if way == "track_query":
            await store.track_query(session.id, query)
        elif way == "save":
            session.add_query(query)
            await store.save(session)
        else:
            async with store.tracking(session.id, query.query_type, query.parameters):
                pass

        (kept,) = await store.get_queries(session.id)

    assert kept.parameters == {"user": "ann"}
    assert kept.metadata == {"saw": ["user"], "in": str(session.id)}
    assert kept.position == 1
    assert observer.only("query_tracked")["query"] == kept
    if way != "tracking":
        assert kept.id == query.id  # by which a repeat is known


async def test_after_a_save_the_object_shows_what_was_stored_and_not_what_was_redacted() -> None:
    async with opened(Redacts()) as store:
        session = await store.create_session(["A"], "equity")
        session.add_query(price(parameters={"password": "swordfish"}))

        await store.save(session)

        assert session == await store.get_session(session.id)
        assert "swordfish" not in repr(session.to_dict())


async def test_after_a_save_the_counters_speak_of_what_was_stored() -> None:
    class Corrects:
        @hookimpl
        def prepare_query(self, query: QueryRecord) -> QueryRecord:
            return query.model_copy(update={"cache_hit": True, "timestamp": query.timestamp - HOUR})

    async with opened(Corrects()) as store:
        session = await store.create_session(["A"], "equity")
        session.add_query(price())

        await store.save(session)

        assert session.state.history.cache_hits == 1
        assert session == await store.get_session(session.id)


class ForwardsAndRaises:
    """An observer that says all it is told, and fails at it."""

    @hookimpl
    def query_tracked(self, query: QueryRecord) -> None:
        raise RuntimeError(query.parameters)


@pytest.mark.parametrize("acknowledge", ["archive", "hot"])
async def test_a_secret_that_is_redacted_reaches_no_tier(
    acknowledge: Literal["archive", "hot"], clock: ManualClock
) -> None:
    hot, archive = MemoryData(), MemoryData()
    tiers = TieredBackend(MemoryBackend(hot), MemoryBackend(archive), acknowledge=acknowledge)
    quiet = Settings(sweep_on_open=False, sweep_in_background=False)
    hooks = HookRelay([Redacts()], timeout_seconds=1)
    async with SessionStore(tiers, settings=quiet, hooks=hooks, clock=clock) as store:
        session = await store.create_session(["A"], "equity")
        await store.track_query(session.id, price(parameters={"user": "ann", "password": "swordfish"}))
        assert await store.get_session(session.id) is not None  # which fills the cache
        while_active = repr((hot, archive))
        clock.advance(25 * HOUR)
        await store.cleanup_expired_sessions()

    assert "ann" in while_active
    assert "ann" in repr(archive)
    assert "swordfish" not in while_active + repr((hot, archive))


@pytest.mark.parametrize("raising", [False, True], ids=["block ends well", "block raises"])
async def test_a_secret_that_is_redacted_reaches_no_file_no_log_and_no_export(
    raising: bool, tmp_path: Path, logs: list[MutableMapping[str, Any]], clock: ManualClock
) -> None:
    secret = {"user": "ann", "password": "swordfish"}
    quiet = Settings(sweep_on_open=False, sweep_in_background=False)
    exported: list[str] = []
    async with SessionStore.open(
        f"sqlite:///{tmp_path / 'kept.db'}", settings=quiet, plugins=[Redacts(), ForwardsAndRaises()], clock=clock
    ) as store:
        session = await store.create_session(["A"], "equity")
        await store.track_query(session.id, price(parameters=secret))
        with suppress(LookupError):
            async with store.tracking(session.id, "price", secret):
                if raising:
                    raise LookupError("no price")
        session.add_query(price(parameters=secret, metadata=secret))
        await store.save(session)
        # what is too large is cut after redaction, when a `repr` hides nothing any more
        async with store.tracking(session.id, "price", {**secret, "rest": "x" * 300_000}):
            pass
        clock.advance(25 * HOUR)
        await store.cleanup_expired_sessions()
        async for whole in store.export_sessions():
            exported.append(repr(whole.to_dict()))
            assert whole.is_archived
            assert whole.state.history.total_queries == 4

    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"ann" in files
    assert "ann" in exported[0]
    assert len(logs) > 3
    assert b"swordfish" not in files
    assert "swordfish" not in repr(logs) + exported[0]


class Vetoes:
    @hookimpl
    def prepare_query(self, query: QueryRecord) -> None:
        raise PermissionError("not on a Sunday")


class Forgets:
    @hookimpl
    def prepare_query(self) -> dict[str, Any]:
        return {"query_type": "price"}


class HangsInPreparing:
    @hookimpl
    async def prepare_query(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (Vetoes(), "Vetoes refused it: PermissionError: not on a Sunday"),
        (Forgets(), "Forgets refused it: it gave back a dict"),
        (HangsInPreparing(), "HangsInPreparing refused it: TimeoutError"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_query_that_is_not_let_through_is_not_stored(plugin: object, reason: str, observer: Observer) -> None:
    async with opened(plugin, observer, hook_timeout_seconds=0.01) as store:
        session = await store.create_session(["A"], "equity")
        observer.seen.clear()

        with pytest.raises(QueryVetoedError, match=reason) as caught:
            await store.track_query(session.id, price())
        session.add_query(price())
        session.state.context["k"] = 1
        with pytest.raises(QueryVetoedError):
            await store.save(session)
        async with store.tracking(session.id, "price") as query:
            pass

        assert caught.value.plugin == type(plugin).__name__
        assert isinstance(query.failure, QueryVetoedError)
        found = await store.get_session(session.id)
        assert found is not None
        assert (found.version, found.state.history.total_queries, len(found.state.context)) == (1, 0, 0)
    assert observer.seen == []


async def test_plugins_after_a_veto_do_not_see_the_query() -> None:
    seen = []

    class Looks:
        @hookimpl
        def prepare_query(self, query: QueryRecord) -> None:
            seen.append(query)

    async with opened(Vetoes(), Looks()) as store:
        session = await store.create_session(["A"], "equity")
        with pytest.raises(QueryVetoedError):
            await store.track_query(session.id, price())

    assert seen == []


async def test_what_a_plugin_made_of_a_query_is_checked_like_any_other() -> None:
    class Spoils:
        @hookimpl
        def prepare_query(self, query: QueryRecord) -> QueryRecord:
            return query.model_copy(update={"metadata": {"k": b""}})

    async with opened(Spoils()) as store:
        session = await store.create_session(["A"], "equity")
        with pytest.raises(InvalidInputError, match=r"query\['metadata'\]\['k'\]: bytes"):
            await store.track_query(session.id, price())


async def test_a_session_that_is_not_there_is_said_after_preparing() -> None:
    async with opened(Leaves()) as store:
        with pytest.raises(SessionNotFoundError):
            await store.track_query(UUID(int=1), price())
