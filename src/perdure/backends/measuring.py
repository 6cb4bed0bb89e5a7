"""Statistics over sessions one by one, for backends that have no engine of their own to count with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from perdure.backends.cursors import SortKey, read_cursor, write_cursor
from perdure.models import Measured, Measures, Page, SessionMetrics

__all__ = ["key_of", "measures_of", "metrics_page"]


def measures_of(sessions: Iterable[Measured]) -> Measures:
    """The sums of some sessions, their users counted."""
    total: Counter[str] = Counter()
    for session in sessions:
        total.update(session.counts)
        if session.facts.user_id is not None:
            total[f"user:{session.facts.user_id}"] += 1
    return Measures(dict(total))


def metrics_page(sessions: Iterable[Measured], *, cursor: str | None, limit: int) -> Page[SessionMetrics]:
    """One page of all the sessions that there are, in any order; see `SessionBackend.metrics`."""
    below = read_cursor(cursor)
    ordered = sorted((session for session in sessions if below is None or key_of(session) < below), key=key_of)
    found = ordered[::-1][:limit]
    more = len(ordered) > limit
    page = [SessionMetrics.counted(session.facts, session.counts) for session in found]
    return Page(page, write_cursor(key_of(found[-1])) if more else None)


def key_of(session: Measured) -> SortKey:
    """By what metrics are ordered."""
    return session.facts.created_at, session.facts.id
