"""What plugins are entered around, that they can neither break nor hide anything, and that nobody pays who has none."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs
from tests.store.stores import Brings

from perdure import QueryRecord, SessionStore, Settings, hookimpl
from perdure import sync as blocking
from perdure.backends import ForwardingBackend, MemoryBackend, MemoryData, ObservedBackend
from perdure.changes import Applied, SessionChange
from perdure.errors import InvalidInputError, SessionNotFoundError
from perdure.store import UserSessions
from perdure.testing import BackendConformance, Fault, FaultyBackend, Moment, OpenBackend

QUIET = Settings(sweep_on_open=False, sweep_in_background=False)

verb_now: ContextVar[str] = ContextVar("verb_now", default="")


class Watcher:
    """Notes what it is entered around, in which order, and with which verb around it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []
        self.ids: list[UUID | None] = []

    @hookimpl
    def around_verb(self, verb: str, session_id: UUID | None) -> AbstractContextManager[object]:
        @contextmanager
        def noted() -> Iterator[None]:
            self.ids.append(session_id)
            self.seen.append(("enter", verb))
            token = verb_now.set(f"{verb} {session_id}")
            try:
                yield
            except BaseException as error:
                self.seen.append(("raise", verb, type(error).__name__))
                raise
            else:
                self.seen.append(("leave", verb))
            finally:
                verb_now.reset(token)

        return noted()

    @hookimpl
    def around_tier_call(self, tier: str, backend: str, operation: str) -> AbstractContextManager[object]:
        @contextmanager
        def noted() -> Iterator[None]:
            self.seen.append((tier, backend, operation, verb_now.get().partition(" ")[0]))
            yield

        return noted()


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
async def store(watcher: Watcher) -> AsyncIterator[SessionStore]:
    async with SessionStore.open("memory://", settings=QUIET, plugins=[watcher]) as store:
        yield store


def price() -> QueryRecord:
    return QueryRecord(query_type="price")


# Verbs and tiers ---------------------------------------------------------------------------------------


async def test_a_verb_is_entered_around_with_its_tier_calls_inside(store: SessionStore, watcher: Watcher) -> None:
    session = await store.create_session(["A"], "equity")
    await store.track_query(str(session.id), price())

    assert watcher.seen == [
        ("enter", "create_session"),
        ("store", "memory", "create", "create_session"),
        ("leave", "create_session"),
        ("enter", "track_query"),
        ("store", "memory", "apply", "track_query"),
        ("leave", "track_query"),
    ]
    assert watcher.ids == [None, session.id]


async def test_every_verb_is_watched_and_says_which_session_it_is_about(store: SessionStore, watcher: Watcher) -> None:
    session = await store.create_session(["A"], "equity", session_id=UUID(int=7))
    ann = store.for_user("ann")
    calls: list[tuple[str, Any, bool]] = [
        ("get_session", store.get_session(session.id, history=0), True),
        ("update_session", store.update_session(session.id, session), True),
        ("save", store.save(session), True),
        ("ensure_active", store.ensure_active(session.id), True),
        ("track_query", store.track_query(session_id=session.id, query=price()), True),
        ("update_context", store.update_context(session.id, k=1), True),
        ("update_preferences", store.update_preferences(session.id, k=1), True),
        ("store_intermediate_result", store.store_intermediate_result(session.id, "k", 1), True),
        ("remove_context", store.remove_context(session.id, "k"), True),
        ("get_queries", store.get_queries(session.id), True),
        ("list_sessions", store.list_sessions(), False),
        ("list_user_sessions", ann.list_user_sessions("ann"), False),
        ("extend_session", store.extend_session(session.id, 1), True),
        ("archive_session", store.archive_session(session.id), True),
        ("delete_session", store.delete_session(session.id), True),
        ("cleanup_expired_sessions", store.cleanup_expired_sessions(), False),
        ("delete_old_archived_sessions", store.delete_old_archived_sessions(), False),
        ("health", store.health(), False),
        ("get_totals", store.get_totals(), False),
        ("measure", store.measure(), False),
        ("record_metrics", store.record_metrics(session), True),
        ("generate_session_metrics", store.generate_session_metrics(), False),
        ("import_sessions", store.import_sessions([]), False),
    ]
    assert watcher.ids == [UUID(int=7)]
    verbs = {name for name, verb in inspect.getmembers(SessionStore, inspect.iscoroutinefunction) if name[0] != "_"}
    assert {name for name, _, _ in calls} == verbs - {"create_session", "aclose"}

    for name, call, about_it in calls:
        watcher.seen.clear()
        watcher.ids.clear()
        await call
        assert watcher.seen[0] == ("enter", name)
        assert watcher.seen[-1] == ("leave", name)
        assert watcher.ids[0] == (session.id if about_it else None)


async def test_a_watched_verb_keeps_its_signature_and_refuses_what_it_refused(store: SessionStore) -> None:
    assert inspect.signature(store.get_session) == inspect.signature(UserSessions(store._core).get_session)
    with pytest.raises(InvalidInputError):
        await store.get_session("no id at all")
    with pytest.raises(TypeError):
        await store.get_session()  # type: ignore[call-arg]


