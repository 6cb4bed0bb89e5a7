"""Archiving what has expired, deleting what is past its retention: on request, and by itself."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.store.stores import SpyingBackend, Stores, present, until

from perdure import QueryRecord, Session, SessionStore
from perdure.backends import Archived, ArchiveOutcome, Claimed, Deliver
from perdure.errors import BackendUnavailableError, InvalidInputError
from perdure.models import StoredSession
from perdure.testing import START, Fault, ManualClock, Moment

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
Logs = list[MutableMapping[str, Any]]


async def several(store: SessionStore, count: int, *, hours: float = 1) -> list[UUID]:
    return [(await store.create_session(["A"], "equity", ttl_hours=hours)).id for _ in range(count)]


async def archived(store: SessionStore) -> set[UUID]:
    return {summary.id for summary in await store.list_sessions(limit=1000) if summary.is_archived}


# Archiving ---------------------------------------------------------------------------------------------


async def test_everything_that_has_expired_is_archived_in_batches_and_nothing_else(
    stores: Stores, clock: ManualClock
) -> None:
    store, spy = await stores.spied(sweep_batch=2)
    due = await several(store, 5)
    await several(store, 2, hours=1.001)
    clock.advance(HOUR)
    spy.forget()
    seen: list[int] = []

    report = await store.cleanup_expired_sessions(progress=seen.append)

    assert (report.archived, report.skipped, report.failed) == (5, 0, {})
    assert await archived(store) == set(due)
    assert spy.calls.count("claim_expired") == 4
    assert seen == [2, 4, 5]
    session = present(await store.get_session(due[0]))
    assert (session.archived_at, session.expires_at) == (clock(), START + HOUR)


async def test_archived_sessions_keep_all_that_is_in_them(
    store: SessionStore, session: Session, clock: ManualClock
) -> None:
    await store.track_query(session.id, QueryRecord(query_type="price"))
    await store.update_context(session.id, k={"deep": 1})
    before = present(await store.get_session(session.id))
    clock.advance(DAY)

    await store.cleanup_expired_sessions()

    after = present(await store.get_session(session.id))
    changed = {"archived_at", "is_archived"}
    assert after.model_dump(exclude=changed) == before.model_dump(exclude=changed)
    assert after.is_archived


async def test_cleaning_up_again_finds_nothing(store: SessionStore, clock: ManualClock) -> None:
    await several(store, 3)
    clock.advance(HOUR)
    await store.cleanup_expired_sessions()

    report = await store.cleanup_expired_sessions()

    assert (report.archived, report.skipped, report.failed) == (0, 0, {})


async def test_a_limit_archives_the_longest_expired_first_and_no_more(store: SessionStore, clock: ManualClock) -> None:
    late = await several(store, 2, hours=3)
    early = await several(store, 2, hours=1)
    clock.advance(4 * HOUR)

    report = await store.cleanup_expired_sessions(3)

    assert report.archived == 3
    assert await archived(store) > set(early)
    assert (await store.cleanup_expired_sessions(limit=3)).archived == 1
    assert await archived(store) == {*early, *late}


@pytest.mark.parametrize("limit", [0, -1, 1.5, "3", True])
async def test_a_malformed_limit_is_refused(limit: Any, stores: Stores) -> None:
    store, spy = await stores.spied()

    with pytest.raises(InvalidInputError, match="limit must be a whole number from 1"):
        await store.cleanup_expired_sessions(limit)
    with pytest.raises(InvalidInputError, match="limit must be a whole number from 1"):
        await store.delete_old_archived_sessions(limit=limit)
    assert spy.calls == []


async def test_sweepers_at_the_same_time_archive_each_session_once(stores: Stores, clock: ManualClock) -> None:
    opened = [await stores.open(sweep_batch=3) for _ in range(3)]
    due = await several(opened[0], 20)
    clock.advance(HOUR)

    reports = await asyncio.gather(*(store.cleanup_expired_sessions() for store in opened))

    assert sum(report.archived for report in reports) == 20
    assert await archived(opened[0]) == set(due)


class Poisoned(SpyingBackend):
    """Cannot archive some sessions, nor read others."""

    def __init__(self, inner: Any, errors: dict[UUID, str], unreadable: dict[UUID, str] | None = None) -> None:
        super().__init__(inner)
        self.errors = errors
        self.unreadable = unreadable or {}

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        good = [session for session in sessions if session.id not in self.errors]
        report = iter(await super().archive(good, at=at, deliver=deliver))
        return [
            Archived(session.id, ArchiveOutcome.FAILED, self.errors[session.id])
            if session.id in self.errors
            else next(report)
            for session in sessions
        ]

    async def claim_expired(self, **how: Any) -> Claimed:
        claimed = await super().claim_expired(**how)
        unreadable, self.unreadable = self.unreadable, {}
        return Claimed(claimed.sessions, unreadable)


async def test_a_bad_record_is_reported_and_skipped_and_stops_no_other(
    stores: Stores, clock: ManualClock, logs: Logs
) -> None:
    due = await several(await stores.open(), 6)
    lost = uuid4()
    errors = {due[1]: "row 7 is damaged", due[3]: "no text"}
    store = await stores.open(Poisoned(stores.backend(), errors, {lost: "no UUID"}), sweep_batch=2)
    clock.advance(HOUR)

    report = await store.cleanup_expired_sessions()

    assert (report.archived, report.stopped) == (4, False)
    assert report.failed == {lost: "no UUID", **errors}
    assert await archived(store) == {due[0], due[2], due[4], due[5]}
    assert {entry["session_id"] for entry in logs if entry["event"] == "session.not_archived"} == {
        str(session_id) for session_id in report.failed
    }


async def test_a_sweep_stops_where_nothing_can_be_archived_and_says_what_was_left(
    stores: Stores, clock: ManualClock
) -> None:
    due = await several(await stores.open(), 12)
    store, spy = await stores.spied(sweep_batch=2)
    spy.fail(Fault(2, Moment.BEFORE, "archive"))
    clock.advance(HOUR)

    report = await store.cleanup_expired_sessions()

    assert report.stopped
    assert set(report.failed) < set(due)
    assert [reason for reason in report.failed.values() if "a fault before archive" not in reason] == []
    assert len(report.failed) == 2
    assert spy.calls.count("archive") <= 3  # the one that failed, the one before, and one that was on its way
    clock.advance(HOUR)
    assert report.archived + (await store.cleanup_expired_sessions()).archived == 12


async def test_a_sweep_makes_one_batch_ready_while_another_is_archived(stores: Stores, clock: ManualClock) -> None:
    await several(await stores.open(), 6)
    both_are_under_way = asyncio.Barrier(2)

    class Meeting(SpyingBackend):
        async def archive(self, sessions: Sequence[StoredSession], **how: Any) -> list[Archived]:
            if self.calls.count("archive") < 2:
                async with asyncio.timeout(10):
                    await both_are_under_way.wait()
            return await super().archive(sessions, **how)

    store = await stores.open(Meeting(stores.backend()), sweep_batch=3)
    clock.advance(HOUR)

    assert (await store.cleanup_expired_sessions()).archived == 6


async def test_a_sweep_that_cannot_claim_any_more_ends_what_it_has_begun_before_it_says_so(
    stores: Stores, clock: ManualClock
) -> None:
    await several(await stores.open(), 6)
    ended = list[UUID]()

    class Failing(SpyingBackend):
        async def claim_expired(self, **how: Any) -> Claimed:
            if self.calls.count("claim_expired") == 2:
                raise BackendUnavailableError(self.name, "gone")
            return await super().claim_expired(**how)

        async def archive(self, sessions: Sequence[StoredSession], **how: Any) -> list[Archived]:
            is_second = self.calls.count("archive") == 1
            report = await super().archive(sessions, **how)
            if is_second:
                await asyncio.sleep(0.05)
                ended.append(sessions[0].id)
            return report

    store = await stores.open(Failing(stores.backend()), sweep_batch=2)
    clock.advance(HOUR)

    with pytest.raises(BackendUnavailableError, match="gone"):
        await store.cleanup_expired_sessions()

    assert len(ended) == 1


async def test_a_record_that_could_not_be_archived_is_tried_again_when_its_lease_is_over(
    stores: Stores, clock: ManualClock
) -> None:
    due = await several(await stores.open(), 1)
    backend = Poisoned(stores.backend(), {due[0]: "row 7 is damaged"})
    store = await stores.open(backend, sweep_lease_seconds=30)
    clock.advance(HOUR)
    assert list((await store.cleanup_expired_sessions()).failed) == due
    backend.errors = {}

    clock.advance(timedelta(seconds=29))
    assert (await store.cleanup_expired_sessions()).archived == 0
    clock.advance(timedelta(seconds=1))
    assert (await store.cleanup_expired_sessions()).archived == 1


async def test_a_session_that_is_extended_deleted_or_archived_after_it_was_claimed_is_skipped(
    stores: Stores, clock: ManualClock
) -> None:
    other = await stores.open()

    class Meanwhile(SpyingBackend):
        async def claim_expired(self, **how: Any) -> Claimed:
            claimed = await super().claim_expired(**how)
            if claimed.sessions:
                await other.extend_session(due[0], 2)
                await other.delete_session(due[1])
                await other.archive_session(due[2])
            return claimed

    due = await several(other, 4)
    store = await stores.open(Meanwhile(stores.backend()))
    clock.advance(HOUR)

    report = await store.cleanup_expired_sessions()

    assert (report.archived, report.skipped, report.failed) == (1, 3, {})
    assert await archived(store) == {due[2], due[3]}
    assert present(await store.get_session(due[0])).expires_at == clock() + 2 * HOUR
    clock.advance(2 * HOUR)
    assert (await other.cleanup_expired_sessions()).archived == 1  # the lease of the claim gave it no second life


async def test_a_sweep_that_is_cancelled_leaves_the_rest_to_the_next(stores: Stores, clock: ManualClock) -> None:
    store, spy = await stores.spied()
    due = await several(store, 3)
    clock.advance(HOUR)
    spy.fail(Fault(1, Moment.CANCEL_BEFORE, "archive"))

    with pytest.raises(asyncio.CancelledError):
        await store.cleanup_expired_sessions()
    spy.fail()
    clock.advance(HOUR)
    await store.cleanup_expired_sessions()

    assert await archived(store) == set(due)


# Retention ---------------------------------------------------------------------------------------------


async def archived_days_ago(store: SessionStore, clock: ManualClock, *days: float) -> list[UUID]:
    """Sessions archived that many days before the present, which moves for it."""
    ids, end = [], clock() + max(days) * DAY
    for each in days:
        clock.set(end - each * DAY)
        (session_id,) = await several(store, 1)
        await store.archive_session(session_id)
        ids.append(session_id)
    clock.set(end)
    return ids


async def test_what_was_archived_longer_ago_than_the_retention_is_deleted(
    store: SessionStore, clock: ManualClock
) -> None:
    ids = await archived_days_ago(store, clock, 40, 31, 30, 1)
    (active,) = await several(store, 1)

    report = await store.delete_old_archived_sessions()

    assert report.session_ids == ids[:2]
    assert (report.deleted, report.cutoff, report.dry_run) == (2, clock() - 30 * DAY, False)
    assert {summary.id for summary in await store.list_sessions()} == {*ids[2:], active}
    assert (await store.delete_old_archived_sessions()).deleted == 0


async def test_a_dry_run_says_what_would_go_and_deletes_nothing(stores: Stores, clock: ManualClock) -> None:
    store, spy = await stores.spied()
    ids = await archived_days_ago(store, clock, 40, 35, 1)
    spy.forget()

    report = await store.delete_old_archived_sessions(dry_run=True)

    assert (report.session_ids, report.deleted, report.dry_run) == (ids[:2], 0, True)
    assert spy.calls == ["purge"]
    assert len(await store.list_sessions()) == 3
    assert (await store.delete_old_archived_sessions()).session_ids == report.session_ids


@pytest.mark.parametrize(("days", "expected"), [(0, 3), (0.5, 2), (2, 1), (1000, 0), (36_525, 0)])
async def test_the_retention_can_be_given(days: float, expected: int, store: SessionStore, clock: ManualClock) -> None:
    await archived_days_ago(store, clock, 3, 1, 0.01)

    assert len((await store.delete_old_archived_sessions(days, True)).session_ids) == expected
    assert (await store.delete_old_archived_sessions(retention_days=days)).deleted == expected


async def test_the_retention_comes_from_the_settings(stores: Stores, clock: ManualClock) -> None:
    store = await stores.open(session_retention_days=2)
    await archived_days_ago(store, clock, 3, 1)

    assert (await store.delete_old_archived_sessions()).deleted == 1


@pytest.mark.parametrize("days", [-1, float("nan"), float("inf"), 36_526, 1e6, "30", True])
async def test_a_malformed_retention_is_refused(days: Any, stores: Stores) -> None:
    store, spy = await stores.spied()

    with pytest.raises(InvalidInputError, match="retention_days must be a number from 0 to 36,525"):
        await store.delete_old_archived_sessions(days)
    assert spy.calls == []


async def test_retention_with_a_limit_takes_the_longest_archived_first(
    stores: Stores, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.store.maintenance.PURGE_BATCH", 2)
    store, spy = await stores.spied()
    ids = await archived_days_ago(store, clock, 39, 38, 37, 36, 35, 34)
    spy.forget()
    seen: list[int] = []

    assert (await store.delete_old_archived_sessions(dry_run=True, limit=3)).session_ids == ids[:3]
    report = await store.delete_old_archived_sessions(limit=3, progress=seen.append)

    assert report.session_ids == ids[:3]
    assert seen == [2, 3]
    assert (await store.delete_old_archived_sessions()).session_ids == ids[3:]
    assert spy.calls == ["purge"] * 5


# By itself ---------------------------------------------------------------------------------------------


async def at_rest(store: SessionStore) -> None:
    """Let the round of maintenance that opening began come to its end."""
    round_ = store._maintenance._in_round
    await asyncio.sleep(0)
    async with round_:
        pass


async def test_a_store_that_is_opened_when_a_sweep_is_overdue_sweeps(stores: Stores, clock: ManualClock) -> None:
    due = await several(await stores.open(), 3)
    clock.advance(HOUR)

    store = await stores.open(sweep_on_open=True)
    await at_rest(store)

    assert await archived(store) == set(due)
    assert (await store.health()).tiers["store"].last_swept_at == clock()


async def test_a_second_store_does_not_sweep_again_before_the_interval_is_over(
    stores: Stores, clock: ManualClock
) -> None:
    first = await stores.open(sweep_on_open=True)
    await at_rest(first)
    await several(first, 1, hours=0.5)
    clock.advance(timedelta(minutes=59))

    second = await stores.open(sweep_on_open=True)
    await at_rest(second)
    assert await archived(second) == set()
    clock.advance(timedelta(minutes=1))
    third = await stores.open(sweep_on_open=True)
    await at_rest(third)

    assert len(await archived(third)) == 1


async def test_of_many_that_open_together_one_sweeps(stores: Stores, clock: ManualClock) -> None:
    await several(await stores.open(), 1)
    clock.advance(HOUR)
    opened = [await stores.spied(sweep_on_open=True) for _ in range(5)]

    for store, _ in opened:
        await at_rest(store)

    assert sorted(spy.calls.count("claim_expired") > 0 for _, spy in opened) == [False] * 4 + [True]


async def test_a_sweep_by_hand_counts_as_one(stores: Stores, clock: ManualClock) -> None:
    await (await stores.open()).cleanup_expired_sessions()

    store, spy = await stores.spied(sweep_on_open=True)
    await at_rest(store)

    assert spy.calls == ["start_sweep"]


async def test_maintenance_also_deletes_what_is_past_its_retention(stores: Stores, clock: ManualClock) -> None:
    await archived_days_ago(await stores.open(), clock, 31)

    store = await stores.open(sweep_on_open=True)
    await at_rest(store)

    assert len(await store.list_sessions()) == 0


async def test_both_switches_off_mean_that_nothing_happens_by_itself(stores: Stores, clock: ManualClock) -> None:
    await several(await stores.open(), 1)
    clock.advance(HOUR)

    store, spy = await stores.spied(sweep_on_open=False, sweep_in_background=False)
    for _ in range(10):
        await asyncio.sleep(0)

    assert spy.calls == []
    assert store._maintenance._task is None


SOON = 1e-4 / 60  # minutes: a tenth of a millisecond


async def test_an_open_store_sweeps_whenever_the_interval_is_over(stores: Stores, clock: ManualClock) -> None:
    store, spy = await stores.spied(sweep_in_background=True, session_cleanup_interval_minutes=SOON)
    await until(lambda: spy.calls.count("start_sweep") >= 2)
    (first,) = await several(store, 1)

    clock.advance(HOUR)
    await until(lambda: spy.calls.count("purge") >= 2)
    assert await archived(store) == {first}
    (second,) = await several(store, 1)
    clock.advance(HOUR)
    await until(lambda: spy.calls.count("purge") >= 3)

    assert await archived(store) == {first, second}


async def test_processes_that_started_together_do_not_all_sweep_at_once(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause is the interval, give or take a twentieth; here it is next to nothing of an hour."""
    bounds = set[tuple[float, float]]()

    def next_to_nothing(low: float, high: float) -> float:
        bounds.add((low, high))
        return 1e-9

    monkeypatch.setattr("perdure.store.maintenance.random.uniform", next_to_nothing)
    _, spy = await stores.spied(sweep_in_background=True, session_cleanup_interval_minutes=60)

    await until(lambda: spy.calls.count("start_sweep") >= 2)

    assert bounds == {(0.95, 1.05)}


