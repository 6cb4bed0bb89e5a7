"""What retention tells, and that it removes nothing that it has not told of; SIGKILL: `test_kills_while_telling`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.backends.tiered.pairs import Pair
from tests.store.stores import SpyingBackend, Stores, present

from perdure import SessionStore, hookimpl
from perdure.backends import Copy, Purged, Tombstone
from perdure.testing import Fault, ManualClock, Moment
from perdure.testing.conformance.steps import EXPIRY

DAY = timedelta(days=1)


class Told:
    """A plugin that keeps what it is told, and can do something in the hook."""

    def __init__(self, meanwhile: Callable[[UUID], Awaitable[object]] | None = None) -> None:
        self.events: list[str] = []
        self.ids: list[UUID] = []
        self.meanwhile = meanwhile

    @hookimpl
    async def session_past_retention(self, session_id: UUID, event_id: str) -> None:
        self.events.append(event_id)
        self.ids.append(session_id)
        if self.meanwhile is not None:
            await self.meanwhile(session_id)


async def past_retention(store: SessionStore, clock: ManualClock, count: int) -> list[UUID]:
    """Sessions whose retention is over, the longest archived first."""
    ids = []
    for _ in range(count):
        session = await store.create_session(["A"], "equity")
        await store.archive_session(session.id)
        clock.advance(timedelta(seconds=1))
        ids.append(session.id)
    clock.advance(store.settings.retention)
    return ids


async def kept(store: SessionStore) -> set[UUID]:
    return {summary.id for summary in await store.list_sessions(limit=1000)}


async def test_each_is_told_of_while_it_is_still_there_and_then_removed(stores: Stores, clock: ManualClock) -> None:
    read = []

    async def last_look(session_id: UUID) -> None:
        read.append(present(await store.get_session(session_id)))

    told = Told(last_look)
    store = await stores.open(plugins=[told])
    ids = await past_retention(store, clock, 3)

    report = await store.delete_old_archived_sessions()

    assert report.session_ids == told.ids == ids
    assert told.events == [f"{session.id}.{session.version}.{session.head}" for session in read]
    assert await kept(store) == set()


async def test_a_dry_run_tells_nobody(stores: Stores, clock: ManualClock) -> None:
    told = Told()
    store, spy = await stores.spied(plugins=[told])
    ids = await past_retention(store, clock, 2)
    spy.forget()

    assert (await store.delete_old_archived_sessions(dry_run=True)).session_ids == ids
    assert (told.events, spy.calls) == ([], ["purge"])


async def test_telling_costs_two_round_trips_a_batch_and_nothing_where_nobody_listens(
    stores: Stores, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.store.maintenance.TOLD_BATCH", 2)
    told = Told()
    store, spy = await stores.spied(plugins=[told])
    ids = await past_retention(store, clock, 5)
    spy.forget()

    assert (await store.delete_old_archived_sessions(limit=3)).session_ids == told.ids == ids[:3]
    assert spy.calls == ["purge", "copies", "purge"] * 2
    deaf, spy = await stores.spied()
    assert (await deaf.delete_old_archived_sessions()).session_ids == ids[3:]
    assert spy.calls == ["purge"]


async def test_where_nothing_is_past_its_retention_tombstones_are_forgotten_all_the_same(
    stores: Stores, clock: ManualClock
) -> None:
    store = await stores.open(plugins=[Told()])
    session = await store.create_session(["A"], "equity")
    await store.delete_session(session.id)
    clock.advance(store.settings.retention + store.settings.max_ttl)

    await store.delete_old_archived_sessions()

    await store.create_session(["A"], "equity", session_id=session.id)


async def test_what_is_restored_while_it_is_told_of_stays(stores: Stores, clock: ManualClock) -> None:
    other = await stores.open()

    async def restore_the_first(session_id: UUID) -> None:
        if session_id == ids[0]:
            await other.extend_session(session_id, 1)

    told = Told(restore_the_first)
    store = await stores.open(plugins=[told])
    ids = await past_retention(store, clock, 3)

    report = await store.delete_old_archived_sessions()

    assert (told.ids, report.session_ids) == (ids, ids[1:])
    assert await kept(store) == {ids[0]}


async def test_what_is_restored_or_deleted_before_it_is_told_of_is_not_told_of(
    stores: Stores, clock: ManualClock
) -> None:
    other = await stores.open()

    class Meanwhile(SpyingBackend):
        async def purge(self, **how: Any) -> Purged:
            purged = await super().purge(**how)
            if how.get("dry_run"):
                await other.extend_session(ids[0], 1)
                await other.delete_session(ids[1])
            return purged

    told = Told()
    store = await stores.open(Meanwhile(stores.backend()), plugins=[told])
    ids = await past_retention(other, clock, 3)

    report = await store.delete_old_archived_sessions()

    assert told.ids == [ids[2]]
    assert ids[2] in report.session_ids
    assert ids[0] not in report.session_ids
    assert await kept(store) == {ids[0]}


async def test_what_was_left_out_of_the_telling_is_not_removed_either(stores: Stores, clock: ManualClock) -> None:
    other = await stores.open()

    class Meanwhile(SpyingBackend):
        async def purge(self, **how: Any) -> Purged:
            purged = await super().purge(**how)
            if how.get("dry_run"):
                await other.extend_session(ids[0], 1)
            return purged

        async def copies(self, session_ids: Sequence[UUID]) -> dict[UUID, Copy | Tombstone]:
            found = await super().copies(session_ids)
            clock.advance(-2 * store.settings.retention)  # somebody's clock is wrong
            await other.archive_session(ids[0])
            clock.advance(2 * store.settings.retention)
            return found

    told = Told()
    store = await stores.open(Meanwhile(stores.backend()), plugins=[told])
    ids = await past_retention(other, clock, 2)

    assert (await store.delete_old_archived_sessions()).session_ids == told.ids == [ids[1]]
    assert present(await store.get_session(ids[0])).is_archived


async def test_whatever_fails_nothing_is_removed_untold_and_the_next_round_tells_the_rest_again(
    stores: Stores, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.store.maintenance.TOLD_BATCH", 2)
    for moment in (Moment.BEFORE, Moment.AFTER):
        for call in range(1, 7):
            told = Told()
            store, spy = await stores.spied(plugins=[told])
            ids = set(await past_retention(store, clock, 4))
            spy.fail(Fault(call, moment))
            with pytest.raises(Exception, match="a fault"):
                await store.delete_old_archived_sessions()
            spy.fail()
            left = await kept(store)

            assert ids - left <= set(told.ids)
            await store.delete_old_archived_sessions()
            assert await kept(store) == set()
            assert len(set(told.events)) == 4
            assert set(told.ids[-len(left) :] if left else []) == left


async def test_a_plugin_that_fails_holds_nothing_back(stores: Stores, clock: ManualClock) -> None:
    async def fail(session_id: UUID) -> None:
        raise RuntimeError

    store = await stores.open(plugins=[Told(fail)])
    ids = await past_retention(store, clock, 2)

    assert (await store.delete_old_archived_sessions()).session_ids == ids


async def test_a_deletion_that_the_archive_has_not_heard_of_is_finished_and_not_told_of(clock: ManualClock) -> None:
    pair = Pair("hot")
    told = Told()
    clock.set(EXPIRY)
    store = await Stores(lambda: pair.tiers, clock).open(plugins=[told])
    (session_id,) = await past_retention(store, clock, 1)
    await pair.hot.delete(session_id, forget_at=clock() + 365 * DAY)  # and the process was killed

    report = await store.delete_old_archived_sessions()

    assert (told.ids, report.session_ids) == ([], [session_id])
    assert pair.archive_copy(session_id) is None
    await store.aclose()
