"""Says which queries took long: a plugin of perdure, found by its entry point."""

from __future__ import annotations

import logging
import os
from collections import Counter
from uuid import UUID

from perdure import QueryRecord, SessionSummary, hookimpl

__all__ = ["SlowQueries", "plugin"]

log = logging.getLogger("perdure_slow_queries")

DEFAULT_MS = 1_000.0


class SlowQueries:
    """Logs a query that took longer than `limit_ms`: its type, its place and its time, never its parameters."""

    def __init__(self, limit_ms: float | None = None) -> None:
        self._limit_ms = limit_ms
        self._slow: Counter[UUID] = Counter()

    @hookimpl
    def query_tracked(self, session_id: UUID, query: QueryRecord) -> None:
        if query.execution_time_ms is not None and query.execution_time_ms > self._limit():
            self._slow[session_id] += 1
            log.warning("%s took %.0f ms (query %s)", query.query_type, query.execution_time_ms, query.position)

    @hookimpl
    def session_archived(self, session: SessionSummary) -> None:
        slow = self._slow.pop(session.id, 0)
        if slow:
            log.warning("%d of %d queries were slow", slow, session.total_queries)

    @hookimpl
    def session_deleted(self, session_id: UUID) -> None:
        self._slow.pop(session_id, None)

    def _limit(self) -> float:
        """Looked up when it is needed: importing a plugin should have no effects."""
        return float(os.environ.get("SLOW_QUERY_MS", DEFAULT_MS)) if self._limit_ms is None else self._limit_ms


plugin = SlowQueries()
