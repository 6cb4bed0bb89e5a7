"""Creating sessions and reading them back."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from perdure.backends import SessionBackend
from perdure.errors import SessionExistsError
from perdure.testing.builders import START, ChangeMaker, stored_query, stored_session
from perdure.testing.conformance.steps import FOREVER, MINUTE, archived_session, created, numbered, whole

__all__ = ["ReadingPromises"]


class ReadingPromises:
    """`create`, `read`."""

    async def test_a_session_comes_back_whole(self, backend: SessionBackend) -> None:
        session = stored_session(
            assets=("AAPL", "GOOGL"),
            tags=("tech", "daily"),
            queries=(
                stored_query("price", cache_hit=True),
                stored_query("news", timestamp=START + MINUTE, error="no such symbol"),
            ),
            sections={
                "context": {"focus": "margins"},
                "preferences": {"focus": "detailed"},
                "intermediate_results": {"ratio": 1.5},
                "metadata": {"ticket": None},
            },
            version=7,
            writers=ChangeMaker().writer.bytes + bytes(24),
        )
        await backend.create(session)
        assert await whole(backend, session.id) == session

    async def test_a_session_without_anything_comes_back(self, backend: SessionBackend) -> None:
        session = await created(backend, user_id=None, assets=(), head="")
        assert await whole(backend, session.id) == session

    async def test_an_expired_and_archived_session_comes_back(self, backend: SessionBackend) -> None:
        session = archived_session(expires_at=START)
        await backend.create(session)
        assert await whole(backend, session.id) == session

    @pytest.mark.parametrize("year", [1969, 2038, 9999])
    async def test_instants_are_exact_to_the_microsecond(self, backend: SessionBackend, year: int) -> None:
        instant = datetime(year, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
        session = await created(
            backend,
            created_at=instant - timedelta(days=1),
            expires_at=instant,
            last_accessed_at=instant - timedelta(microseconds=1),
            archived_at=instant,
            queries=(stored_query(timestamp=instant),),
        )
        assert await whole(backend, session.id) == session

    async def test_nothing_is_there_under_an_id_never_used(self, backend: SessionBackend) -> None:
        await created(backend)
        assert await backend.read(uuid4()) is None

    async def test_an_id_in_use_cannot_be_created_again(self, backend: SessionBackend) -> None:
        session = await created(backend)
        with pytest.raises(SessionExistsError) as caught:
            await backend.create(stored_session(id=session.id, tags=("other",), queries=numbered(2)))
        assert caught.value.session_id == session.id
        assert await whole(backend, session.id) == session

    async def test_an_id_that_was_deleted_cannot_be_created_again(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.delete(session.id, forget_at=FOREVER)
        with pytest.raises(SessionExistsError):
            await backend.create(session)
        assert await backend.read(session.id) is None

    async def test_sessions_do_not_mix(self, backend: SessionBackend) -> None:
        first = await created(backend, queries=numbered(2), sections={"context": {"a": 1}})
        second = await created(backend, queries=numbered(3, first=7), sections={"context": {"a": 2, "b": 3}})
        assert [await whole(backend, first.id), await whole(backend, second.id)] == [first, second]

    @pytest.mark.parametrize(("history", "loaded"), [(0, 0), (1, 1), (2, 2), (5, 5), (6, 5), (1_000, 5), (None, 5)])
    async def test_the_newest_queries_are_read_and_the_counters_are_of_all(
        self, backend: SessionBackend, history: int | None, loaded: int
    ) -> None:
        queries = (*numbered(4), stored_query("last", cache_hit=True))
        session = await created(backend, queries=queries, sections={"context": {"a": 1}})
        read = await backend.read(session.id, history=history)
        assert read == replace(session, queries=session.queries[5 - loaded :], first_position=6 - loaded)
        assert (read.total_queries, read.cache_hits) == (5, 1)

    async def test_a_session_without_queries_is_read_with_any_history(self, backend: SessionBackend) -> None:
        session = await created(backend)
        assert [await backend.read(session.id, history=history) for history in (0, 1, None)] == [session] * 3

    async def test_reading_writes_nothing(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(3))
        await backend.read(session.id, history=1)
        await backend.read(session.id)
        assert await whole(backend, session.id) == session

    async def test_what_was_handed_in_or_out_is_not_what_is_kept(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(1), sections={"context": {"a": 1}})
        before = session.copy()
        for copy in (session, await whole(backend, session.id)):
            copy.sections["context"]["b"] = "2"
            copy.queries.append("{}")
            copy.version = 9
        assert await whole(backend, session.id) == before
