"""A session's whole life in a store, with everything that the server is asked for on the way."""

from __future__ import annotations

from datetime import timedelta

from perdure import QueryRecord, SessionFilter, SessionStore, Settings
from perdure.analytics import SessionAnalytics
from perdure.testing import ManualClock

__all__ = ["live_in"]


async def live_in(url: str) -> None:
    """Create, track, list, archive, count, extend, delete, and what maintenance and operators do besides."""
    clock = ManualClock()
    quiet = Settings(sweep_on_open=False, sweep_in_background=False)
    async with SessionStore.open(url, settings=quiet, clock=clock) as store:
        ended, kept = [
            (await store.create_session(["AAPL"], "equity", "ann", ttl_hours=1, tags=["q3"])).id for _ in range(2)
        ]
        for session_id in (ended, kept):
            await store.track_query(session_id, QueryRecord(query_type="price", execution_time_ms=1.5))
            await store.update_context(session_id, focus="margins")
        assert len(await store.get_queries(kept)) == 1
        assert len(await store.list_sessions(SessionFilter(tags=("q3",)))) == 2
        await _archive(store, clock, expected=2)
        restored = await store.extend_session(kept, hours=1)
        assert not restored.is_archived
        await store.track_query(kept, QueryRecord(query_type="news"))
        await _archive(store, clock, expected=1)
        assert await store.delete_session(kept)
        assert await store.get_session(kept) is None
        clock.advance(timedelta(days=400))
        assert (await store.delete_old_archived_sessions(365)).session_ids == [ended]
        await store.generate_session_metrics()
        statistics = await SessionAnalytics(store).get_session_stats(days=1_000)
        assert statistics.total_sessions == 1, "statistics outlive what retention removes"
        assert (await store.get_totals()).sessions == 0
        assert (await store.health()).ok


async def _archive(store: SessionStore, clock: ManualClock, *, expected: int) -> None:
    clock.advance(timedelta(hours=2))
    report = await store.cleanup_expired_sessions()
    assert (report.archived, report.failed) == (expected, {})
    assert await store.generate_session_metrics() > 0