async def test_a_user_who_is_called_like_a_session_is_not_taken_for_one(store: SessionStore, watcher: Watcher) -> None:
    await store.list_user_sessions(str(UUID(int=7)))

    assert watcher.ids == [None, None]  # the listing of all is called by that of a user


async def test_what_a_verb_raises_is_told_and_goes_on(store: SessionStore, watcher: Watcher) -> None:
    with pytest.raises(SessionNotFoundError):
        await store.track_query(UUID(int=1), price())

    assert watcher.seen[-1] == ("raise", "track_query", "SessionNotFoundError")


async def test_being_cancelled_is_told_too(watcher: Watcher) -> None:
    async with SessionStore.open(
        "held://",
        settings=QUIET,
        plugins=[watcher, Brings(FaultyBackend(MemoryBackend(), [Fault(1, Moment.CANCEL_BEFORE)]))],
    ) as store:
        with pytest.raises(asyncio.CancelledError):
            await store.get_session(UUID(int=1))

    assert watcher.seen[-1] == ("raise", "get_session", "CancelledError")


async def test_a_block_that_is_tracked_is_watched_with_its_recording(store: SessionStore, watcher: Watcher) -> None:
    session = await store.create_session(["A"], "equity")
    watcher.seen.clear()

    async with store.tracking(session.id, "price"):
        assert verb_now.get() == f"tracking {session.id}"
    with pytest.raises(KeyError):
        async with store.tracking(session.id, "price"):
            raise KeyError("x")

    tier_call = ("store", "memory", "apply", "tracking")
    assert watcher.seen == [
        ("enter", "tracking"),
        tier_call,
        ("leave", "tracking"),
        ("enter", "tracking"),
        tier_call,
        ("raise", "tracking", "KeyError"),
    ]


async def test_a_block_whose_recording_is_cancelled_is_left_all_the_same(watcher: Watcher) -> None:
    held = asyncio.Event()

    class Holds(ForwardingBackend):
        async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
            held.set()
            await asyncio.sleep(0.01)
            return await self.inner.apply(session_id, change)

    async with SessionStore.open("held://", settings=QUIET, plugins=[watcher, Brings(Holds(MemoryBackend()))]) as store:
        session = await store.create_session(["A"], "equity")

        async def work() -> None:
            async with store.tracking(session.id, "price"):
                pass

        task = asyncio.create_task(work())
        await held.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(await store.get_queries(session.id)) == 1

    assert ("raise", "tracking", "CancelledError") in watcher.seen


def test_threads_are_watched_in_their_own_context(watcher: Watcher) -> None:
    with blocking.SessionStore.open("memory://", settings=QUIET, plugins=[watcher]) as store:
        session = store.create_session(["A"], "equity")
        watcher.seen.clear()
        with store.tracking(session.id, "price"):
            assert verb_now.get() == f"tracking {session.id}"
            store.update_context(session.id, k=1)
        assert verb_now.get() == ""

    assert watcher.seen == [
        ("enter", "tracking"),
        ("enter", "update_context"),
        ("store", "memory", "apply", "update_context"),
        ("leave", "update_context"),
        ("store", "memory", "apply", "tracking"),
        ("leave", "tracking"),
    ]


async def test_what_waits_is_sent_in_the_context_of_who_waited_longest() -> None:
    began, go_on, seen = asyncio.Event(), asyncio.Event(), list[tuple[str, int]]()

    class Holds(ForwardingBackend):
        async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
            seen.append((caller.get(), len(change.queries)))
            began.set()
            await go_on.wait()
            return await self.inner.apply(session_id, change)

    caller: ContextVar[str] = ContextVar("caller")

    async with SessionStore.open(
        "held://", settings=QUIET, plugins=[Watcher(), Brings(Holds(MemoryBackend()))]
    ) as store:
        session = await store.create_session(["A"], "equity")

        async def track(name: str) -> None:
            caller.set(name)
            await store.track_query(session.id, price())

        async with asyncio.TaskGroup() as group:
            group.create_task(track("first"))
            await began.wait()
            for name in ("second", "third"):
                group.create_task(track(name))
                await asyncio.sleep(0)
            go_on.set()

    assert seen == [("first", 1), ("second", 2)]


# Disturbing nobody -------------------------------------------------------------------------------------


class RaisesEarly:
    @hookimpl
    def around_verb(self) -> AbstractContextManager[object]:
        raise RuntimeError("swordfish")


class RaisesOnEntering:
    def broken(self) -> Iterator[None]:
        raise RuntimeError("swordfish")

    @hookimpl
    def around_tier_call(self) -> AbstractContextManager[object]:
        @contextmanager
        def broken() -> Iterator[None]:
            yield from self.broken()

        return broken()


class RaisesOnLeaving:
    @hookimpl
    def around_verb(self) -> AbstractContextManager[object]:
        @contextmanager
        def broken() -> Iterator[None]:
            try:
                yield
            finally:
                raise RuntimeError("swordfish")

        return broken()


