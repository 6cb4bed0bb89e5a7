"""Pages of a session's history."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from perdure.backends import HistoryPage, SessionBackend
from perdure.testing.builders import ChangeMaker
from perdure.testing.conformance.steps import FOREVER, created, numbered, numbered_session

__all__ = ["HistoryPromises"]


class HistoryPromises:
    """`queries`."""

    @pytest.mark.parametrize(
        ("asked", "first", "last"),
        [
            ({"limit": 100}, 1, 9),
            ({"limit": 9}, 1, 9),
            ({"limit": 4}, 1, 4),
            ({"limit": 1}, 1, 1),
            ({"after": 3, "limit": 4}, 4, 7),
            ({"after": 7, "limit": 4}, 8, 9),
            ({"after": 2, "before": 6, "limit": 100}, 3, 5),
            ({"after": 2, "before": 6, "limit": 2}, 3, 4),
            ({"after": 2, "before": 100, "limit": 100}, 3, 9),
            ({"before": 6, "limit": 3}, 3, 5),
            ({"before": 6, "limit": 5}, 1, 5),
            ({"before": 6, "limit": 100}, 1, 5),
            ({"before": 2, "limit": 3}, 1, 1),
            ({"before": 10, "limit": 2}, 8, 9),
            ({"before": 100, "limit": 2}, 8, 9),
        ],
    )
    async def test_a_page_holds_the_queries_between_its_bounds(
        self, backend: SessionBackend, asked: dict[str, Any], first: int, last: int
    ) -> None:
        session = await created(backend, queries=numbered(9))
        page = await backend.queries(session.id, **asked)
        assert page == HistoryPage(session.queries[first - 1 : last], first, total=9)

    @pytest.mark.parametrize(
        "asked",
        [
            {"after": 9, "limit": 5},
            {"after": 50, "limit": 5},
            {"before": 1, "limit": 5},
            {"after": 4, "before": 5, "limit": 5},
            {"after": 6, "before": 3, "limit": 5},
        ],
    )
    async def test_a_page_with_nothing_between_its_bounds_is_empty_and_tells_the_total(
        self, backend: SessionBackend, asked: dict[str, Any]
    ) -> None:
        session = await created(backend, queries=numbered(9))
        page = await backend.queries(session.id, **asked)
        assert page is not None
        assert (page.bodies, page.total) == ([], 9)

    async def test_a_session_without_queries_has_one_empty_page(self, backend: SessionBackend) -> None:
        session = await created(backend)
        for before in (None, 1):
            assert await backend.queries(session.id, before=before, limit=5) == HistoryPage([], 1, total=0)

    async def test_paging_forward_gives_every_query_once(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(10))
        seen: list[str] = []
        while page := await backend.queries(session.id, after=len(seen), limit=3):
            if not page.bodies:
                break
            assert page.first_position == len(seen) + 1
            seen += page.bodies
        assert seen == session.queries

    async def test_paging_backwards_gives_every_query_once(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(10))
        seen: list[str] = []
        before = 11
        while before > 1:
            page = await backend.queries(session.id, before=before, limit=3)
            assert page is not None
            seen = page.bodies + seen
            before = page.first_position
        assert seen == session.queries

    async def test_queries_that_come_meanwhile_do_not_move_the_others(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(4))
        first = await backend.queries(session.id, limit=2)
        await backend.apply(session.id, ChangeMaker().change(queries=numbered(2, first=5)))
        second = await backend.queries(session.id, after=2, limit=2)
        assert first is not None
        assert second == HistoryPage(session.queries[2:], 3, total=6)
        assert first.bodies + second.bodies == session.queries

    async def test_the_owner_gets_a_page_and_nobody_else(self, backend: SessionBackend) -> None:
        session = numbered_session(2, user_id="analyst")
        await backend.create(session)
        nobodys = await created(backend, user_id=None)
        assert await backend.queries(session.id, limit=5, owner="analyst") == HistoryPage(session.queries, 1, total=2)
        assert await backend.queries(session.id, limit=5, owner="other") is None
        assert await backend.queries(nobodys.id, limit=5, owner="analyst") is None

    async def test_an_absent_or_deleted_session_has_no_page(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(2))
        await backend.delete(session.id, forget_at=FOREVER)
        assert await backend.queries(session.id, limit=5) is None
        assert await backend.queries(uuid4(), limit=5) is None
