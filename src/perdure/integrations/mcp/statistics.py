"""The numbers that `get-session-analytics` gives."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel

from perdure import SessionFilter, SessionStore, SessionTotals
from perdure.integrations.mcp.binding import own_tags

__all__ = ["SessionStatistics", "statistics_of"]

TOP = 10
"""Entries of a ranking."""


class SessionStatistics(BaseModel):
    """What the sessions that were created within a period amount to."""

    total_sessions: int
    active_sessions: int
    """Not in the archive."""
    archived_sessions: int
    total_queries: int
    avg_queries_per_session: float
    cache_hit_rate: float
    """Cache hits by queries, 0 to 1."""
    top_assets: dict[str, int]
    """Sessions by asset, most first."""
    query_type_distribution: dict[str, int]
    session_type_breakdown: dict[str, int]
    popular_tags: dict[str, int]
    period_days: int


async def statistics_of(
    store: SessionStore,
    *,
    user_id: str | None,
    session_type: str | None,
    days: int,
    now: datetime,
    only_of: str | None = None,
) -> SessionStatistics:
    """Counted where the sessions are kept; `user_id` None means everybody's.

    For whom only the sessions of one user exist (`only_of`), another user has none.
    """
    wanted = SessionFilter(user_id=user_id, session_type=session_type, created_after=now - timedelta(days=days))
    totals = SessionTotals() if only_of not in (None, user_id) else await store.get_totals(wanted)
    return SessionStatistics(
        total_sessions=totals.sessions,
        active_sessions=totals.sessions - totals.archived_sessions,
        archived_sessions=totals.archived_sessions,
        total_queries=totals.total_queries,
        avg_queries_per_session=totals.total_queries / totals.sessions if totals.sessions else 0.0,
        cache_hit_rate=totals.cache_hits / totals.total_queries if totals.total_queries else 0.0,
        top_assets=_top(totals.assets),
        query_type_distribution=totals.query_types,
        session_type_breakdown=totals.session_types,
        popular_tags=_top({tag: totals.tags[tag] for tag in own_tags(totals.tags)}),
        period_days=days,
    )


def _top(ranked: dict[str, int]) -> dict[str, int]:
    return dict(list(ranked.items())[:TOP])
