"""The statistics of the replayed log are those that its README promises, wherever its sessions are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from tests.examples.trace import TRACE, replay_trace

from perdure import SessionFilter, SessionStore, Settings
from perdure.analytics import SessionAnalytics, SessionStats

PLACES: dict[str, tuple[str, ...]] = {
    "memory": (),
    "sqlite": (),
    "postgres": ("postgres_url",),
    "redis": ("redis_url",),
    "redis over postgres": ("redis_url", "postgres_url", "archive"),
    "redis over postgres, hot": ("redis_url", "postgres_url", "hot"),
}


@pytest.fixture
def clock() -> Any:
    return replay_trace().ReplayClock()


@pytest.fixture(params=PLACES)
async def store(request: pytest.FixtureRequest, clock: Any, tmp_path: Any) -> AsyncIterator[SessionStore]:
    """A store in each place, with the log in it."""
    match PLACES[request.param]:
        case ():
            where: dict[str, Any] = {"url": "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/t.db"}
        case (url,):
            where = {"url": request.getfixturevalue(url)}
        case (url, archive, acknowledge):
            where = {"url": request.getfixturevalue(url), "archive": request.getfixturevalue(archive)}
            where["acknowledge"] = acknowledge
        case other:
            raise AssertionError(other)
    settings = Settings(sweep_on_open=False, sweep_in_background=False, session_retention_days=10)
    async with SessionStore.open(**where, settings=settings, clock=clock) as store:
        await replay_trace().replay(store, replay_trace().read_trace(TRACE), clock=clock)
        yield store


def assert_promised(stats: SessionStats, *, archived: int) -> None:
    """Every total of the log's README."""
    assert (stats.total_sessions, stats.archived_sessions, stats.active_sessions) == (421, archived, 421 - archived)
    assert stats.total_queries == 1_490
    assert round(stats.avg_queries_per_session, 4) == 3.5392
    assert stats.longest_session == 8
    assert list(stats.top_assets.items())[:3] == [("ETR", 36), ("UNP", 23), ("PM", 22)]
    assert stats.query_type_distribution == {"raw": 1_004, "percent": 332, "ratio": 137, "none": 17}
    assert round(stats.avg_execution_time_ms, 2) == 2_910.26
    assert stats.execution_time_ms.count == 1_490
    assert (stats.session_type_breakdown, stats.users, stats.returning_users) == ({"equity": 421}, 1, 1)
    assert (stats.error_rate, stats.cache_hit_rate) == (0, 0)
    assert sum(stats.queries_by_day.values()) == sum(stats.queries_by_hour) == 1_490


async def test_the_totals_are_the_same_wherever_the_sessions_are(store: SessionStore, clock: Any) -> None:
    analytics = SessionAnalytics(store)

    async def promised(*, archived: int) -> SessionStats:
        stats = await analytics.get_session_stats()
        assert_promised(stats, archived=archived)
        assert_promised(await analytics.get_session_stats("convfinqa", "equity"), archived=archived)
        return stats

    before = await promised(archived=0)
    clock.now += timedelta(hours=24)
    assert (await store.cleanup_expired_sessions(limit=210)).archived == 210
    await promised(archived=210)
    await store.generate_session_metrics()
    half = await promised(archived=210)
    assert half.execution_time_ms == before.execution_time_ms
    assert half.execution_time_ms_by_query_type == before.execution_time_ms_by_query_type

    assert (await store.cleanup_expired_sessions()).archived == 211
    after = await promised(archived=421)
    assert after.abandonment_rate == half.abandonment_rate

    restored = (await store.list_sessions(SessionFilter(archived=True), limit=20)).items
    for session in restored:
        await store.extend_session(session.id, hours=24 * 7)
    await promised(archived=401)
    await store.generate_session_metrics()

    clock.now += timedelta(days=11)
    assert (await store.delete_old_archived_sessions()).deleted == 401
    await promised(archived=401)
    assert (await store.cleanup_expired_sessions()).archived == 20
    await store.generate_session_metrics()
    await promised(archived=421)
