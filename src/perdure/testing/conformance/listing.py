"""Listing sessions, page by page."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from perdure.backends import SessionBackend
from perdure.errors import InvalidCursorError
from perdure.models import SessionFilter, SessionSummary
from perdure.testing.builders import START, ChangeMaker, stored_query
from perdure.testing.conformance.steps import FOREVER, MICROSECOND, MINUTE, created, listed, whole

__all__ = ["ListingPromises"]

ONE: dict[str, Any] = {
    "user_id": "ann",
    "type": "comparative",
    "assets": ("AAPL", "GOOGL"),
    "tags": ("tech", "daily"),
    "created_at": START + MINUTE,
    "archived_at": START + 2 * MINUTE,
}
MATCHING: dict[str, dict[str, Any]] = {
    "owner": {"user_id": "ann"},
    "type": {"session_type": "comparative"},
    "asset": {"assets": ["GOOGL"]},
    "two assets": {"assets": ["GOOGL", "AAPL"]},
    "tag": {"tags": ["daily"]},
    "two tags": {"tags": ["daily", "tech"]},
    "created after": {"created_after": START + MINUTE},
    "created before": {"created_before": START + MINUTE + MICROSECOND},
    "archived": {"archived": True},
}
MISSING: dict[str, dict[str, Any]] = {
    "owner": {"user_id": "bob"},
    "type": {"session_type": "equity"},
    "asset": {"assets": ["MSFT"]},
    "one asset of two": {"assets": ["AAPL", "MSFT"]},
    "tag": {"tags": ["weekly"]},
    "one tag of two": {"tags": ["weekly", "tech"]},
    "created after": {"created_after": START + MINUTE + MICROSECOND},
    "created before": {"created_before": START + MINUTE},
    "archived": {"archived": False},
    "labels of another kind": {"tags": ["ann"]},
    "a part of a label": {"tags": ["tec"]},
    "a label in other letters": {"tags": ["Tech"]},
}


async def many(backend: SessionBackend, count: int, *, apart: timedelta = MINUTE, **facts: Any) -> list[UUID]:
    """Ids of so many sessions, in the order of a listing."""
    sessions = [await created(backend, created_at=START + number * apart, **facts) for number in range(count)]
    return [s.id for s in sorted(sessions, key=lambda s: (s.created_at, s.id), reverse=True)]


class ListingPromises:
    """`find`."""

    async def test_nothing_is_listed_where_nothing_is(self, backend: SessionBackend) -> None:
        page = await backend.find(SessionFilter(), limit=10)
        assert (page.items, page.next_cursor) == ([], None)

    async def test_a_listing_is_ordered_newest_first(self, backend: SessionBackend) -> None:
        ids = await many(backend, 5)
        assert await listed(backend) == ids

    async def test_sessions_of_one_instant_are_ordered_by_id(self, backend: SessionBackend) -> None:
        ids = await many(backend, 6, apart=timedelta())
        assert ids == sorted(ids, reverse=True)
        assert await listed(backend) == ids
        assert await listed(backend, limit=2) == ids

    async def test_a_summary_tells_the_facts(self, backend: SessionBackend) -> None:
        session = await created(backend, **ONE, queries=(stored_query(cache_hit=True), stored_query()), version=3)
        (summary,) = await backend.find(SessionFilter(), limit=1)
        assert summary == SessionSummary.of(session)
        assert (summary.total_queries, summary.cache_hits, summary.version) == (2, 1, 3)

    async def test_a_summary_follows_the_session(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.apply(session.id, ChangeMaker().query(add_tags=("new",), at=START + MINUTE))
        (summary,) = await backend.find(SessionFilter(), limit=1)
        assert summary == SessionSummary.of(await whole(backend, session.id))

    @pytest.mark.parametrize("wanted", MATCHING.values(), ids=MATCHING.keys())
    async def test_what_matches_a_filter_is_listed(self, backend: SessionBackend, wanted: dict[str, Any]) -> None:
        session = await created(backend, **ONE)
        assert await listed(backend, **wanted) == [session.id]

    @pytest.mark.parametrize("wanted", MISSING.values(), ids=MISSING.keys())
    async def test_what_does_not_match_a_filter_is_not_listed(
        self, backend: SessionBackend, wanted: dict[str, Any]
    ) -> None:
        await created(backend, **ONE)
        assert await listed(backend, **wanted) == []

    async def test_everything_in_a_filter_must_match(self, backend: SessionBackend) -> None:
        session = await created(backend, **ONE)
        wanted = {name: value for part in MATCHING.values() for name, value in part.items()}
        assert await listed(backend, **wanted) == [session.id]
        for part in MISSING.values():
            assert await listed(backend, **{**wanted, **part}) == []

    async def test_archived_sessions_are_listed_alone_left_out_or_among_the_others(
        self, backend: SessionBackend
    ) -> None:
        active = await created(backend, created_at=START)
        archived = await created(backend, created_at=START + MINUTE, archived_at=START + MINUTE)
        newest = await created(backend, created_at=START + 2 * MINUTE)
        assert await listed(backend, archived=True) == [archived.id]
        assert await listed(backend, archived=False) == [newest.id, active.id]
        assert await listed(backend, archived=None) == [newest.id, archived.id, active.id]

    async def test_names_with_signs_in_them_are_found_as_they_are(self, backend: SessionBackend) -> None:
        names = ("a:b", "tag:x", "%", "_", "*", "ü", "🚀", '"', "'; --", "a b", "{x}")
        sessions = [await created(backend, tags=(name,), user_id=name, assets=(name,)) for name in names]
        for name, session in zip(names, sessions, strict=True):
            assert await listed(backend, tags=[name], user_id=name, assets=[name]) == [session.id]

    @pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
    @pytest.mark.parametrize("wanted", [{}, {"tags": ["x"]}, {"user_id": "analyst", "tags": ["x"], "archived": False}])
    async def test_pages_are_full_complete_and_end_by_themselves(
        self, backend: SessionBackend, limit: int, wanted: dict[str, Any]
    ) -> None:
        ids = await many(backend, 6, tags=("x",))
        seen: list[UUID] = []
        cursor = None
        while len(seen) < 6:
            page = await backend.find(SessionFilter(**wanted), cursor=cursor, limit=limit)
            assert len(page) == min(limit, 6 - len(seen))
            seen += [summary.id for summary in page]
            cursor = page.next_cursor
            assert (cursor is None) == (len(seen) == 6)
        assert seen == ids

    async def test_pages_pass_over_what_does_not_match(self, backend: SessionBackend) -> None:
        expected = []
        for number in range(12):
            session = await created(
                backend, created_at=START + number * MINUTE, tags=("even",) if number % 2 == 0 else ()
            )
            expected += [session.id] if number % 2 == 0 else []
        assert await listed(backend, tags=["even"], limit=2) == expected[::-1]

    async def test_pages_stay_within_both_bounds(self, backend: SessionBackend) -> None:
        ids = await many(backend, 8)
        bounds = {"created_after": START + 2 * MINUTE, "created_before": START + 6 * MINUTE}
        assert await listed(backend, limit=2, **bounds) == ids[2:6]
        assert await listed(backend, limit=3, **bounds) == ids[2:6]

    async def test_what_stays_is_on_exactly_one_page_whatever_others_write(
        self, backend: SessionBackend, other: SessionBackend
    ) -> None:
        apart = await many(backend, 10, tags=("x",))
        seen: list[UUID] = []
        cursor = None
        deleted = {apart[3], apart[8]}  # the first is the last of its page, so that the cursor's own row is gone
        for number in range(20):
            page = await backend.find(SessionFilter(tags=("x",)), cursor=cursor, limit=4)
            seen += [summary.id for summary in page]
            cursor = page.next_cursor
            if cursor is None:
                break
            await created(other, created_at=START + timedelta(hours=number + 1), tags=("x",))
            for gone in deleted:
                await other.delete(gone, forget_at=FOREVER)
            if number == 0:
                for moved in (apart[1], apart[6]):
                    await other.apply(moved, ChangeMaker().query(archive=True))
        assert len(seen) == len(set(seen))
        assert set(apart) - deleted <= set(seen)
        assert [known for known in seen if known in apart] == [known for known in apart if known in seen]

    async def test_a_cursor_works_on_another_connection(self, backend: SessionBackend, other: SessionBackend) -> None:
        ids = await many(backend, 3)
        page = await backend.find(SessionFilter(), limit=2)
        rest = await other.find(SessionFilter(), cursor=page.next_cursor, limit=2)
        assert [summary.id for summary in (*page, *rest)] == ids

    async def test_what_comes_between_two_pages_at_the_cursors_instant_is_not_skipped(
        self, backend: SessionBackend
    ) -> None:
        ids = sorted([UUID(int=number, version=4) for number in range(10, 60, 10)], reverse=True)
        for session_id in ids:
            await created(backend, id=session_id)
        page = await backend.find(SessionFilter(), limit=2)
        below, above = UUID(int=ids[1].int - 1), UUID(int=ids[1].int + 1)
        await created(backend, id=below)
        await created(backend, id=above)
        rest = await backend.find(SessionFilter(), cursor=page.next_cursor, limit=10)
        assert [summary.id for summary in (*page, *rest)] == [*ids[:2], below, *ids[2:]]

    @pytest.mark.parametrize("bad", ["", "nonsense", "%%%", "é", "AAAA", "1", "x" * 500])
    async def test_what_no_listing_gave_out_is_no_cursor(self, backend: SessionBackend, bad: str) -> None:
        await created(backend)
        with pytest.raises(InvalidCursorError):
            await backend.find(SessionFilter(), cursor=bad, limit=1)

    async def test_a_cursor_that_was_cut_or_lengthened_is_no_cursor(self, backend: SessionBackend) -> None:
        await many(backend, 2)
        cursor = (await backend.find(SessionFilter(), limit=1)).next_cursor
        assert cursor is not None
        for bad in (cursor[:-4], cursor + "AAAA"):
            with pytest.raises(InvalidCursorError):
                await backend.find(SessionFilter(), cursor=bad, limit=1)
