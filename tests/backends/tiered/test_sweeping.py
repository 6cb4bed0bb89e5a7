"""`acknowledge="hot"`: what has expired goes to the archive, whoever crashes, writes, deletes or sweeps meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.backends.tiered.pairs import IMPATIENT, Pair, opened
from tests.backends.tiered.races import crashes, races
from tests.backends.tiered.test_hot import (
    LATER,
    archived,
    create,
    delete,
    expired,
    extend,
    nowhere,
    only_copy,
    purge,
    restored,
    sweep,
    sweep_again,
    types_of,
)

from perdure.backends import Archived, ArchiveOutcome, Copy, Tombstone
from perdure.backends.tiered import TierTimes, sweeping
from perdure.changes import Applied
from perdure.errors import BackendUnavailableError, SessionExistsError, StorageFullError
from perdure.merging import AbsorbOutcome
from perdure.models import StoredSession
from perdure.testing import START, ChangeMaker, stored_session
from perdure.testing.conformance.steps import EXPIRY, FOREVER, HOUR, MINUTE, numbered, whole

DAY = 24 * HOUR


def event_of(session: StoredSession) -> tuple[Any, ...]:
    """What makes the id of an event, and when it happened."""
    return session.id, session.version, session.head, session.archived_at


@pytest.fixture
def logs() -> Any:
    with capture_logs() as entries:
        yield entries


# A crash between any two steps --------------------------------------------------------------------


async def test_a_sweep_that_crashes_anywhere_is_finished_by_the_next_one() -> None:
    delivered: list[StoredSession] = []

    async def sweep_and_tell(pair: Pair, session: StoredSession) -> Any:
        return await pair.sweep(at=EXPIRY, delivered=delivered)

    async for race in crashes(expired, sweep_and_tell):
        if race.pair.archive_copy(race.subject.id) is None:
            assert race.pair.hot_copy(race.subject.id) == race.subject, race.gap
        else:
            was_told = any(each.id == race.subject.id for each in delivered)
            assert race.pair.hot_copy(race.subject.id) is not None or was_told, race.gap
        await race.pair.sweep(at=EXPIRY + HOUR, delivered=delivered)
        assert race.pair.hot_copy(race.subject.id) is None, race.gap
        told = [event_of(each) for each in delivered if each.id == race.subject.id]
        assert set(told) == {event_of(await whole(race.pair.tiers, race.subject.id))}, race.gap
        assert len(told) in (1, 2), race.gap


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_what_was_not_delivered_stays_in_hot_and_is_delivered_the_same(error: type[BaseException]) -> None:
    pair, session = await expired()

    async def crash(sessions: Sequence[StoredSession]) -> None:
        raise error

    claimed = await pair.tiers.claim_expired(now=EXPIRY, lease=MINUTE, limit=9, max_bytes=2**40)
    with pytest.raises(error):
        await pair.tiers.archive(claimed.sessions, at=EXPIRY, deliver=crash)
    assert pair.hot_copy(session.id) == session
    delivered: list[StoredSession] = []
    assert await pair.sweep(at=EXPIRY + HOUR, delivered=delivered) == [Archived(session.id, ArchiveOutcome.ARCHIVED)]
    assert [event_of(each) for each in delivered] == [(session.id, 1, session.head, EXPIRY)]


async def test_when_it_is_delivered_both_tiers_have_it() -> None:
    pair, session = await expired()
    seen: list[tuple[Any, Any]] = []

    async def look(sessions: Sequence[StoredSession]) -> None:
        seen.extend((pair.hot_copy(each.id), pair.archive_copy(each.id)) for each in sessions)

    claimed = await pair.tiers.claim_expired(now=EXPIRY, lease=MINUTE, limit=9, max_bytes=2**40)
    await pair.tiers.archive(claimed.sessions, at=EXPIRY, deliver=look)
    assert seen == [(session, replace(session, archived_at=EXPIRY))]


async def test_the_time_that_a_delivery_takes_is_not_the_archives() -> None:
    async def slowly(sessions: Sequence[StoredSession]) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    for where in ("hot", "archive"):
        pair = await opened("hot", times=replace(IMPATIENT, hot_timeout=TierTimes().hot_timeout))
        session = stored_session()
        await (pair.hot if where == "hot" else pair.archive).create(session)
        claimed = await pair.tiers.claim_expired(now=EXPIRY, lease=MINUTE, limit=9, max_bytes=2**40)
        assert await pair.tiers.archive(claimed.sessions, at=EXPIRY, deliver=slowly) == [
            Archived(session.id, ArchiveOutcome.ARCHIVED)
        ]
        assert pair.told == []


# Others come in meanwhile -------------------------------------------------------------------------


async def test_two_sweepers_archive_a_session_once() -> None:
    delivered: list[StoredSession] = []

    async def sweep_and_tell(pair: Pair, session: StoredSession) -> Any:
        return await pair.sweep(at=EXPIRY, delivered=delivered)

    async def sweep_late_and_tell(pair: Pair, session: StoredSession) -> Any:
        return await pair.sweep(at=EXPIRY + HOUR, delivered=delivered)

    async for race in races(expired, sweep_and_tell, sweep_late_and_tell):
        seen = await whole(race.pair.tiers, race.subject.id)
        assert seen == replace(race.subject, archived_at=seen.archived_at), race.gap
        assert race.pair.hot_copy(race.subject.id) is None, race.gap
        assert {event_of(each) for each in delivered if each.id == race.subject.id} == {event_of(seen)}, race.gap


async def test_what_is_written_while_it_is_archived_makes_a_checkpoint_of_that() -> None:
    async for race in races(expired, sweep, extend):
        seen = await whole(race.pair.tiers, race.subject.id)
        assert types_of(seen) == ["query-1", "query-2", "restored"], race.gap
        assert (seen.archived_at, seen.expires_at) == (None, LATER), race.gap
        hot = race.pair.hot_copy(race.subject.id)
        assert hot == seen, race.gap
        if not isinstance(race.first, list) or not race.first:
            continue
        (done,) = race.first
        gone = race.pair.archive_copy(race.subject.id)
        assert done.outcome in (ArchiveOutcome.CHANGED, ArchiveOutcome.ARCHIVED), race.gap
        assert gone is None or gone.version == 1
        assert [each.outcome for each in await race.pair.sweep(at=LATER)] == [ArchiveOutcome.ARCHIVED], race.gap
        assert types_of(await whole(race.pair.tiers, race.subject.id)) == types_of(seen)


async def test_a_session_that_is_deleted_while_it_is_archived_stays_deleted() -> None:
    for scene in (expired, restored):
        async for race in races(scene, sweep_again, delete):
            assert race.second in (True, False)
            assert await only_copy(race) is None, race.gap


@pytest.mark.parametrize("facts", [{"version": 2}, {"head": "another"}])
async def test_only_the_very_copy_leaves_hot(facts: dict[str, Any]) -> None:
    pair, session = await expired()

    async def put_another_in_its_place() -> None:
        await pair.hot.inner.evict(session.id, version=1, head=session.head)
        await pair.hot.inner.create(replace(session, **facts))

    pair.archive.when("absorb", after=put_another_in_its_place)
    assert [done.outcome for done in await pair.sweep()] == [ArchiveOutcome.CHANGED]
    assert pair.hot_copy(session.id) == replace(session, **facts)


async def test_a_claim_whose_copy_changed_is_not_archived() -> None:
    pair, session = await expired()
    claimed = await pair.tiers.claim_expired(now=EXPIRY, lease=MINUTE, limit=9, max_bytes=2**40)
    await extend(pair, session)
    before = len(pair.archive.calls)
    (done,) = await pair.tiers.archive(claimed.sessions, at=EXPIRY, deliver=nobody)
    assert (done.outcome, pair.archive.calls[before:]) == (ArchiveOutcome.CHANGED, [])


async def nobody(sessions: Sequence[StoredSession]) -> None:
    raise AssertionError("there is nothing to deliver")


# One fails alone ----------------------------------------------------------------------------------


async def test_of_500_due_one_that_cannot_be_archived_is_reported_and_the_others_are_archived() -> None:
    pair = await opened("hot")
    sessions = [stored_session(queries=numbered(1)) for _ in range(500)]
    sessions[250].tags = ("\ud800",)
    for session in sessions:
        pair.hot_data.sessions[session.id] = session
        pair.hot_data.due[session.id] = session.expires_at
    pair.hot_data.order = sorted((session.created_at, session.id) for session in sessions)
    delivered: list[StoredSession] = []
    report = await pair.sweep(delivered=delivered)
    poisoned = sessions[250].id
    assert {done.session_id for done in report if done.outcome is ArchiveOutcome.ARCHIVED} == {
        session.id for session in sessions if session.id != poisoned
    }
    (failed,) = [done for done in report if done.outcome is not ArchiveOutcome.ARCHIVED]
    assert (failed.session_id, failed.outcome) == (poisoned, ArchiveOutcome.FAILED)
    assert "surrogates not allowed" in (failed.error or "")
    assert (len(delivered), len(pair.archive_data.sessions), list(pair.hot_data.sessions)) == (499, 499, [poisoned])


async def test_a_copy_that_cannot_be_removed_from_hot_fails_alone_and_is_moved_again() -> None:
    pair = await opened("hot")
    sessions = [stored_session(expires_at=EXPIRY - n * MINUTE) for n in range(3)]
    for session in sessions:
        await pair.tiers.create(session, fresh=True)
    pair.hot.fails("evict", StorageFullError("memory", "full"))
    report = await pair.sweep()
    assert sorted(done.outcome for done in report) == [ArchiveOutcome.ARCHIVED] * 2 + [ArchiveOutcome.FAILED]
    (failed,) = [done for done in report if done.outcome is ArchiveOutcome.FAILED]
    assert failed.error == "the archive has it, and it could not be removed from where it was: memory: full"
    assert list(pair.hot_data.sessions) == [failed.session_id]
    assert await pair.sweep(at=EXPIRY + HOUR) == [Archived(failed.session_id, ArchiveOutcome.ARCHIVED)]


async def test_while_the_archive_is_down_what_expired_stays_hot_and_is_archived_afterwards() -> None:
    pair, session = await expired()
    pair.archive.down = True
    with pytest.raises(BackendUnavailableError):
        await pair.sweep()
    assert pair.hot_copy(session.id) == session
    pair.archive.down = False
    assert await pair.sweep(at=EXPIRY + HOUR) == [Archived(session.id, ArchiveOutcome.ARCHIVED)]


# Deleted in one tier ------------------------------------------------------------------------------


async def test_a_tombstone_in_the_archive_is_pushed_to_hot() -> None:
    pair, session = await expired()
    await pair.archive.inner.delete(session.id, forget_at=FOREVER)  # hot came back from before the deletion
    with capture_logs() as logs:
        assert await pair.sweep() == [Archived(session.id, ArchiveOutcome.DELETED)]
    assert pair.hot_data.tombstones == {session.id: FOREVER}
    assert await pair.tiers.read(session.id) is None
    assert [(each["event"], each["session_id"]) for each in logs] == [("session.deleted_again", str(session.id))]
    told = f"memory came back older than it was: session {session.id} was there, which had been deleted"
    assert pair.told == [("hot", told)]
    assert (await pair.tiers.health(now=EXPIRY)).warnings == (
        "hot: it came back older than it was: 1 session that had been deleted came with it and had to be deleted again",
    )


async def test_a_deletion_between_claiming_and_absorbing_is_nothing_to_tell_of() -> None:
    pair, session = await expired()
    pair.archive.when("absorb", before=lambda: pair.tiers.delete(session.id, forget_at=FOREVER))
    with capture_logs() as logs:
        assert await pair.sweep() == [Archived(session.id, ArchiveOutcome.DELETED)]
    assert logs == []


async def test_a_tombstone_that_cannot_be_pushed_fails_alone() -> None:
    pair, session = await expired()
    await pair.archive.inner.delete(session.id, forget_at=FOREVER)
    later = stored_session(expires_at=EXPIRY + MINUTE)
    await pair.tiers.create(later, fresh=True)
    pair.hot.fails("delete", StorageFullError("memory", "full"))
    report = await pair.sweep(at=EXPIRY + MINUTE)
    assert [done.outcome for done in report] == [ArchiveOutcome.FAILED, ArchiveOutcome.ARCHIVED]
    assert report[0].error == "it was deleted, which hot could not be told: memory: full"
    assert await pair.sweep(at=EXPIRY + HOUR) == [Archived(session.id, ArchiveOutcome.DELETED)]


async def test_a_tombstone_in_hot_is_pushed_to_the_archive() -> None:
    pair = await opened("hot")
    session = stored_session()
    await pair.archive.create(session)  # an archive that was a store of its own before
    await pair.hot.delete(session.id, forget_at=FOREVER)  # a deletion that crashed half way
    assert await pair.sweep() == []
    assert pair.archive_data.tombstones == {session.id: FOREVER}


# A hot tier that came back older ------------------------------------------------------------------


async def test_a_copy_that_is_older_than_the_archives_overrides_nothing_and_is_reported(
    logs: list[MutableMapping[str, Any]],
) -> None:
    pair, session = await expired()
    await extend(pair, session)
    await pair.sweep(at=LATER)
    kept = await whole(pair.tiers, session.id)
    await pair.hot.inner.create(session)  # as it was before the extension
    delivered: list[StoredSession] = []
    other = await pair.another()
    assert await other.sweep(at=LATER, delivered=delivered) == [Archived(session.id, ArchiveOutcome.ARCHIVED)]
    assert await whole(pair.tiers, session.id) == kept
    assert [each.archived_at for each in delivered] == [kept.archived_at]
    assert other.told == [
        (
            "hot",
            f"memory came back older than it was: session {session.id} is at version 1, and 2 had been acknowledged",
        )
    ]
    rolled_back = [entry for entry in logs if entry["event"] == "session.rolled_back"]
    assert [(entry["acknowledged"], entry["found"]) for entry in rolled_back] == [(2, 1)]


async def test_what_was_written_to_a_copy_that_came_back_older_is_kept_with_what_the_archive_has() -> None:
    pair, session = await expired()
    await extend(pair, session)
    await pair.sweep(at=LATER)
    await pair.hot.inner.create(session)
    await pair.tiers.apply(session.id, ChangeMaker().query("after", at=START))
    assert await pair.sweep(at=LATER) == [Archived(session.id, ArchiveOutcome.FORKED)]
    seen = await whole(pair.tiers, session.id)
    assert sorted(types_of(seen)) == ["after", "query-1", "query-2", "restored"]
    assert seen.archived_at is not None


async def test_what_is_active_in_the_archive_in_a_later_version_is_not_told_to_be_archived() -> None:
    pair, session = await expired()
    later = replace(session, version=5, head="later", expires_at=FOREVER)
    await pair.archive.create(later)
    delivered: list[StoredSession] = []
    assert await pair.sweep(delivered=delivered) == [Archived(session.id, ArchiveOutcome.CHANGED)]
    assert delivered == []
    assert await whole(pair.tiers, session.id) == later


# What the archive alone has -----------------------------------------------------------------------


async def test_what_expired_in_the_archive_alone_is_archived_where_it_is() -> None:
    pair = await opened("hot")
    session = stored_session()
    await pair.archive.create(session)
    delivered: list[StoredSession] = []
    assert await pair.sweep(delivered=delivered) == [Archived(session.id, ArchiveOutcome.ARCHIVED)]
    assert delivered == [replace(session, archived_at=EXPIRY)]
    assert pair.hot_copy(session.id) is None
    assert await pair.sweep(at=FOREVER) == []


async def test_what_hot_holds_is_not_archived_by_what_the_archive_says() -> None:
    pair = await opened("hot")
    sessions = [stored_session() for _ in range(3)]
    for session in sessions:
        await pair.archive.create(session)
    for session in sessions[:2]:
        await extend(pair, session)
    assert [done.session_id for done in await pair.sweep(limit=1)] == [sessions[2].id]
    for session in sessions[:2]:
        assert (await whole(pair.tiers, session.id)).archived_at is None
    assert (await pair.archive.inner.health(now=FOREVER)).due == 0, "what hot judges does not stay due"


async def test_hot_is_swept_first_and_a_claim_is_of_one_tier() -> None:
    pair, session = await expired()
    await pair.archive.create(stored_session())
    assert [done.session_id for done in await pair.sweep()] == [session.id]
    assert len(await pair.sweep()) == 1


async def test_a_claim_that_was_lost_from_hot_is_not_brought_back() -> None:
    pair, session = await expired()
    claimed = await pair.tiers.claim_expired(now=EXPIRY, lease=MINUTE, limit=9, max_bytes=2**40)
    await pair.hot.inner.evict(session.id, version=1, head=session.head)
    assert await pair.tiers.archive(claimed.sessions, at=EXPIRY, deliver=nobody) == [
        Archived(session.id, ArchiveOutcome.CHANGED)
    ]
    assert pair.archive_copy(session.id) is None


# Retention ----------------------------------------------------------------------------------------


async def test_retention_leaves_what_hot_holds() -> None:
    pair, session = await restored()
    gone = await pair.archived()
    assert await purge(pair, session) == [gone.id]
    assert pair.archive_copy(session.id) is not None


async def test_retention_does_nothing_while_hot_cannot_be_asked() -> None:
    pair, session = await archived()
    pair.hot.down = True
    with pytest.raises(BackendUnavailableError):
        await purge(pair, session)
    with pytest.raises(BackendUnavailableError):
        await pair.tiers.purge(archived_before=FOREVER, now=LATER, limit=9, dry_run=True)
    pair.hot.down = False
    assert await pair.tiers.read(session.id) == session


@pytest.mark.parametrize("dry_run", [True, False])
async def test_retention_looks_on_where_hot_holds_the_oldest(dry_run: bool) -> None:
    pair = await opened("hot")
    sessions = [await pair.archived(expires_at=EXPIRY + n * MINUTE) for n in range(9)]
    for session in sessions[:5]:
        await pair.tiers.apply(session.id, ChangeMaker().change(at=EXPIRY + HOUR, expires_at=EXPIRY + DAY))
    purged = await pair.tiers.purge(archived_before=FOREVER, now=LATER, limit=3, dry_run=dry_run)
    assert (purged.session_ids, purged.more) == ([session.id for session in sessions[5:8]], True)
    rest = await pair.tiers.purge(archived_before=FOREVER, now=LATER, limit=3)
    assert len(rest.session_ids) == (3 if dry_run else 1)
    assert rest.more is dry_run


async def test_retention_forgets_tombstones_in_both_tiers() -> None:
    pair, session = await archived()
    await delete(pair, session)
    await pair.tiers.purge(archived_before=FOREVER, now=FOREVER, limit=1, dry_run=True)
    assert len(pair.hot_data.tombstones) == len(pair.archive_data.tombstones) == 1
    await pair.tiers.purge(archived_before=FOREVER, now=FOREVER, limit=1)
    assert pair.hot_data.tombstones == pair.archive_data.tombstones == {}


async def test_what_was_purged_is_not_told_to_be_lost() -> None:
    pair, session = await archived()
    await purge(pair, session)
    assert await pair.tiers.read(session.id) is None
    assert pair.told == []


# Taking sessions from elsewhere -------------------------------------------------------------------


def later(session: StoredSession, *, archived_at: Any = None) -> StoredSession:
    """A copy that somebody wrote to elsewhere."""
    elsewhere = stored_session(queries=numbered(3), id=session.id, version=9, head="elsewhere")
    return replace(elsewhere, queries=[*session.queries, elsewhere.queries[2]], archived_at=archived_at)


async def absorb(pair: Pair, session: StoredSession) -> AbsorbOutcome:
    (done,) = await pair.tiers.absorb([later(session)])
    return done.outcome


async def absorb_archived(pair: Pair, session: StoredSession) -> AbsorbOutcome:
    (done,) = await pair.tiers.absorb([later(session, archived_at=EXPIRY)])
    return done.outcome


async def absorb_older(pair: Pair, session: StoredSession) -> AbsorbOutcome:
    """A copy from before all that is known here, with something of its own all the same."""
    (done,) = await pair.tiers.absorb([stored_session(id=session.id, queries=numbered(3)[2:], head="older")])
    return done.outcome


@pytest.mark.parametrize("take", [absorb, absorb_archived])
@pytest.mark.parametrize(
    ("scene", "outcome"),
    [
        (archived, AbsorbOutcome.MERGED),
        (expired, AbsorbOutcome.MERGED),
        (restored, AbsorbOutcome.FORKED),
        (nowhere, AbsorbOutcome.STORED),
    ],
)
async def test_a_session_from_elsewhere_is_seen_with_all_that_was_there(
    scene: Callable[..., Any], outcome: AbsorbOutcome, take: Callable[..., Any]
) -> None:
    pair, session = await scene()
    assert await take(pair, session) is outcome
    seen = await whole(pair.tiers, session.id)
    assert set(session.queries) <= set(seen.queries)
    assert "query-3" in types_of(seen)
    if take is absorb_archived:
        assert pair.hot_copy(session.id) is None
        assert seen.archived_at == EXPIRY
    await pair.sweep(at=FOREVER)
    assert set((await whole(pair.tiers, session.id)).queries) == set(seen.queries)


@pytest.mark.parametrize("take", [absorb, absorb_archived, absorb_older])
@pytest.mark.parametrize(
    ("scene", "second"),
    [(expired, sweep), (restored, sweep_again), (archived, extend), (nowhere, create), (expired, extend)],
)
async def test_what_moves_while_a_copy_of_it_comes_from_elsewhere_loses_nothing(
    scene: Callable[..., Any], second: Callable[..., Any], take: Callable[..., Any]
) -> None:
    async for race in races(scene, take, second):
        seen = await whole(race.pair.tiers, race.subject.id)
        if not isinstance(race.second, SessionExistsError):
            assert set(race.subject.queries[:2]) <= set(seen.queries), race.gap
        assert "query-3" in types_of(seen), race.gap
        if second is extend and not isinstance(race.second, Exception):
            assert "restored" in types_of(seen), race.gap
        await race.pair.sweep(at=FOREVER)
        after = await whole(race.pair.tiers, race.subject.id)
        assert set(after.queries) == set(seen.queries), race.gap
        assert race.pair.hot_copy(race.subject.id) is None, race.gap


@pytest.mark.parametrize("take", [absorb, absorb_archived, absorb_older])
async def test_what_comes_from_elsewhere_while_a_session_is_restored_is_seen(take: Callable[..., Any]) -> None:
    async for race in races(archived, extend, take):
        seen = await whole(race.pair.tiers, race.subject.id)
        assert "query-3" in types_of(seen), race.gap
        assert set(race.subject.queries) <= set(seen.queries), race.gap
        assert ("restored" in types_of(seen)) == isinstance(race.first, Applied), race.gap


@pytest.mark.parametrize("take", [absorb, absorb_archived, absorb_older])
@pytest.mark.parametrize("scene", [expired, restored, archived, nowhere])
async def test_what_is_deleted_while_a_copy_of_it_comes_from_elsewhere_stays_deleted(
    scene: Callable[..., Any], take: Callable[..., Any]
) -> None:
    async for race in races(scene, take, delete):
        assert await only_copy(race) is None, race.gap


async def test_what_was_deleted_stays_so_whichever_tier_remembers() -> None:
    for forget in ("hot", "archive"):
        for take in (absorb, absorb_archived):
            pair, session = await restored()
            await delete(pair, session)
            (pair.hot_data if forget == "hot" else pair.archive_data).tombstones.clear()
            assert await take(pair, session) is AbsorbOutcome.DELETED
            assert await pair.tiers.read(session.id) is None


async def test_what_was_archived_on_purpose_and_comes_from_elsewhere_is_still_to_be_told_of() -> None:
    pair, session = await expired()
    await pair.tiers.apply(session.id, ChangeMaker().change(at=START, archive=True))
    copy = await whole(pair.tiers, session.id)
    (done,) = await pair.tiers.absorb([copy])
    assert done.outcome is AbsorbOutcome.UNCHANGED
    delivered: list[StoredSession] = []
    await pair.sweep(delivered=delivered)
    assert delivered == [copy]


async def test_copies_are_told_of_the_tier_that_judges() -> None:
    pair, session = await restored()
    gone = await pair.archived()
    deleted = await pair.archived()
    await delete(pair, deleted)
    assert await pair.tiers.copies([session.id, gone.id, deleted.id, stored_session().id]) == {
        session.id: Copy(2, session.head, False),
        gone.id: Copy(1, gone.head, True),
        deleted.id: Tombstone(FOREVER),
    }


def test_the_outcomes_that_mean_moved_are_all_that_leave_the_session_in_the_archive() -> None:
    assert set(sweeping._MOVED) == {
        AbsorbOutcome.STORED,
        AbsorbOutcome.MERGED,
        AbsorbOutcome.UNCHANGED,
        AbsorbOutcome.FORKED,
    }