async def test_two_open_stores_share_the_sweeping(stores: Stores, clock: ManualClock) -> None:
    opened = [await stores.spied(sweep_in_background=True, session_cleanup_interval_minutes=SOON) for _ in range(2)]
    await until(lambda: all(spy.calls.count("start_sweep") >= 3 for _, spy in opened))

    assert sum(spy.calls.count("purge") for _, spy in opened) == 1  # the clock stands still


@pytest.mark.parametrize("failure", [BackendUnavailableError("memory", "gone"), RuntimeError("swordfish")])
async def test_a_backend_that_fails_does_not_end_the_maintenance(
    failure: Exception, stores: Stores, clock: ManualClock, logs: Logs
) -> None:
    class Failing(SpyingBackend):
        async def start_sweep(self, *, now: datetime, interval: timedelta) -> bool:
            self.calls.append("start_sweep")
            if self.calls.count("start_sweep") <= 3:
                raise failure
            return await self.inner.start_sweep(now=now, interval=interval)

    spy = Failing(stores.backend())
    store = await stores.open(spy, sweep_on_open=True, sweep_in_background=True, session_cleanup_interval_minutes=SOON)
    due = await several(store, 1)
    clock.advance(HOUR)

    await until(lambda: "purge" in spy.calls)

    assert await archived(store) == set(due)
    failures = [entry for entry in logs if entry["event"] == "maintenance.failed"]
    assert len(failures) == 3
    assert "swordfish" not in repr(failures)


