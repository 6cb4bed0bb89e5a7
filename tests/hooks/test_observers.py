"""What observers are told, and when."""

from __future__ import annotations

import inspect
from typing import Any
from uuid import UUID

import pytest
from tests.hooks.observers import HOUR, Observer, opened, price
from tests.store.stores import Brings

from perdure import Session, SessionMetrics, SessionStore, SessionSummary, Settings, hookimpl, hookspecs
from perdure.backends import MemoryBackend
from perdure.store.hooks import HookRelay
from perdure.testing import Fault, FaultyBackend, ManualClock, Moment

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


def test_every_hook_is_specified_in_one_sentence() -> None:
    specs = {name: spec for name, spec in vars(hookspecs).items() if inspect.isfunction(spec)}

    assert specs.keys() == SPECS
    for spec in specs.values():
        text = inspect.getdoc(spec)
        assert text is not None
        assert text.count("\n") == 0


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

    quiet = Settings(sweep_on_open=False, sweep_in_background=False)
    async with SessionStore.open(
        "held://", plugins=[observer, Brings(Deletes(MemoryBackend()))], settings=quiet
    ) as store:
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

    quiet = Settings(sweep_on_open=False, sweep_in_background=False)
    async with SessionStore.open("held://", plugins=[observer, Brings(faulty)], settings=quiet) as store:
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

    quiet = Settings(sweep_on_open=False, sweep_in_background=False)
    async with SessionStore.open("held://", plugins=[observer, Brings(faulty)], settings=quiet) as store:
        session = await store.create_session(["A"], "equity")
        await store.update_context(session.id, others=1)
        observer.seen.clear()
        session.add_query(price())
        faulty.faults = [Fault(1, Moment.BEFORE, "read")]

        with pytest.raises(Exception, match="a fault before read"):
            await store.save(session)

    assert observer.names() == ["query_tracked"]


async def test_what_is_told_of_tiers_reaches_observers(observer: Observer) -> None:
    relay = HookRelay([observer], timeout_seconds=1)

    await relay.notify("tier_degraded", tier="hot", reason="no answer")
    await relay.notify("tier_recovered", tier="hot")

    assert observer.seen == [
        ("tier_degraded", {"tier": "hot", "reason": "no answer"}),
        ("tier_recovered", {"tier": "hot"}),
    ]
