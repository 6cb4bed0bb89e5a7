"""Adding up sessions: what `aggregate` gives, for backends that have no engine of their own to count with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from perdure.models import SessionTotals, StoredSession, read_query

__all__ = ["ranked", "totals_of"]


def ranked(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts, most first, then by name."""
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def totals_of(sessions: Iterable[StoredSession]) -> SessionTotals:
    """The totals of whole sessions."""
    numbers: Counter[str] = Counter()
    assets: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    session_types: Counter[str] = Counter()
    query_types: Counter[str] = Counter()
    longest, milliseconds = 0, 0.0
    for session in sessions:
        numbers["sessions"] += 1
        numbers["archived_sessions"] += session.archived_at is not None
        numbers["total_queries"] += session.total_queries
        numbers["cache_hits"] += session.cache_hits
        longest = max(longest, session.total_queries)
        assets.update(session.assets)
        tags.update(session.tags)
        session_types[session.type] += 1
        for position, body in enumerate(session.queries, session.first_position):
            query = read_query(body, position)
            query_types[query.query_type] += 1
            numbers["errors"] += query.error is not None
            numbers["timed_queries"] += query.execution_time_ms is not None
            milliseconds += query.execution_time_ms or 0.0
    return SessionTotals(
        **numbers,
        longest_session=longest,
        execution_time_ms=milliseconds,
        assets=ranked(assets),
        tags=ranked(tags),
        session_types=ranked(session_types),
        query_types=ranked(query_types),
    )
