"""Copies that fade, in this process's memory: the clearest reading of `SessionCache`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from perdure.models import StoredSession

__all__ = ["CachedCopies", "MemoryCache"]

TICKET_LIFETIME_S = 60.0
SHARED_S = 1.0
"""How old a ticket may be to be given to one more reader: a copy is as old as its ticket, and a ticket that its taker
never used must not keep the place empty."""
MOST = 10_000
"""Copies kept at once, and tickets: what readers asked for and did not find leaves one each. The oldest make room."""


@dataclass
class CachedCopies:
    """What a `MemoryCache` holds: copies with the second at which each ends, tickets with that of their taking."""

    copies: dict[UUID, tuple[StoredSession, float]] = field(default_factory=dict)
    tickets: dict[UUID, tuple[str, float]] = field(default_factory=dict)


class MemoryCache:
    """A `SessionCache`. `seconds` is a clock that never goes back."""

    def __init__(self, kept: CachedCopies, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._kept = kept
        self._seconds = seconds

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """See `SessionCache.read`."""
        session, ends = self._kept.copies.get(session_id, (None, 0.0))
        if session is None or ends <= self._seconds():
            self._kept.copies.pop(session_id, None)
            return None
        wanted = session.total_queries if history is None else min(history, session.total_queries)
        return None if len(session.queries) < wanted else session.copy(history=history)

    async def ticket(self, session_id: UUID) -> str:
        """See `SessionCache.ticket`: readers that come at the same time share one."""
        now = self._seconds()
        ticket, taken_at = self._kept.tickets.get(session_id, ("", -math.inf))
        if taken_at + SHARED_S <= now:
            ticket = uuid7().hex
            self._kept.tickets.pop(session_id, None)
            self._kept.tickets[session_id] = ticket, now
            while len(self._kept.tickets) > MOST:
                del self._kept.tickets[next(iter(self._kept.tickets))]
        return ticket

    async def fill(self, session: StoredSession, *, ticket: str, lifetime: timedelta) -> bool:
        """See `SessionCache.fill`."""
        known, taken_at = self._kept.tickets.get(session.id, ("", -math.inf))
        ends = taken_at + lifetime.total_seconds()
        now = self._seconds()
        if known != ticket or taken_at + TICKET_LIFETIME_S <= now or ends <= now:
            return False
        del self._kept.tickets[session.id]
        self._kept.copies.pop(session.id, None)
        self._kept.copies[session.id] = session.copy(), ends
        while len(self._kept.copies) > MOST:
            del self._kept.copies[next(iter(self._kept.copies))]
        return True

    async def drop(self, session_ids: Sequence[UUID]) -> None:
        """See `SessionCache.drop`."""
        for session_id in session_ids:
            self._kept.copies.pop(session_id, None)
            self._kept.tickets.pop(session_id, None)