class Swallows:
    @hookimpl
    def around_verb(self) -> AbstractContextManager[object]:
        @contextmanager
        def quiet() -> Iterator[None]:
            with suppress(SessionNotFoundError):
                yield

        return quiet()


class GivesNone:
    @hookimpl
    def around_verb(self) -> None:
        """Not interested in this one."""


class Raises:
    @hookimpl
    async def session_created(self) -> None:
        raise ValueError


class Counts:
    def __init__(self) -> None:
        self.failed: list[tuple[str, str, str]] = []

    @hookimpl
    def hook_failed(self, hook: str, plugin: str, error: str) -> None:
        self.failed.append((hook, plugin, error))


class FailsToCount:
    @hookimpl
    def hook_failed(self) -> None:
        raise RuntimeError("swordfish")


async def test_a_watcher_that_fails_is_said_by_name_and_disturbs_neither_verb_nor_others(watcher: Watcher) -> None:
    counts = Counts()
    plugins = [RaisesEarly(), RaisesOnEntering(), RaisesOnLeaving(), GivesNone(), FailsToCount(), counts, watcher]
    with capture_logs() as logs:
        async with SessionStore.open("memory://", settings=QUIET, plugins=plugins) as store:
            await store.create_session(["A"], "equity")

    assert [entry[:2] for entry in watcher.seen] == [
        ("enter", "create_session"),
        ("store", "memory"),
        ("leave", "create_session"),
    ]
    assert counts.failed == [
        ("around_verb", "RaisesEarly", "RuntimeError"),
        ("around_tier_call", "RaisesOnEntering", "RuntimeError"),
        ("around_verb", "RaisesOnLeaving", "RuntimeError"),
    ]
    failures = [(entry["hook"], entry["plugin"]) for entry in logs if entry["event"] == "hook.failed"]
    assert [failure for failure in failures if failure[0] != "hook_failed"] == [failed[:2] for failed in counts.failed]
    assert failures.count(("hook_failed", "FailsToCount")) == 3
    assert "swordfish" not in repr(logs)


async def test_no_watcher_can_hold_back_what_a_verb_raises() -> None:
    async with SessionStore.open("memory://", settings=QUIET, plugins=[Swallows()]) as store:
        with pytest.raises(SessionNotFoundError):
            await store.track_query(UUID(int=1), price())
        async with store.tracking(UUID(int=1), "price") as query:
            pass
        assert isinstance(query.failure, SessionNotFoundError)


class RaisesItOn:
    """Written by hand: it lets an exception go on by raising it."""

    @hookimpl
    def around_verb(self) -> RaisesItOn:
        return self

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            raise error


async def test_a_watcher_that_raises_on_what_it_was_told_has_not_failed() -> None:
    counts = Counts()
    async with SessionStore.open("memory://", settings=QUIET, plugins=[counts, RaisesItOn()]) as store:
        with pytest.raises(SessionNotFoundError):
            await store.track_query(UUID(int=1), price())

    assert counts.failed == []


async def test_observers_that_fail_are_counted_too() -> None:
    counts = Counts()
    async with SessionStore.open("memory://", settings=QUIET, plugins=[counts, Raises()]) as store:
        await store.create_session(["A"], "equity")

    assert counts.failed == [("session_created", "Raises", "ValueError")]


# Stores ------------------------------------------------------------------------------------------------


async def test_a_plugin_is_told_once_of_a_store_and_may_use_it() -> None:
    told: list[tuple[str, int]] = []

    class Looks:
        @hookimpl
        async def store_opened(self, store: SessionStore) -> None:
            await store.create_session(["A"], "equity")
            told.append(("opened", (await store.get_totals()).sessions))

        @hookimpl
        async def store_closing(self, store: SessionStore) -> None:
            told.append(("closing", (await store.get_totals()).sessions))

    store = await SessionStore.open("memory://", settings=QUIET, plugins=[Looks()])
    await store.aclose()
    await store.aclose()
    await SessionStore.open("memory://", settings=QUIET, plugins=[Looks()]).aclose()

    assert told == [("opened", 1), ("closing", 1)]


# Costing nothing ---------------------------------------------------------------------------------------


async def test_where_nobody_watches_nothing_is_put_in_between() -> None:
    async with SessionStore.open("memory://", settings=QUIET, plugins=[Counts()]) as store:
        assert vars(store).keys() == {"_core", "_owner", "_maintenance", "_told_of_opening"}
        assert type(store._core.backend) is MemoryBackend
        assert type(store.for_user("ann").get_session).__name__ == "method"


class TestObservedBackend(BackendConformance):
    """To the store, a backend that is watched is the backend."""

    @pytest.fixture
    def open_backend(self) -> OpenBackend:
        data, calls = MemoryData(), list[str]()

        @contextmanager
        def noted(tier: str, backend: str, operation: str) -> Iterator[None]:
            calls.append(operation)
            yield

        async def open_backend() -> ObservedBackend:
            backend = ObservedBackend(MemoryBackend(data), noted, tier="store")
            await backend.open()
            return backend

        return open_backend
