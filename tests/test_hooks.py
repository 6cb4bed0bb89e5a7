"""Plugins: what they are told, in which order, and that none of them can disturb another or the caller."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import timeit
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Literal
from uuid import UUID

import pytest
import structlog
from structlog.testing import capture_logs
from tests.installed import install

from perdure import QueryRecord, Session, SessionMetrics, SessionStore, SessionSummary, Settings, hookimpl, hookspecs
from perdure.backends import MemoryBackend, MemoryData
from perdure.backends.tiered import TieredBackend
from perdure.errors import InvalidInputError, PluginError, QueryVetoedError, SessionNotFoundError
from perdure.store.hooks import HookRelay
from perdure.testing import Fault, FaultyBackend, ManualClock, Moment

HOUR = timedelta(hours=1)
SPECS = {
    "session_created",
    "session_updated",
    "query_tracked",
    "session_extended",
    "session_expired",
    "session_archived",
    "session_restored",
    "session_past_retention",
    "session_deleted",
    "tier_degraded",
    "tier_recovered",
    "prepare_query",
    "around_verb",
    "around_tier_call",
    "hook_failed",
    "store_opened",
    "store_closing",
    "register_backends",
}


def price(**fields: Any) -> QueryRecord:
    return QueryRecord(query_type="price", **fields)


class Observer:
    """Notes everything it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def note(self, hook: str, **facts: Any) -> None:
        self.seen.append((hook, facts))

    def names(self) -> list[str]:
        return [hook for hook, _ in self.seen]

    def only(self, hook: str) -> dict[str, Any]:
        """What it was told by that hook, the one time it was."""
        (facts,) = [facts for name, facts in self.seen if name == hook]
        return facts

    @hookimpl
    def session_created(self, session: Session) -> None:
        self.note("session_created", session=session)

    @hookimpl
    def session_updated(self, session_id: UUID, version: int) -> None:
        self.note("session_updated", session_id=session_id, version=version)

    @hookimpl
    def query_tracked(self, session_id: UUID, query: QueryRecord) -> None:
        self.note("query_tracked", session_id=session_id, query=query)

    @hookimpl
    def session_extended(self, session: Session) -> None:
        self.note("session_extended", id=session.id, expires_at=session.expires_at)

    @hookimpl
    def session_expired(self, session: SessionSummary, event_id: str) -> None:
        self.note("session_expired", session=session, event_id=event_id)

    @hookimpl
    def session_archived(self, session: SessionSummary, metrics: SessionMetrics | None, event_id: str) -> None:
        self.note("session_archived", session=session, metrics=metrics, event_id=event_id)

    @hookimpl
    def session_restored(self, session: Session) -> None:
        self.note("session_restored", id=session.id, archived=session.is_archived)

    @hookimpl
    def session_past_retention(self, session_id: UUID, event_id: str) -> None:
        self.note("session_past_retention", session_id=session_id, event_id=event_id)

    @hookimpl
    def session_deleted(self, session_id: UUID) -> None:
        self.note("session_deleted", session_id=session_id)

    @hookimpl
    def tier_degraded(self, tier: str, reason: str) -> None:
        self.note("tier_degraded", tier=tier, reason=reason)

    @hookimpl
    def tier_recovered(self, tier: str) -> None:
        self.note("tier_recovered", tier=tier)


