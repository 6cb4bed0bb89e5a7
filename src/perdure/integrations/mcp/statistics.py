"""The numbers that `get-session-analytics` gives: of those that `perdure.analytics` has, what fits a conversation."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from perdure.analytics import SessionAnalytics
from perdure.store import UserSessions

__all__ = ["SessionStatistics", "statistics_of"]

TOP = 10
"""Entries of a ranking."""


class SessionStatistics(BaseModel):
    """What the sessions that were created within a period amount to; each number is that of `SessionStats`."""

    model_config = ConfigDict(from_attributes=True)

    total_sessions: int
    active_sessions: int
    """Not in the archive."""
    archived_sessions: int
    total_queries: int
    avg_queries_per_session: float
    avg_duration_seconds: float
    """From a session's creation to its last write, or touch."""
    abandonment_rate: float
    """Sessions that expired with fewer than two queries, by sessions, 0 to 1."""
    cache_hit_rate: float
    """Cache hits by queries, 0 to 1."""
    error_rate: float
    """Queries with an error, by queries, 0 to 1."""
    top_assets: dict[str, int]
    """Sessions by asset, most first."""
    query_type_distribution: dict[str, int]
    session_type_breakdown: dict[str, int]
    popular_tags: dict[str, int]
    period_days: int


async def statistics_of(
    sessions: UserSessions, *, user_id: str | None, session_type: str | None, days: int
) -> SessionStatistics:
    """Counted where the sessions are kept; `user_id` None means all that these sessions are of."""
    stats = await SessionAnalytics(sessions).get_session_stats(user_id, session_type, days, top=TOP)
    return SessionStatistics.model_validate(stats)
