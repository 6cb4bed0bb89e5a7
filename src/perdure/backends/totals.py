"""Adding up sessions: what `aggregate` gives, for backends that have no engine of their own to count with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from perdure.models import SessionTotals, StoredSession, read_query

__all__ = ["Tally", "ranked", "totals_of"]


def ranked(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts, most first, then by name."""
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def totals_of(sessions: Iterable[StoredSession]) -> SessionTotals:
    """The totals of whole sessions."""
    tally = Tally()
    for session in sessions:
        tally.add(session)
    return tally.totals()


class Tally:
    """Totals that grow, one whole session at a time."""

    def __init__(self) -> None:
        self._numbers: Counter[str] = Counter()
        self._assets: Counter[str] = Counter()
        self._tags: Counter[str] = Counter()
        self._session_types: Counter[str] = Counter()
        self._query_types: Counter[str] = Counter()
        self._longest = 0
        self._milliseconds = 0.0

    def add(self, session: StoredSession) -> None:
        """Count a session and its queries."""
        numbers = self._numbers
        numbers["sessions"] += 1
        numbers["archived_sessions"] += session.archived_at is not None
        numbers["total_queries"] += session.total_queries
        numbers["cache_hits"] += session.cache_hits
        self._longest = max(self._longest, session.total_queries)
        self._assets.update(session.assets)
        self._tags.update(session.tags)
        self._session_types[session.type] += 1
        for position, body in enumerate(session.queries, session.first_position):
            query = read_query(body, position)
            self._query_types[query.query_type] += 1
            numbers["errors"] += query.error is not None
            numbers["timed_queries"] += query.execution_time_ms is not None
            self._milliseconds += query.execution_time_ms or 0.0

    def totals(self) -> SessionTotals:
        """What it amounts to so far."""
        return SessionTotals(
            **self._numbers,
            longest_session=self._longest,
            execution_time_ms=self._milliseconds,
            assets=ranked(self._assets),
            tags=ranked(self._tags),
            session_types=ranked(self._session_types),
            query_types=ranked(self._query_types),
        )
