"""Statistics, counted where the sessions are."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from perdure.backends import SessionBackend
from perdure.models import SessionFilter, SessionTotals
from perdure.testing.builders import START, ChangeMaker, stored_query, stored_session
from perdure.testing.conformance.steps import EXPIRY, MINUTE, created, listed, numbered, numbered_session

__all__ = ["AggregatingPromises"]


async def three_sessions(backend: SessionBackend) -> None:
    """Two of Ann, one of Bob; Ann's second is archived."""
    await created(
        backend,
        user_id="ann",
        type="comparative",
        assets=("MSFT", "AAPL"),
        tags=("tech",),
        queries=(
            stored_query("price", cache_hit=True, execution_time_ms=1.5),
            stored_query("price", error="no such symbol", execution_time_ms=0),
            stored_query("news", error=""),
        ),
    )
    await created(
        backend,
        user_id="ann",
        assets=("AAPL",),
        tags=("tech", "daily"),
        archived_at=EXPIRY,
        created_at=START + MINUTE,
        queries=(stored_query("news", execution_time_ms=10), stored_query("größe", cache_hit=True)),
    )
    await created(backend, user_id="bob", type="comparative", assets=("NVDA",), created_at=START + 2 * MINUTE)


ALL = SessionTotals(
    sessions=3,
    archived_sessions=1,
    total_queries=5,
    cache_hits=2,
    errors=2,
    longest_session=3,
    execution_time_ms=11.5,
    timed_queries=3,
    assets={"AAPL": 2, "MSFT": 1, "NVDA": 1},
    tags={"tech": 2, "daily": 1},
    session_types={"comparative": 2, "equity": 1},
    query_types={"news": 2, "price": 2, "größe": 1},
)


class AggregatingPromises:
    """`aggregate`."""

    async def test_nothing_amounts_to_nothing(self, backend: SessionBackend) -> None:
        assert await backend.aggregate(SessionFilter()) == SessionTotals()

    async def test_every_number_is_counted(self, backend: SessionBackend) -> None:
        await three_sessions(backend)
        assert await backend.aggregate(SessionFilter()) == ALL

    async def test_counts_are_ranked_most_first_then_by_name(self, backend: SessionBackend) -> None:
        await three_sessions(backend)
        totals = await backend.aggregate(SessionFilter())
        assert [list(ranking.items()) for ranking in (totals.assets, totals.tags)] == [
            [("AAPL", 2), ("MSFT", 1), ("NVDA", 1)],
            [("tech", 2), ("daily", 1)],
        ]
        assert list(totals.query_types) == ["news", "price", "größe"]
        assert list(totals.session_types) == ["comparative", "equity"]

    @pytest.mark.parametrize(
        ("wanted", "numbers"),
        [
            ({"user_id": "ann"}, (2, 5, 2, 3)),
            ({"user_id": "bob"}, (1, 0, 0, 0)),
            ({"user_id": "nobody"}, (0, 0, 0, 0)),
            ({"session_type": "comparative"}, (2, 3, 1, 3)),
            ({"assets": ["AAPL"]}, (2, 5, 2, 3)),
            ({"assets": ["AAPL", "MSFT"]}, (1, 3, 1, 3)),
            ({"tags": ["daily"]}, (1, 2, 1, 2)),
            ({"archived": True}, (1, 2, 1, 2)),
            ({"archived": False}, (2, 3, 1, 3)),
            ({"created_after": START + MINUTE}, (2, 2, 1, 2)),
            ({"created_before": START + MINUTE}, (1, 3, 1, 3)),
            ({"created_after": START + MINUTE, "created_before": START + 2 * MINUTE}, (1, 2, 1, 2)),
            ({"user_id": "ann", "tags": ["tech"], "assets": ["AAPL"], "archived": True}, (1, 2, 1, 2)),
        ],
    )
    async def test_only_what_matches_is_counted(
        self, backend: SessionBackend, wanted: dict[str, Any], numbers: tuple[int, int, int, int]
    ) -> None:
        await three_sessions(backend)
        totals = await backend.aggregate(SessionFilter(**wanted))
        assert (totals.sessions, totals.total_queries, totals.cache_hits, totals.longest_session) == numbers
        assert sum(totals.query_types.values()) == totals.total_queries
        assert sum(totals.session_types.values()) == totals.sessions

    async def test_those_left_out_do_not_count(self, backend: SessionBackend) -> None:
        await three_sessions(backend)
        ids = await listed(backend)
        whole = await backend.aggregate(SessionFilter())
        rest = await backend.aggregate(SessionFilter(), without=[ids[0], uuid4()])
        only = await backend.aggregate(SessionFilter(), without=ids[1:])
        assert (rest.sessions, only.sessions) == (2, 1)
        for name in ("total_queries", "cache_hits", "errors", "timed_queries", "execution_time_ms"):
            assert getattr(rest, name) + getattr(only, name) == getattr(whole, name)
        assert await backend.aggregate(SessionFilter(), without=ids) == SessionTotals()

    async def test_totals_follow_changes(self, backend: SessionBackend) -> None:
        session = await created(backend, tags=("old",), queries=numbered(1))
        query = stored_query("late", cache_hit=True, execution_time_ms=2.25, error="late")
        change = ChangeMaker().change(queries=(query,), add_tags=("new",), remove_tags=("old",), archive=True)
        await backend.apply(session.id, change)
        assert await backend.aggregate(SessionFilter()) == SessionTotals(
            sessions=1,
            archived_sessions=1,
            total_queries=2,
            cache_hits=1,
            errors=1,
            longest_session=2,
            execution_time_ms=2.25,
            timed_queries=1,
            assets={"AAPL": 1},
            tags={"new": 1},
            session_types={"equity": 1},
            query_types={"late": 1, "query-1": 1},
        )

    async def test_a_query_that_nobody_can_read_is_counted_as_an_error(self, backend: SessionBackend) -> None:
        session = numbered_session(2)
        await backend.create(replace(session, queries=[session.queries[0], "not json"]))
        totals = await backend.aggregate(SessionFilter())
        assert (totals.total_queries, totals.errors) == (2, 1)
        assert totals.query_types == {"query-1": 1, "unreadable": 1}

    async def test_what_people_put_into_a_query_is_not_taken_for_its_facts(self, backend: SessionBackend) -> None:
        facts = {"error": "x", "execution_time_ms": 5, "query_type": "other", "cache_hit": True}
        await backend.create(stored_session(queries=(stored_query("price", parameters=facts, metadata=facts),)))
        totals = await backend.aggregate(SessionFilter())
        assert (totals.errors, totals.timed_queries, totals.cache_hits) == (0, 0, 0)
        assert totals.query_types == {"price": 1}