class AsyncObserver:
    """Passes what it is told on to an observer, later."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    @hookimpl
    async def session_created(self, session: Session) -> None:
        await asyncio.sleep(0)
        self._observer.session_created(session)

    @hookimpl
    async def session_updated(self, session_id: UUID, version: int) -> None:
        await asyncio.sleep(0)
        self._observer.session_updated(session_id, version)

    @hookimpl
    async def query_tracked(self, session_id: UUID, query: QueryRecord) -> None:
        await asyncio.sleep(0)
        self._observer.query_tracked(session_id, query)

    @hookimpl
    async def session_extended(self, session: Session) -> None:
        await asyncio.sleep(0)
        self._observer.session_extended(session)

    @hookimpl
    async def session_expired(self, session: SessionSummary, event_id: str) -> None:
        await asyncio.sleep(0)
        self._observer.session_expired(session, event_id)

    @hookimpl
    async def session_archived(self, session: SessionSummary, metrics: SessionMetrics | None, event_id: str) -> None:
        await asyncio.sleep(0)
        self._observer.session_archived(session, metrics, event_id)

    @hookimpl
    async def session_restored(self, session: Session) -> None:
        await asyncio.sleep(0)
        self._observer.session_restored(session)

    @hookimpl
    async def session_past_retention(self, session_id: UUID, event_id: str) -> None:
        await asyncio.sleep(0)
        self._observer.session_past_retention(session_id, event_id)

    @hookimpl
    async def session_deleted(self, session_id: UUID) -> None:
        await asyncio.sleep(0)
        self._observer.session_deleted(session_id)


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("PERDURE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as entries:
        yield entries
    structlog.reset_defaults()


def opened(*plugins: object, clock: ManualClock | None = None, **settings: Any) -> SessionStore:
    """A store in memory with plugins, that does nothing by itself."""
    quiet = Settings(**{"sweep_on_open": False, "sweep_in_background": False, **settings})
    return SessionStore.open("memory://", plugins=plugins, settings=quiet, clock=clock or ManualClock())


@pytest.fixture
def observer() -> Observer:
    return Observer()


@pytest.fixture(params=["plain", "async"])
async def store(request: pytest.FixtureRequest, observer: Observer, clock: ManualClock) -> AsyncIterator[SessionStore]:
    plugin = observer if request.param == "plain" else AsyncObserver(observer)
    async with opened(plugin, clock=clock) as store:
        yield store


@pytest.fixture
async def session(store: SessionStore, observer: Observer) -> Session:
    session = await store.create_session(["AAPL"], "equity", "ann", tags=["t"], context={"k": 1})
    observer.seen.clear()
    return session


def test_every_hook_is_specified_in_one_sentence() -> None:
    specs = {name: spec for name, spec in vars(hookspecs).items() if inspect.isfunction(spec)}

    assert specs.keys() == SPECS
    for spec in specs.values():
        text = inspect.getdoc(spec)
        assert text is not None
        assert text.count("\n") == 0


# What observers are told -------------------------------------------------------------------------------


async def test_a_session_that_is_created_is_told_of_whole(store: SessionStore, observer: Observer) -> None:
    session = await store.create_session(["A"], "equity", context={"k": 1})

    assert observer.seen == [("session_created", {"session": session})]
    assert observer.only("session_created")["session"] == await store.get_session(session.id)


async def test_keys_that_are_written_are_told_of_with_the_version(
    store: SessionStore, session: Session, observer: Observer
) -> None:
    await store.update_context(session.id, a=1)
    await store.update_preferences(session.id, a=1)
    await store.store_intermediate_result(session.id, "a", 1)
    await store.remove_context(session.id, "a")

    assert observer.seen == [
        ("session_updated", {"session_id": session.id, "version": version}) for version in (2, 3, 4, 5)
    ]


async def test_a_query_that_is_tracked_is_told_of_with_its_position(
    store: SessionStore, session: Session, observer: Observer
) -> None:
    query = price(parameters={"symbol": "AAPL"})
    await store.track_query(session.id, query)
    async with store.tracking(session.id, "news"):
        pass

    assert observer.seen[0] == ("query_tracked", {"session_id": session.id, "query": query.placed(1)})
    assert observer.seen[1][1]["query"] == (await store.get_queries(session.id))[1]


async def test_a_save_tells_of_all_that_it_did(store: SessionStore, session: Session, observer: Observer) -> None:
    queries = [price(), price(parameters={"n": 1})]
    await store.track_query(session.id, price())
    observer.seen.clear()
    for query in queries:
        session.add_query(query)
    session.state.context["k"] = 2
    session.extend(1)

    await store.save(session)

    assert observer.names() == ["query_tracked", "query_tracked", "session_updated", "session_extended"]
    assert [facts["query"] for _, facts in observer.seen[:2]] == [queries[0].placed(2), queries[1].placed(3)]
    assert observer.only("session_updated") == {"session_id": session.id, "version": 3}
    assert observer.only("session_extended") == {"id": session.id, "expires_at": session.expires_at}


@pytest.mark.parametrize(
    "change",
    [
        lambda session: session.tags.append("new"),
        lambda session: session.tags.clear(),
        lambda session: session.assets.append("IBM"),
        lambda session: setattr(session, "assets", ["IBM"]),
        lambda session: session.state.context.clear(),
        lambda session: session.state.metadata.update(k=1),
    ],
    ids=["tag added", "tag removed", "asset added", "asset replaced", "key removed", "key set"],
)
async def test_whatever_else_a_save_changes_is_an_update(
    change: Any, store: SessionStore, session: Session, observer: Observer
) -> None:
    change(session)

    await store.save(session)

    assert observer.names() == ["session_updated"]


async def test_a_save_or_touch_that_changes_nothing_to_speak_of_is_not_told(
    store: SessionStore, session: Session, observer: Observer, clock: ManualClock
) -> None:
    await store.save(session)
    await store.save(session, if_version=session.version)
    clock.advance(HOUR)
    await store.get_session(session.id, touch=True)

    assert observer.seen == []


async def test_an_extension_is_told_of_and_a_restoration_too(
    store: SessionStore, session: Session, observer: Observer
) -> None:
    await store.extend_session(session.id, 1)
    assert observer.names() == ["session_extended"]
    await store.archive_session(session.id)
    observer.seen.clear()

    restored = await store.extend_session(session.id, 1)

    assert observer.names() == ["session_extended", "session_restored"]
    assert observer.only("session_extended")["expires_at"] == restored.expires_at
    assert observer.only("session_restored") == {"id": session.id, "archived": False}


async def test_a_restoration_in_hand_is_told_of_too(store: SessionStore, session: Session, observer: Observer) -> None:
    await store.archive_session(session.id)
    loaded = await store.get_session(session.id)
    assert loaded is not None
    observer.seen.clear()
    loaded.extend(1)

    await store.save(loaded)

    assert observer.names() == ["session_extended", "session_restored"]


async def test_archiving_by_hand_is_told_of_with_summary_metrics_and_event(
    store: SessionStore, session: Session, observer: Observer, clock: ManualClock
) -> None:
    await store.track_query(session.id, price(execution_time_ms=5, cache_hit=True))
    observer.seen.clear()

    assert await store.archive_session(session.id)

    assert observer.names() == ["session_archived"]
    told, now = observer.only("session_archived"), await store.get_session(session.id)
    assert now is not None
    assert told["session"] == (await store.list_sessions()).items[0]
    assert told["session"].archived_at == clock()
    assert told["metrics"] == SessionMetrics.of(now)
    assert told["event_id"] == f"{session.id}.{now.version}.{now.head}"


async def test_a_sweep_tells_that_a_session_expired_and_that_it_is_archived(
    store: SessionStore, session: Session, observer: Observer, clock: ManualClock
) -> None:
    clock.advance(25 * HOUR)

    await store.cleanup_expired_sessions()

    assert observer.names() == ["session_expired", "session_archived"]
    expired, archived = observer.only("session_expired"), observer.only("session_archived")
    assert expired["session"] == archived["session"] == (await store.list_sessions()).items[0]
    assert expired["event_id"] == archived["event_id"]
    assert archived["metrics"].total_queries == 0


async def test_who_listens_only_for_what_expired_hears_that_alone(clock: ManualClock) -> None:
    seen: list[UUID] = []

    class OnlyExpired:
        @hookimpl
        def session_expired(self, session: SessionSummary) -> None:
            seen.append(session.id)

    async with opened(OnlyExpired(), clock=clock) as store:
        by_hand, swept = [await store.create_session(["A"], "equity", ttl_hours=1) for _ in range(2)]
        await store.archive_session(by_hand.id)
        clock.advance(2 * HOUR)
        await store.cleanup_expired_sessions()

    assert seen == [swept.id]


async def test_a_session_that_is_deleted_right_after_it_was_archived_is_not_told_of_as_archived(
    observer: Observer,
) -> None:
    class Deletes(FaultyBackend):
        async def read(self, session_id: UUID, *, history: int | None = None) -> None:
            await self.inner.delete(session_id, forget_at=ManualClock()())

    class Brings:
        @hookimpl
        def register_backends(self, backends: dict[str, Any]) -> None:
            backends["deletes"] = lambda url: Deletes(MemoryBackend())

    quiet = Settings(sweep_on_open=False, sweep_in_background=False)
    async with SessionStore.open("deletes://", plugins=[observer, Brings()], settings=quiet) as store:
        session = await store.create_session(["A"], "equity")

        assert await store.archive_session(session.id) is True

    assert observer.names() == ["session_created"]


async def test_without_analytics_there_are_no_metrics(observer: Observer) -> None:
    async with opened(observer, session_enable_analytics=False) as store:
        session = await store.create_session(["A"], "equity")
        await store.archive_session(session.id)

    assert observer.only("session_archived")["metrics"] is None


async def test_what_retention_removes_is_told_of_by_the_event_of_its_last_state_and_is_no_deletion(
    store: SessionStore, session: Session, observer: Observer, clock: ManualClock
) -> None:
    await store.archive_session(session.id)
    event_id = observer.only("session_archived")["event_id"]
    observer.seen.clear()
    clock.advance(31 * 24 * HOUR)

    await store.delete_old_archived_sessions()

    assert observer.seen == [("session_past_retention", {"session_id": session.id, "event_id": event_id})]


async def test_a_deletion_is_told_of_once(store: SessionStore, session: Session, observer: Observer) -> None:
    await store.delete_session(session.id)
    await store.delete_session(session.id)

    assert observer.seen == [("session_deleted", {"session_id": session.id})]


async def test_what_was_refused_is_not_told_of(
    store: SessionStore, session: Session, observer: Observer, clock: ManualClock
) -> None:
    await store.archive_session(session.id)
    observer.seen.clear()

    for call in (
        store.track_query(session.id, price()),
        store.update_context(session.id, k=1),
        store.create_session(["A"], "equity", session_id=session.id),
        store.create_session([], "equity"),
    ):
        with pytest.raises(Exception, match=r"archived|exists|empty"):
            await call
    assert await store.archive_session(session.id) is False

    assert observer.seen == []


@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AFTER])
async def test_what_a_save_wrote_is_told_of_once_however_often_it_had_to_be_made(
    moment: Moment, observer: Observer
) -> None:
    faulty = FaultyBackend(MemoryBackend(), [Fault(2, moment)])

    class Brings:
        @hookimpl
        def register_backends(self, backends: dict[str, Any]) -> None:
            backends["faulty"] = lambda url: faulty

    quiet = Settings(sweep_on_open=False, sweep_in_background=False)
    async with SessionStore.open("faulty://", plugins=[observer, Brings()], settings=quiet) as store:
        session = await store.create_session(["A"], "equity")
        observer.seen.clear()
        session.add_query(price())
        session.state.context["k"] = 1
        session.extend(1)
        with pytest.raises(Exception, match="a fault"):
            await store.save(session)
        assert observer.seen == []

        await store.save(session)
        await store.save(session)

    assert observer.names() == ["query_tracked", "session_updated", "session_extended"]
    assert observer.only("query_tracked")["query"].position == 1


async def test_what_was_written_is_told_of_even_if_the_save_failed_afterwards(observer: Observer) -> None:
    faulty = FaultyBackend(MemoryBackend())

    class Brings:
        @hookimpl
        def register_backends(self, backends: dict[str, Any]) -> None:
            backends["faulty"] = lambda url: faulty

    quiet = Settings(sweep_on_open=False, sweep_in_background=False)
    async with SessionStore.open("faulty://", plugins=[observer, Brings()], settings=quiet) as store:
        session = await store.create_session(["A"], "equity")
        await store.update_context(session.id, others=1)
        observer.seen.clear()
        session.add_query(price())
        faulty.faults = [Fault(1, Moment.BEFORE, "read")]

        with pytest.raises(Exception, match="a fault before read"):
            await store.save(session)

    assert observer.names() == ["query_tracked"]


# Order, and who disturbs whom --------------------------------------------------------------------------


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


def test_where_nobody_listens_a_hook_costs_no_microsecond() -> None:
    hooks = HookRelay(timeout_seconds=1)

    fastest_s = min(timeit.repeat(lambda: hooks.listens("query_tracked"), number=1_000, repeat=50)) / 1_000

    assert fastest_s < 1e-6


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


# prepare_query -----------------------------------------------------------------------------------------


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


class Leaves:
    @hookimpl
    def prepare_query(self) -> None:
        """Nothing to change."""


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


# Registering -------------------------------------------------------------------------------------------


class Misspelt:
    @hookimpl
    def sesion_created(self, session: Session) -> None:
        """There is no such hook."""


class WrongArguments:
    @hookimpl
    def session_created(self, sesion: Session) -> None:
        """There is no such argument."""


@pytest.mark.parametrize(
    ("plugin", "message"), [(Misspelt(), "sesion_created"), (WrongArguments(), "sesion")], ids=["name", "argument"]
)
def test_a_misspelt_hook_is_an_error_before_anything_is_opened(plugin: object, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        _ = opened(plugin)


def test_a_plugin_cannot_be_given_twice() -> None:
    plugin = Leaves()

    with pytest.raises(PluginError):
        _ = opened(plugin, plugin)


async def test_each_store_has_plugins_of_its_own(observer: Observer) -> None:
    async with opened(observer), opened() as other:
        await other.create_session(["A"], "equity")

    assert observer.seen == []


async def test_a_plugin_may_bring_a_backend() -> None:
    urls = []

    class Brings:
        @hookimpl
        def register_backends(self, backends: dict[str, Any]) -> None:
            def factory(url: str) -> MemoryBackend:
                urls.append(url)
                return MemoryBackend()

            backends["mine"] = factory

    async with SessionStore.open("mine://somewhere/x?y=1", plugins=[Brings()]) as store:
        session = await store.create_session(["A"], "equity")
        assert await store.get_session(session.id) == session

    assert urls == ["mine://somewhere/x?y=1"]


def test_a_plugin_that_fails_to_bring_backends_is_named() -> None:
    class BringsNone:
        @hookimpl
        def register_backends(self) -> None:
            raise RuntimeError("no licence")

    with pytest.raises(PluginError, match="BringsNone brings no backends: no licence"):
        _ = opened(BringsNone())


async def test_an_installed_plugin_is_found_and_called_after_those_given(
    monkeypatch: pytest.MonkeyPatch, observer: Observer
) -> None:
    install(monkeypatch, group="perdure.plugins", name="extra", value="tests.test_hooks:INSTALLED")
    INSTALLED.seen.clear()
    order: list[str] = []
    monkeypatch.setattr(INSTALLED, "note", lambda hook, **facts: order.append("installed"))
    monkeypatch.setattr(observer, "note", lambda hook, **facts: order.append("given"))

    async with opened(observer) as store:
        await store.create_session(["A"], "equity")

    assert order == ["given", "installed"]


@pytest.mark.parametrize("source", ["argument", "environment"])
async def test_plugins_that_the_settings_name_are_called_after_those_given_and_before_installed_ones(
    source: str, monkeypatch: pytest.MonkeyPatch, observer: Observer
) -> None:
    install(monkeypatch, group="perdure.plugins", name="extra", value="tests.test_hooks:INSTALLED")
    order: list[str] = []
    monkeypatch.setattr(INSTALLED, "note", lambda hook, **facts: order.append("installed"))
    monkeypatch.setattr(NAMED, "note", lambda hook, **facts: order.append("named"))
    monkeypatch.setattr(observer, "note", lambda hook, **facts: order.append("given"))
    names = ["tests.test_hooks:NAMED", "tests.test_hooks:Leaves"]
    given: dict[str, Any] = {"plugins": names} if source == "argument" else {}
    if source == "environment":
        monkeypatch.setenv("PERDURE_PLUGINS", ", ".join(names))

    async with opened(observer, **given) as store:
        await store.create_session(["A"], "equity")

        assert [plugin.name for plugin in store.plugins][2:] == ["Leaves", "extra"]
    assert order == ["given", "named", "installed"]


async def test_a_module_can_be_named_and_a_store_on_a_backend_in_hand_calls_it(
    monkeypatch: pytest.MonkeyPatch, observer: Observer
) -> None:
    module = ModuleType("auditing")
    module.session_created = observer.session_created  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "auditing", module)

    async with SessionStore(MemoryBackend(), settings=Settings(plugins=["auditing"])) as store:
        await store.create_session(["A"], "equity")

    assert observer.names() == ["session_created"]


@pytest.mark.parametrize(
    "name",
    ["no.such.module", "tests.test_hooks:nothing", "no identifier", "builtins:range"],
)
def test_a_plugin_that_the_settings_name_and_that_cannot_be_had_is_named(name: str) -> None:
    with pytest.raises(PluginError, match=name):
        _ = opened(plugins=[name])


@pytest.mark.parametrize("value", ["no.such.module:plugin", "tests.test_hooks:nothing", "tests.test_hooks:MISSPELT"])
def test_an_installed_plugin_that_cannot_be_loaded_is_an_error_at_start(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, group="perdure.plugins", name="extra", value=value)

    with pytest.raises(PluginError):
        _ = opened()


async def test_hooks_that_no_verb_calls_yet_reach_observers_all_the_same(observer: Observer) -> None:
    relay = HookRelay([observer], timeout_seconds=1)

    await relay.notify("tier_degraded", tier="hot", reason="no answer")
    await relay.notify("tier_recovered", tier="hot")

    assert observer.seen == [
        ("tier_degraded", {"tier": "hot", "reason": "no answer"}),
        ("tier_recovered", {"tier": "hot"}),
    ]


INSTALLED = Observer()
NAMED = Observer()
MISSPELT = Misspelt()
