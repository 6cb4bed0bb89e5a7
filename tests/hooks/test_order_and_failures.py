"""In which order plugins are called, and that none of them can disturb another or the caller."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from tests.hooks.observers import HOUR, Observer, opened, price

from perdure import QueryRecord, Session, SessionMetrics, SessionStore, hookimpl
from perdure.errors import InvalidInputError
from perdure.testing import ManualClock


async def test_the_plugin_given_first_is_called_first() -> None:
    called: list[int] = []

    class Numbered:
        def __init__(self, number: int) -> None:
            self.number = number

        @hookimpl
        def session_created(self) -> None:
            called.append(self.number)

    async with opened(*map(Numbered, range(5))) as store:
        await store.create_session(["A"], "equity")

    assert called == [0, 1, 2, 3, 4]


async def test_a_plugin_takes_only_the_arguments_it_asks_for() -> None:
    seen = []

    class OnlyMetrics:
        @hookimpl
        def session_archived(self, metrics: SessionMetrics) -> None:
            seen.append(metrics.total_queries)

    async with opened(OnlyMetrics()) as store:
        session = await store.create_session(["A"], "equity")
        await store.archive_session(session.id)

    assert seen == [0]


class Raises:
    """Raises, with a value of the session in its message."""

    @hookimpl
    def session_created(self, session: Session) -> None:
        raise ValueError(f"cannot cope with {session.state.context}")

    @hookimpl
    async def query_tracked(self, query: QueryRecord) -> None:
        raise ValueError(f"cannot cope with {query.parameters}")


class Hangs:
    @hookimpl
    async def session_created(self) -> None:
        await asyncio.Event().wait()


class WaitsForWhatIsCancelled:
    @hookimpl
    async def session_created(self) -> None:
        other = asyncio.create_task(asyncio.Event().wait())
        other.cancel()
        await other


async def test_one_that_raises_or_hangs_is_logged_by_name_and_disturbs_nobody(
    observer: Observer, logs: list[MutableMapping[str, Any]]
) -> None:
    async with opened(Raises(), Hangs(), observer, hook_timeout_seconds=0.01) as store:
        session = await store.create_session(["A"], "equity", context={"k": "swordfish"})
        await store.track_query(session.id, price(parameters={"p": "swordfish"}))

    assert observer.names() == ["session_created", "query_tracked"]
    assert logs == [
        {"event": "hook.failed", "log_level": "error", "hook": hook, "plugin": plugin, "error": error}
        for hook, plugin, error in (
            ("session_created", "Raises", "ValueError"),
            ("session_created", "Hangs", "TimeoutError"),
            ("query_tracked", "Raises", "ValueError"),
        )
    ]


async def test_a_cancellation_within_a_plugin_is_its_own_failure_and_one_of_the_caller_is_the_callers(
    observer: Observer, logs: list[MutableMapping[str, Any]]
) -> None:
    async with opened(WaitsForWhatIsCancelled(), observer) as store:
        await store.create_session(["A"], "equity")
    assert observer.names() == ["session_created"]
    assert [(entry["plugin"], entry["error"]) for entry in logs] == [("WaitsForWhatIsCancelled", "PluginError")]

    async with opened(Hangs(), observer, hook_timeout_seconds=60) as store:
        creating = asyncio.create_task(store.create_session(["A"], "equity"))
        for _ in range(20):
            await asyncio.sleep(0)
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
    assert len(logs) == 1


async def test_two_plugins_of_one_class_can_be_told_apart(logs: list[MutableMapping[str, Any]]) -> None:
    async with opened(Raises(), Raises()) as store:
        await store.create_session(["A"], "equity")

    names = [entry["plugin"] for entry in logs]
    assert len(set(names)) == 2
    assert all(name.startswith("Raises") for name in names)


async def test_a_module_can_be_a_plugin_and_is_called_by_its_name(logs: list[MutableMapping[str, Any]]) -> None:
    module = ModuleType("auditing")

    @hookimpl
    def session_created(session: Session) -> None:
        raise RuntimeError

    module.session_created = session_created  # type: ignore[attr-defined]
    async with opened(module) as store:
        await store.create_session(["A"], "equity")

    assert [entry["plugin"] for entry in logs] == ["auditing"]


async def test_an_observer_may_use_the_store_itself() -> None:
    class Echo:
        store: SessionStore

        @hookimpl
        async def query_tracked(self, session_id: UUID, query: QueryRecord) -> None:
            if query.query_type != "echo":
                await self.store.track_query(session_id, QueryRecord(query_type="echo"))

        @hookimpl
        async def session_extended(self, session: Session) -> None:
            session.state.context["extended"] = True
            await self.store.save(session)

    echo = Echo()
    async with opened(echo) as store:
        echo.store = store
        session = await store.create_session(["A"], "equity")
        session.add_query(price())
        session.extend(1)
        await store.save(session)

        found = await store.get_session(session.id)
    assert found is not None
    assert [query.query_type for query in found.state.history.queries] == ["price", "echo"]
    assert found.state.context == {"extended": True}


async def test_no_value_of_state_or_parameters_is_ever_logged(
    clock: ManualClock, logs: list[MutableMapping[str, Any]]
) -> None:
    class Vetoes:
        @hookimpl
        def prepare_query(self, query: QueryRecord) -> None:
            if query.query_type == "vetoed":
                raise ValueError(f"no: {query.parameters}")

    secret = {"k": "swordfish"}
    async with opened(Raises(), Hangs(), Vetoes(), clock=clock, hook_timeout_seconds=0.01) as store:
        session = await store.create_session(["A"], "equity", context=secret, preferences=secret)
        await store.track_query(session.id, price(parameters=secret, metadata=secret, result_summary="swordfish"))
        await store.update_context(session.id, more="swordfish")
        await store.store_intermediate_result(session.id, "k", "swordfish")
        async with store.tracking(session.id, "vetoed", secret):
            pass
        with pytest.raises(ValueError, match="swordfish"):
            async with store.tracking(session.id, "price", secret):
                raise ValueError("swordfish")
        with pytest.raises(InvalidInputError):
            await store.update_context(session.id, bad=["swordfish", b""])
        async with store.tracking(session.id, "price", secret):
            await store.delete_session(session.id)
        other = await store.create_session(["A"], "equity", context=secret)
        clock.advance(25 * HOUR)
        await store.cleanup_expired_sessions()
        clock.advance(31 * 24 * HOUR)
        await store.delete_old_archived_sessions()
        assert await store.get_session(other.id) is None

    assert {entry["event"] for entry in logs} >= {"hook.failed", "query.not_recorded", "sessions.archived"}
    assert "swordfish" not in repr(logs)
