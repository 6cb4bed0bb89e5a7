"""`acknowledge="hot"`: listings and totals over both tiers, while sessions move between them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.backends.tiered.pairs import Pair, opened
from tests.backends.tiered.races import races

from perdure import SessionFilter
from perdure.backends.tiered.listing import TRIES, matches
from perdure.errors import BackendUnavailableError, InvalidCursorError
from perdure.models import SessionSummary, StoredSession
from perdure.testing import START, ChangeMaker, stored_session
from perdure.testing.conformance.steps import EXPIRY, FOREVER, HOUR, MINUTE, listed, numbered

DAY = timedelta(days=1)


async def many(*, active: int = 6, in_archive: int = 6, restored: int = 3) -> tuple[Pair, list[StoredSession]]:
    """Sessions that lie in turn in one tier, in the other and in both; newest first."""
    pair = await opened("hot")
    kinds = ["active", "archived", "restored"] * max(active, in_archive, restored)
    left = {"active": active, "archived": in_archive, "restored": restored}
    sessions: list[StoredSession] = []
    for kind in kinds:
        if not left[kind]:
            continue
        left[kind] -= 1
        created = START + len(sessions) * MINUTE
        facts: dict[str, Any] = {"created_at": created, "tags": (kind,), "queries": numbered(1)}
        if kind == "active":
            sessions.append(stored_session(expires_at=FOREVER, **facts))
            await pair.tiers.create(sessions[-1], fresh=True)
            continue
        sessions.append(await pair.archived(expires_at=EXPIRY, **facts))
        if kind == "restored":
            await extend(pair, sessions[-1])
    return pair, sessions[::-1]


async def extend(pair: Pair, session: StoredSession) -> None:
    change = ChangeMaker().query(at=EXPIRY, expires_at=FOREVER - HOUR, add_tags=("again",), remove_tags=("restored",))
    await pair.tiers.apply(session.id, change)


async def sweep(pair: Pair) -> None:
    await pair.sweep(at=FOREVER)


async def pages(
    pair: Pair, *, limit: int, between: Callable[[int], Awaitable[None]] | None = None, **wanted: Any
) -> list[UUID]:
    """The ids on all pages, with something in between."""
    found: list[UUID] = []
    cursor, number = None, 0
    while True:
        page = await pair.tiers.find(SessionFilter(**wanted), cursor=cursor, limit=limit)
        assert len(page) == limit or page.next_cursor is None
        found += [summary.id for summary in page]
        cursor, number = page.next_cursor, number + 1
        if cursor is None:
            return found
        if between is not None:
            await between(number)


# Pages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 14, 15, 16, 99])
async def test_both_tiers_are_one_listing_newest_first(limit: int) -> None:
    pair, sessions = await many()
    assert await pages(pair, limit=limit) == [session.id for session in sessions]


@pytest.mark.parametrize("limit", [1, 2, 3, 99])
@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        ({"archived": True}, ["archived"]),
        ({"archived": False}, ["active", "restored"]),
        ({"tags": ["archived"]}, ["archived"]),
        ({"tags": ["restored"]}, []),
        ({"tags": ["again"]}, ["restored"]),
        ({"tags": ["active"], "archived": True}, []),
        ({"user_id": "analyst", "assets": ["AAPL"], "session_type": "equity"}, ["active", "archived", "restored"]),
        ({"user_id": "nobody"}, []),
    ],
    ids=str,
)
async def test_a_filter_is_about_what_the_tier_that_judges_holds(
    wanted: dict[str, Any], kinds: list[str], limit: int
) -> None:
    pair, sessions = await many()
    expected = [session.id for session in sessions if session.tags[0] in kinds]
    assert await pages(pair, limit=limit, **wanted) == expected


@pytest.mark.parametrize("limit", [1, 4])
async def test_times_are_bounds_in_both_tiers(limit: int) -> None:
    pair, sessions = await many()
    bounds: dict[str, Any] = {"created_after": sessions[10].created_at, "created_before": sessions[3].created_at}
    assert await pages(pair, limit=limit, **bounds) == [session.id for session in sessions[4:11]]


async def test_a_summary_says_what_the_tier_that_judges_holds() -> None:
    pair, _sessions = await many()
    for summary in await pair.tiers.find(SessionFilter(), limit=99):
        stored = await pair.tiers.read(summary.id)
        assert stored is not None
        assert summary == SessionSummary.of(stored)
        assert not summary.is_stale


async def test_a_page_that_one_tier_alone_fills_leaves_out_nothing_of_the_other() -> None:
    pair = await opened("hot")
    old = [await pair.archived(created_at=START - n * MINUTE) for n in range(3)]
    new = [stored_session(created_at=START + n * MINUTE, expires_at=FOREVER) for n in range(1, 6)]
    for session in new:
        await pair.tiers.create(session, fresh=True)
    expected = [*(session.id for session in new[::-1]), *(session.id for session in old)]
    for limit in range(1, 9):
        assert await pages(pair, limit=limit) == expected


async def test_what_was_deleted_half_way_is_not_listed() -> None:
    pair, sessions = await many()
    pair.archive.down = True
    for session in sessions[:5]:
        with pytest.raises(BackendUnavailableError):
            await pair.tiers.delete(session.id, forget_at=FOREVER)
    pair.archive.down = False
    assert await pages(pair, limit=2) == [session.id for session in sessions[5:]]


async def test_a_cursor_of_somebody_else_is_refused() -> None:
    pair, _ = await many()
    with pytest.raises(InvalidCursorError):
        await pair.tiers.find(SessionFilter(), cursor="nonsense", limit=3)


# While sessions move ------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 4])
async def test_sessions_that_move_between_two_pages_are_on_exactly_one(limit: int) -> None:
    pair, sessions = await many()
    archived = [session for session in sessions if session.tags == ("archived",)]

    async def move(number: int) -> None:
        if number % 2:
            await sweep(pair)
        elif number // 2 <= len(archived):
            await extend(pair, archived[number // 2 - 1])

    assert await pages(pair, limit=limit, between=move) == [session.id for session in sessions]


async def scene() -> tuple[Pair, list[StoredSession]]:
    return await many(active=1, in_archive=2, restored=1)


async def list_all(pair: Pair, sessions: list[StoredSession]) -> list[UUID]:
    return await listed(pair.tiers, limit=2)


async def count_all(pair: Pair, sessions: list[StoredSession]) -> tuple[int, int]:
    totals = await pair.tiers.aggregate(SessionFilter())
    return totals.sessions, totals.total_queries


async def sweep_all(pair: Pair, sessions: list[StoredSession]) -> None:
    await sweep(pair)


async def restore_all(pair: Pair, sessions: list[StoredSession]) -> None:
    for session in sessions:
        if session.tags == ("archived",):
            await pair.tiers.apply(session.id, ChangeMaker().change(at=EXPIRY, expires_at=FOREVER - HOUR))


@pytest.mark.parametrize("move", [sweep_all, restore_all])
async def test_sessions_that_move_in_the_middle_of_a_page_are_listed_once(move: Callable[..., Any]) -> None:
    async for race in races(scene, list_all, move):
        assert race.second is None, race.gap
        assert race.first == [session.id for session in race.subject], race.gap


@pytest.mark.parametrize("move", [sweep_all, restore_all])
async def test_sessions_that_move_while_they_are_counted_count_once(move: Callable[..., Any]) -> None:
    async for race in races(scene, count_all, move):
        assert race.first == (4, 5), race.gap


# Totals -------------------------------------------------------------------------------------------


async def test_totals_are_of_both_tiers_and_of_each_session_once() -> None:
    pair, sessions = await many()
    totals = await pair.tiers.aggregate(SessionFilter())
    assert (totals.sessions, totals.archived_sessions, totals.total_queries) == (15, 6, 18)
    assert totals.longest_session == 2
    assert totals.tags == {"active": 6, "archived": 6, "again": 3}
    assert list(totals.query_types.items()) == [("query-1", 15), ("price", 3)]
    one = await pair.tiers.aggregate(SessionFilter(), without=[sessions[0].id, sessions[1].id, sessions[2].id])
    assert one.sessions == 12
    assert (await pair.tiers.aggregate(SessionFilter(tags=("restored",)))).sessions == 0
    assert (await pair.tiers.aggregate(SessionFilter(archived=False))).sessions == 9


async def test_totals_are_given_although_sessions_never_rest() -> None:
    pair, sessions = await many(active=0, in_archive=1, restored=0)
    (session,) = sessions
    now = EXPIRY

    async def move() -> None:
        nonlocal now
        now += 2 * MINUTE
        if pair.hot_copy(session.id) is not None:
            await pair.sweep(at=now)
        else:
            await pair.tiers.apply(session.id, ChangeMaker().change(at=now, expires_at=now + MINUTE))

    for _ in range(TRIES + 1):
        pair.archive.when("aggregate", after=move)
    await pair.tiers.aggregate(SessionFilter())  # of which nobody can say more than that it was nearly so
    assert pair.hot.calls.count("aggregate") == TRIES


async def test_totals_need_both_tiers() -> None:
    for tier in ("hot", "archive"):
        pair, _ = await many()
        (pair.hot if tier == "hot" else pair.archive).down = True
        with pytest.raises(BackendUnavailableError):
            await pair.tiers.aggregate(SessionFilter())


# One tier down ------------------------------------------------------------------------------------


@pytest.mark.parametrize("archived", [None, True])
async def test_while_hot_is_down_the_archive_is_listed_and_says_so(archived: bool | None) -> None:
    pair, sessions = await many()
    pair.hot.down = True
    page = await pair.tiers.find(SessionFilter(archived=archived), limit=99)
    assert [summary.id for summary in page] == [session.id for session in sessions if session.tags != ("active",)]
    assert page.is_stale
    assert all(summary.is_stale for summary in page)


@pytest.mark.parametrize("method", ["find", "copies", "read"])
async def test_where_hot_goes_down_in_the_middle_of_a_page_the_archive_is_listed(method: str) -> None:
    pair, sessions = await many()
    other = await pair.another()
    pair.archive.when("find", after=lambda: extend(other, sessions[-2]))  # so that hot is asked for what it is now
    pair.hot.when(method, before=_gone)
    page = await pair.tiers.find(SessionFilter(), limit=99)
    assert page.is_stale
    assert [summary.id for summary in page] == [session.id for session in sessions if session.tags != ("active",)]


async def _gone() -> None:
    raise BackendUnavailableError("memory", "gone")


async def test_a_listing_that_is_in_part_stale_says_so_on_those_pages() -> None:
    pair, _sessions = await many()
    first = await pair.tiers.find(SessionFilter(), limit=4)
    pair.hot.down = True
    second = await pair.tiers.find(SessionFilter(), cursor=first.next_cursor, limit=4)
    assert (first.is_stale, second.is_stale) == (False, True)


async def test_active_sessions_are_not_said_to_be_none_while_hot_is_down() -> None:
    pair, _ = await many()
    pair.hot.down = True
    with pytest.raises(BackendUnavailableError, match="nobody answers"):
        await pair.tiers.find(SessionFilter(archived=False), limit=99)


async def test_active_sessions_are_listed_while_the_archive_is_down() -> None:
    pair, sessions = await many()
    pair.archive.down = True
    active = [session.id for session in sessions if session.tags != ("archived",)]
    assert await pages(pair, limit=2, archived=False) == active
    for archived in (None, True):
        with pytest.raises(BackendUnavailableError):
            await pair.tiers.find(SessionFilter(archived=archived), limit=99)


# The filter once more -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, True),
        ({"user_id": "analyst"}, True),
        ({"user_id": "another"}, False),
        ({"session_type": "equity"}, True),
        ({"session_type": "macro"}, False),
        ({"assets": ["AAPL"]}, True),
        ({"assets": ["AAPL", "MSFT"]}, False),
        ({"tags": ["x", "y"]}, True),
        ({"tags": ["z"]}, False),
        ({"created_after": START}, True),
        ({"created_after": START + MINUTE}, False),
        ({"created_before": START}, False),
        ({"created_before": START + MINUTE}, True),
        ({"archived": False}, True),
        ({"archived": True}, False),
    ],
    ids=str,
)
async def test_a_summary_matches_what_a_backend_would_list(wanted: dict[str, Any], expected: bool) -> None:
    pair = await opened("hot")
    session = stored_session(tags=("x", "y"))
    await pair.tiers.create(session)
    assert matches(SessionSummary.of(session), SessionFilter(**wanted)) is expected
    assert await listed(pair.hot, **wanted) == ([session.id] if expected else [])
