"""`acknowledge="hot"`: one session, and whatever else happens to it between two calls of a verb."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.backends.tiered.pairs import Pair, opened
from tests.backends.tiered.races import Race, crashes, races

from perdure.backends import HistoryPage
from perdure.changes import Applied, SessionChange
from perdure.errors import (
    BackendUnavailableError,
    SessionArchivedError,
    SessionExistsError,
    SessionExpiredError,
    SessionNotFoundError,
)
from perdure.models import StoredSession
from perdure.testing import START, ChangeMaker, Fault, Moment, stored_session
from perdure.testing.conformance.steps import EXPIRY, FOREVER, HOUR, MINUTE, numbered, whole

LATER = EXPIRY + HOUR
MOVED = "moved between the tiers"


async def archived() -> tuple[Pair, StoredSession]:
    """A session of two queries, in the archive, and in no other place."""
    pair = await opened("hot")
    return pair, await pair.archived(queries=numbered(2), sections={"context": {"a": 1}})


async def expired() -> tuple[Pair, StoredSession]:
    """A session of two queries that is in hot, and due."""
    pair = await opened("hot")
    session = stored_session(queries=numbered(2), sections={"context": {"a": 1}})
    await pair.tiers.create(session, fresh=True)
    return pair, session


async def restored() -> tuple[Pair, StoredSession]:
    """A session that was restored: in hot, and as it was before that in the archive."""
    pair, session = await archived()
    await extend(pair, session)
    return pair, await whole(pair.tiers, session.id)


async def nowhere() -> tuple[Pair, StoredSession]:
    """A session that is yet to be created."""
    return await opened("hot"), stored_session(queries=numbered(2))


def extension(query: str = "restored") -> SessionChange:
    return ChangeMaker().query(query, at=EXPIRY, expires_at=LATER)


async def extend(pair: Pair, session: StoredSession) -> Applied:
    return await pair.tiers.apply(session.id, extension())


async def extend_differently(pair: Pair, session: StoredSession) -> Applied:
    return await pair.tiers.apply(session.id, ChangeMaker().query("other", at=EXPIRY, expires_at=LATER + HOUR))


async def write(pair: Pair, session: StoredSession) -> Applied:
    return await pair.tiers.apply(session.id, ChangeMaker().query("written", at=START))


async def delete(pair: Pair, session: StoredSession) -> bool:
    return await pair.tiers.delete(session.id, forget_at=FOREVER)


async def sweep(pair: Pair, session: StoredSession) -> Any:
    return await pair.sweep(at=EXPIRY)


async def sweep_again(pair: Pair, session: StoredSession) -> Any:
    """When every lease has ended, and every extension as well."""
    return await pair.sweep(at=FOREVER)


async def purge(pair: Pair, session: StoredSession) -> Any:
    return (await pair.tiers.purge(archived_before=FOREVER, now=LATER, limit=9)).session_ids


async def restore_and_purge(pair: Pair, session: StoredSession) -> Any:
    """A purge that asked hot before the restoration, and does its work after it."""
    other = await pair.another()
    other.hot.when("copies", after=lambda: extend(pair, session))
    return await purge(other, session)


async def read(pair: Pair, session: StoredSession) -> StoredSession | None:
    return await pair.tiers.read(session.id)


async def look_up_queries(pair: Pair, session: StoredSession) -> HistoryPage | None:
    return await pair.tiers.queries(session.id, limit=9)


async def create(pair: Pair, session: StoredSession) -> None:
    await pair.tiers.create(session)


async def create_another(pair: Pair, session: StoredSession) -> None:
    await pair.tiers.create(stored_session(id=session.id, tags=("another",)))


async def create_and_archive_another(pair: Pair, session: StoredSession) -> None:
    await create_another(pair, session)
    await sweep(pair, session)


async def create_archived(pair: Pair, session: StoredSession) -> None:
    await pair.tiers.create(stored_session(id=session.id, archived_at=EXPIRY))


def types_of(session: StoredSession) -> list[str]:
    """What the queries are, in order."""
    return [body.split('"query_type":"')[1].split('"')[0] for body in session.queries]


async def only_copy(race: Race[StoredSession]) -> StoredSession | None:
    """What everybody sees, now and when all has been swept; what was purged is gone."""
    now = await race.pair.tiers.read(race.subject.id)
    await sweep_again(race.pair, race.subject)
    later = await race.pair.tiers.read(race.subject.id)
    assert (now is None) == (later is None), race.gap
    if now is not None and later is not None:
        assert types_of(now) == types_of(later), race.gap
        assert later.archived_at is not None, race.gap
        assert race.pair.hot_copy(race.subject.id) is None, race.gap
    return now


# Restoring ----------------------------------------------------------------------------------------


async def test_an_archived_session_comes_back_whole_with_what_restores_it() -> None:
    pair, session = await archived()
    assert await extend(pair, session) == Applied(2, 3)
    hot = pair.hot_copy(session.id)
    assert hot is not None
    assert (hot.archived_at, hot.expires_at, types_of(hot)) == (None, LATER, ["query-1", "query-2", "restored"])
    assert await whole(pair.tiers, session.id) == hot


async def test_what_does_not_restore_is_refused_and_brings_nothing_back() -> None:
    pair, session = await archived()
    with pytest.raises(SessionArchivedError):
        await write(pair, session)
    with pytest.raises(SessionArchivedError):
        await pair.tiers.apply(session.id, ChangeMaker().change(at=EXPIRY, archive=True))
    with pytest.raises(SessionNotFoundError):
        await pair.tiers.apply(session.id, ChangeMaker().change(at=EXPIRY, expires_at=LATER, owner="another"))
    assert pair.hot_copy(session.id) is None


async def test_restoring_is_one_step_whatever_crashes() -> None:
    async for race in crashes(archived, extend):
        hot = race.pair.hot_copy(race.subject.id)
        assert hot is None or (hot.archived_at, hot.version, hot.total_queries) == (None, 2, 3), race.gap
        if not isinstance(race.first, BackendUnavailableError):
            assert race.first == Applied(2, 3)
            assert hot is not None
        seen = await only_copy(race)
        assert seen is not None
        assert types_of(seen)[:2] == ["query-1", "query-2"], race.gap


@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AFTER])
async def test_a_restoration_whose_answer_was_lost_is_repeated_once(moment: Moment) -> None:
    for tier in ("hot", "archive"):
        for call in range(1, 6):
            pair, session = await archived()
            change = extension()
            faulty = pair.hot if tier == "hot" else pair.archive
            faulty.faults = [Fault(len(faulty.calls) + call, moment)]
            try:
                applied = await pair.tiers.apply(session.id, change)
            except BackendUnavailableError:
                applied = await pair.tiers.apply(session.id, change.repeated())
            faulty.faults = []
            assert applied == Applied(2, 3)
            assert types_of(await whole(pair.tiers, session.id)) == ["query-1", "query-2", "restored"]


async def test_a_repeat_of_what_has_been_archived_by_now_brings_nothing_back() -> None:
    pair, session = await archived()
    change = extension()
    applied = await pair.tiers.apply(session.id, change)
    await sweep_again(pair, session)
    assert await pair.tiers.apply(session.id, change.repeated()) == applied
    assert pair.hot_copy(session.id) is None
    assert (await whole(pair.tiers, session.id)).archived_at is not None


async def test_what_came_and_went_while_it_was_restored_is_not_overlooked() -> None:
    async def come_and_go(pair: Pair, session: StoredSession) -> Applied:
        applied = await extend_differently(pair, session)
        await pair.sweep(at=LATER + HOUR)
        return applied

    def extend_long(pair: Pair, session: StoredSession) -> Awaitable[Applied]:
        return pair.tiers.apply(session.id, ChangeMaker().query("restored", at=EXPIRY, expires_at=LATER + 9 * HOUR))

    async for race in races(archived, extend_long, come_and_go):
        assert isinstance(race.first, Applied)
        assert isinstance(race.second, Applied)
        seen = await whole(race.pair.tiers, race.subject.id)
        assert sorted(types_of(seen)) == ["other", "query-1", "query-2", "restored"], race.gap


async def test_two_who_restore_at_once_get_one_session_with_what_both_wrote() -> None:
    async for race in races(archived, extend, extend_differently):
        assert {race.first, race.second} == {Applied(2, 3), Applied(3, 4)}, race.gap
        seen = await only_copy(race)
        assert seen is not None
        assert sorted(types_of(seen)) == ["other", "query-1", "query-2", "restored"], race.gap
        assert seen.expires_at == LATER + HOUR


async def test_what_is_deleted_while_it_is_restored_stays_deleted() -> None:
    async for race in races(archived, extend, delete):
        assert race.second is True
        assert isinstance(race.first, SessionNotFoundError) or race.first == Applied(2, 3), race.gap
        assert await only_copy(race) is None, race.gap


async def test_what_is_purged_while_it_is_restored_is_either() -> None:
    async for race in races(archived, extend, purge):
        seen = await only_copy(race)
        if isinstance(race.first, SessionNotFoundError):
            assert seen is None, race.gap
        else:
            assert race.first == Applied(2, 3)
            assert seen is not None, race.gap
            assert types_of(seen) == ["query-1", "query-2", "restored"], race.gap


async def test_what_another_restored_and_a_slow_retention_purged_is_not_missing() -> None:
    async for race in races(archived, extend_differently, restore_and_purge):
        assert isinstance(race.first, Applied), (race.gap, race.first)
        seen = await only_copy(race)
        assert seen is not None, race.gap
        assert {"query-1", "query-2", "other"} <= set(types_of(seen)), race.gap


@pytest.mark.parametrize("change", [extend, write])
async def test_what_is_written_while_it_is_archived_is_kept(change: Callable[..., Any]) -> None:
    async for race in races(restored, change, sweep_again):
        seen = await only_copy(race)
        assert seen is not None
        assert types_of(seen)[:3] == ["query-1", "query-2", "restored"]
        if isinstance(race.first, SessionArchivedError | SessionExpiredError):
            assert len(seen.queries) == 3, race.gap
        else:
            assert isinstance(race.first, Applied)
            assert len(seen.queries) == 4, race.gap


# Reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [read, look_up_queries])
@pytest.mark.parametrize(
    ("scene", "second"),
    [(archived, extend), (archived, restore_and_purge), (expired, sweep), (restored, sweep_again)],
)
async def test_what_moves_between_the_tiers_is_never_missing(
    scene: Callable[[], Any], look: Callable[..., Any], second: Callable[..., Any]
) -> None:
    async for race in races(scene, look, second):
        assert isinstance(race.first, StoredSession | HistoryPage), (race.gap, race.first)
        bodies = race.first.queries if isinstance(race.first, StoredSession) else race.first.bodies
        assert bodies[: len(race.subject.queries)] == race.subject.queries, race.gap


@pytest.mark.parametrize("look", [read, look_up_queries])
async def test_what_is_deleted_while_it_is_read_is_there_or_not(look: Callable[..., Any]) -> None:
    async for race in races(archived, look, delete):
        assert race.first is None or isinstance(race.first, StoredSession | HistoryPage)
        assert await look(race.pair, race.subject) is None


async def test_a_session_of_somebody_else_is_not_there() -> None:
    for scene in (archived, restored, expired):
        pair, session = await scene()
        assert await pair.tiers.queries(session.id, limit=9, owner="another") is None
        page = await pair.tiers.queries(session.id, limit=9, owner="analyst")
        assert page is not None
        assert page.bodies == session.queries


async def test_who_looks_for_the_queries_of_another_while_the_session_comes_back_finds_none() -> None:
    async def look(pair: Pair, session: StoredSession) -> HistoryPage | None:
        return await pair.tiers.queries(session.id, limit=9, owner="another")

    async for race in races(archived, look, extend):
        assert race.first is None, race.gap


@pytest.mark.parametrize("look", [read, look_up_queries])
async def test_a_session_that_never_comes_to_rest_is_an_error_and_not_missing(look: Callable[..., Any]) -> None:
    pair, session = await archived()
    other = await pair.another()
    now = EXPIRY

    async def restore() -> None:
        await other.tiers.apply(session.id, ChangeMaker().change(at=now, expires_at=now + MINUTE))

    async def archive() -> None:
        nonlocal now
        now += 2 * MINUTE
        await other.sweep(at=now)

    for _ in range(99):
        pair.archive.when(look.__name__ if look is read else "queries", after=restore)
        pair.hot.when("copies", after=archive)
    with pytest.raises(BackendUnavailableError, match=MOVED):
        await look(pair, session)


# One tier down ------------------------------------------------------------------------------------


async def test_while_hot_is_down_the_archive_is_read_and_says_that_it_may_be_old() -> None:
    pair, session = await restored()
    pair.hot.down = True
    seen = await whole(pair.tiers, session.id)
    assert (seen.stale, seen.total_queries) == (True, 2)
    page = await pair.tiers.queries(session.id, limit=9)
    assert page is not None
    assert page.total == 2
    pair.hot.down = False
    assert await whole(pair.tiers, session.id) == session


@pytest.mark.parametrize("look", [read, look_up_queries])
async def test_where_hot_goes_down_in_the_middle_the_same_is_read(look: Callable[..., Any]) -> None:
    pair, session = await archived()
    pair.hot.fails("copies", BackendUnavailableError("memory", "gone"))
    found = await look(pair, session)
    if isinstance(found, StoredSession):
        assert found.stale
    assert found is not None
    pair.hot.fails("copies", BackendUnavailableError("memory", "gone"))
    with pytest.raises(BackendUnavailableError, match="only the hot tier would know"):
        await look(pair, stored_session())


@pytest.mark.parametrize("look", [read, look_up_queries])
async def test_what_only_hot_could_know_is_not_missing_while_it_is_down(look: Callable[..., Any]) -> None:
    pair, session = await expired()
    pair.hot.down = True
    with pytest.raises(BackendUnavailableError, match="only the hot tier would know"):
        await look(pair, session)


async def test_writes_fail_while_hot_is_down() -> None:
    pair, session = await restored()
    pair.hot.down = True
    for verb in (extend, write, delete, create_another, sweep, purge):
        with pytest.raises(BackendUnavailableError):
            await verb(pair, session)
    pair.hot.down = False
    assert await whole(pair.tiers, session.id) == session


async def test_active_sessions_do_not_need_the_archive() -> None:
    pair, session = await expired()
    pair.archive.down = True
    assert await write(pair, session) == Applied(2, 3)
    assert await extend(pair, session) == Applied(3, 4)
    assert (await whole(pair.tiers, session.id)).total_queries == 4
    await pair.tiers.create(stored_session(), fresh=True)


async def test_what_only_the_archive_could_know_is_not_missing_while_it_is_down() -> None:
    pair, session = await archived()
    pair.archive.down = True
    for verb in (read, look_up_queries, extend):
        with pytest.raises(BackendUnavailableError):
            await verb(pair, session)
    with pytest.raises(BackendUnavailableError):
        await pair.tiers.create(stored_session())


async def test_a_store_opens_without_its_archive_and_does_not_without_hot() -> None:
    pair = Pair("hot")
    pair.archive.down = True
    await pair.tiers.open()
    await pair.tiers.create(session := stored_session(), fresh=True)
    pair.archive.down = False
    assert [done.error for done in await pair.sweep()] == [None]
    assert pair.archive_copy(session.id) is not None
    await pair.tiers.aclose()
    pair.hot.down = True
    with pytest.raises(BackendUnavailableError):
        await pair.tiers.open()


# Creating -----------------------------------------------------------------------------------------


async def test_a_new_id_costs_one_call_and_another_is_looked_for_in_the_archive() -> None:
    pair, session = await archived()
    calls = len(pair.hot.calls), len(pair.archive.calls)
    await pair.tiers.create(stored_session(), fresh=True)
    assert (len(pair.hot.calls), len(pair.archive.calls)) == (calls[0] + 1, calls[1])
    with pytest.raises(SessionExistsError):
        await create_another(pair, session)
    assert pair.hot_copy(session.id) is None


@pytest.mark.parametrize("second", [create_another, create_and_archive_another])
async def test_of_two_who_create_under_one_id_one_succeeds(second: Callable[..., Any]) -> None:
    async for race in races(nowhere, create, second):
        refused = [isinstance(outcome, SessionExistsError) for outcome in (race.first, race.second)]
        assert sorted(refused) == [False, True], (race.gap, race.first, race.second)
        seen = await whole(race.pair.tiers, race.subject.id)
        assert seen.tags == (("another",) if refused[0] else ()), race.gap


async def test_a_ticket_that_something_else_voided_is_taken_again() -> None:
    pair, session = await nowhere()
    pair.archive.when("copies", before=lambda: pair.hot.inner.evict(session.id, version=1, head="any"))
    await create(pair, session)
    assert await whole(pair.tiers, session.id) == session


async def test_a_session_that_comes_archived_goes_to_the_archive() -> None:
    pair, session = await nowhere()
    await create_archived(pair, session)
    assert pair.hot_copy(session.id) is None
    assert pair.archive_copy(session.id) is not None
    for again in (create_archived, create_another):
        with pytest.raises(SessionExistsError):
            await again(pair, session)


@pytest.mark.parametrize(("first", "second"), [(create, create_archived), (create_archived, create)])
async def test_of_two_who_create_in_different_tiers_one_succeeds(
    first: Callable[..., Any], second: Callable[..., Any]
) -> None:
    async for race in races(nowhere, first, second):
        refused = [isinstance(outcome, SessionExistsError) for outcome in (race.first, race.second)]
        assert sorted(refused) == [False, True], (race.gap, race.first, race.second)
        held = [race.pair.hot_copy(race.subject.id), race.pair.archive_copy(race.subject.id)]
        assert held.count(None) == 1, race.gap


@pytest.mark.parametrize("again", [create_another, create_archived])
async def test_a_deleted_id_is_not_used_again_whichever_tier_remembers(again: Callable[..., Any]) -> None:
    for forget in ("hot", "archive"):
        pair, session = await restored()
        await delete(pair, session)
        (pair.hot_data if forget == "hot" else pair.archive_data).tombstones.clear()
        with pytest.raises(SessionExistsError):
            await again(pair, session)


# Deleting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", [archived, expired, restored])
async def test_a_deleted_session_is_a_tombstone_in_both_tiers(scene: Callable[[], Any]) -> None:
    pair, session = await scene()
    assert await delete(pair, session) is True
    assert (pair.hot_copy(session.id), pair.archive_copy(session.id)) == (None, None)
    assert session.id in pair.hot_data.tombstones
    assert session.id in pair.archive_data.tombstones
    assert await delete(pair, session) is False


@pytest.mark.parametrize("second", [extend, sweep, sweep_again, purge, read, restore_and_purge])
@pytest.mark.parametrize("scene", [archived, expired, restored])
async def test_nothing_that_happens_while_a_session_is_deleted_brings_it_back(
    scene: Callable[[], Any], second: Callable[..., Any]
) -> None:
    async for race in races(scene, delete, second):
        assert race.first in (True, False), race.gap
        assert await only_copy(race) is None, race.gap
        with pytest.raises(SessionNotFoundError):
            await extend(race.pair, race.subject)


@pytest.mark.parametrize("scene", [archived, expired, restored])
async def test_a_deletion_that_crashed_can_be_made_again_and_is_then_complete(scene: Callable[[], Any]) -> None:
    async for race in crashes(scene, delete):
        await delete(race.pair, race.subject)
        assert await only_copy(race) is None, race.gap
        assert race.subject.id in race.pair.hot_data.tombstones
        assert race.subject.id in race.pair.archive_data.tombstones


async def test_a_deletion_that_the_archive_has_not_heard_of_is_seen_by_everybody() -> None:
    pair, session = await restored()
    pair.archive.down = True
    with pytest.raises(BackendUnavailableError):
        await delete(pair, session)
    pair.archive.down = False
    assert await read(await pair.another(), session) is None
    with pytest.raises(SessionNotFoundError):
        await extend(pair, session)


async def test_a_session_of_somebody_else_is_not_deleted() -> None:
    for scene in (archived, expired, restored):
        pair, session = await scene()
        assert await pair.tiers.delete(session.id, forget_at=FOREVER, owner="another") is False
        assert await read(pair, session) == session
        assert await pair.tiers.delete(session.id, forget_at=FOREVER, owner="analyst") is True


# Evicting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", [archived, expired, restored])
async def test_evicting_forgets_the_copies_of_both_tiers_and_leaves_no_tombstone(scene: Callable[[], Any]) -> None:
    pair, session = await scene()
    assert await pair.tiers.evict(session.id, version=session.version, head="another") is False
    assert await read(pair, session) == session
    assert await pair.tiers.evict(session.id, version=session.version, head=session.head) is True
    assert await read(pair, session) is None
    assert pair.told == []
    await create(pair, session)


async def test_an_age_of_tickets_is_by_the_clock_of_the_change() -> None:
    pair, session = await archived()
    change = ChangeMaker().change(at=LATER, expires_at=LATER + HOUR)
    pair.archive.when("read", before=lambda: purge_tickets(pair))
    assert await pair.tiers.apply(session.id, change) == Applied(2, 2)


async def purge_tickets(pair: Pair) -> None:
    await pair.hot.inner.purge(archived_before=START, now=LATER + timedelta(minutes=59), limit=1)