async def test_closing_ends_the_maintenance(stores: Stores) -> None:
    store, spy = await stores.spied(sweep_in_background=True, session_cleanup_interval_minutes=SOON)
    await until(lambda: len(spy.calls) >= 1)

    await store.aclose()
    spy.forget()
    await asyncio.sleep(0.005)

    assert spy.calls == []
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_closing_lets_a_round_that_has_begun_finish(stores: Stores, clock: ManualClock) -> None:
    due = await several(await stores.open(), 3)
    clock.advance(HOUR)
    store, spy = await stores.spied(sweep_on_open=True, sweep_in_background=True)
    spy.gate.clear()
    await spy.arrived.wait()
    closing = asyncio.create_task(store.aclose())
    await asyncio.sleep(0)
    spy.gate.set()

    async with asyncio.timeout(4):
        await closing

    assert await archived(await stores.open()) == set(due)


async def test_closing_does_not_wait_for_ever_for_a_round_that_hangs(
    stores: Stores, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.store.maintenance.CLOSING_PATIENCE_S", 0.01)
    await several(await stores.open(), 1)
    clock.advance(HOUR)
    store, spy = await stores.spied(sweep_on_open=True)
    spy.gate.clear()
    await spy.arrived.wait()

    async with asyncio.timeout(5):
        await store.aclose()
    spy.gate.set()


async def test_closing_that_is_cancelled_ends_the_round_and_can_be_done_again(
    stores: Stores, clock: ManualClock
) -> None:
    await several(await stores.open(), 1)
    clock.advance(HOUR)
    store, spy = await stores.spied(sweep_on_open=True)
    spy.gate.clear()
    await spy.arrived.wait()

    closing = asyncio.create_task(store.aclose())
    for _ in range(5):
        await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await store.aclose()

    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_entering_a_store_that_was_awaited_begins_no_second_maintenance(stores: Stores) -> None:
    store = await stores.open(sweep_on_open=True, sweep_in_background=True)
    await at_rest(store)

    async with store:
        pass

    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_the_health_of_a_store_says_when_it_was_swept_and_what_is_due(
    store: SessionStore, clock: ManualClock
) -> None:
    await several(store, 3)
    clock.advance(HOUR)

    before = await store.health()
    await store.cleanup_expired_sessions()
    after = await store.health()

    assert before.ok
    assert after.ok
    assert (before.tiers["store"].due, after.tiers["store"].due) == (3, 0)
    assert (before.tiers["store"].last_swept_at, after.tiers["store"].last_swept_at) == (None, clock())
    assert after.tiers["store"].latency_ms >= 0
    await store.aclose()
    closed = await store.health()
    assert not closed.ok
    assert "not open" in present(closed.tiers["store"].error)
