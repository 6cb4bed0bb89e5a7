"""Statistics over sessions one by one, for backends that have no engine of their own to count with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

from perdure.backends.cursors import SortKey, read_cursor, write_cursor
from perdure.models import Measured, Measures, Page, SessionMetrics

__all__ = ["MeasuresTally", "measures_of", "metrics_page"]


class MeasuresTally:
    """The sums of the sessions that were added, their users counted."""

    def __init__(self) -> None:
        self._total: Counter[str] = Counter()
        self._ids: set[UUID] = set()

    def add(self, session: Measured, *, with_id: bool = False) -> None:
        """One more session; with its id, if it is to be named."""
        self._total.update(session.counts)
        if with_id:
            self._ids.add(session.facts.id)
        if session.facts.user_id is not None:
            self._total[f"user:{session.facts.user_id}"] += 1

    def measures(self) -> Measures:
        """The sums so far."""
        return Measures(dict(self._total), frozenset(self._ids))


def measures_of(sessions: Iterable[Measured], *, with_ids: bool = False) -> Measures:
    """The sums of some sessions, their users counted; with the ids of all of them, if wanted."""
    tally = MeasuresTally()
    for session in sessions:
        tally.add(session, with_id=with_ids)
    return tally.measures()


def metrics_page(sessions: Iterable[Measured], *, cursor: str | None, limit: int) -> Page[SessionMetrics]:
    """One page of all the sessions that there are, in any order; see `SessionBackend.metrics`."""
    below = read_cursor(cursor)
    ordered = sorted((each for each in sessions if below is None or _key_of(each) < below), key=_key_of, reverse=True)
    found = ordered[:limit]
    page = [SessionMetrics.counted(session.facts, session.counts) for session in found]
    return Page(page, write_cursor(_key_of(found[-1])) if len(ordered) > limit else None)


def _key_of(session: Measured) -> SortKey:
    """By what metrics are ordered."""
    return session.facts.created_at, session.facts.id
