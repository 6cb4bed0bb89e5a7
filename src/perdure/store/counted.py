"""What sessions count, as one user sees them or as everybody does."""

from __future__ import annotations

from collections.abc import AsyncIterator

from perdure.differences import stored_form
from perdure.errors import InvalidInputError
from perdure.models import Clock, Measures, Session, SessionMetrics, StatsFilter
from perdure.models.names import checked_name
from perdure.store.arguments import checked_session, checked_stats_filter
from perdure.store.core import StoreCore

__all__ = ["CountedSessions"]

METRICS_PAGE = 500


class CountedSessions:
    """The verbs of statistics, on which `perdure.analytics` stands; part of `UserSessions`."""

    def __init__(self, core: StoreCore, *, owner: str | None = None) -> None:
        self._core = core
        self._owner = owner

    @property
    def clock(self) -> Clock:
        """The clock that it goes by."""
        return self._core.clock

    async def measure(self, wanted: StatsFilter | None = None) -> Measures:
        """What sessions amount to, active, archived and past their retention, each once; see `perdure.analytics`."""
        if (mine := self._own_of(wanted)) is None:
            return Measures()
        return await self._core.backend.measure(mine, now=self._core.now())

    async def session_metrics(self, wanted: StatsFilter | None = None) -> AsyncIterator[SessionMetrics]:
        """The metrics of each session that `measure` counts, newest first; needs memory for one page of them."""
        if (mine := self._own_of(wanted)) is None:
            return
        cursor: str | None = None
        while True:
            page = await self._core.backend.metrics(mine, cursor=cursor, limit=METRICS_PAGE)
            for metrics in page:
                yield metrics
            if (cursor := page.next_cursor) is None:
                return

    async def record_metrics(self, session: Session) -> bool:
        """Let a session count that is not kept here, given with its whole history; idempotent.

        False where it was deleted here, and so must not count.
        """
        core = self._core
        stored = stored_form(checked_session(session), core.settings)
        self._user(stored.user_id)
        (counts,) = await core.backend.record([stored], at=core.now())
        return counts

    def _own_of(self, wanted: StatsFilter | None) -> StatsFilter | None:
        """The filter, for the sessions of the owner; None where it is about another's."""
        wanted = checked_stats_filter(wanted)
        if self._owner is None:
            return wanted
        return wanted.model_copy(update={"user_id": self._owner}) if wanted.user_id in (None, self._owner) else None

    def _user(self, user_id: str | None) -> str | None:
        if user_id is not None:
            checked_name(user_id, what="user_id")
        if self._owner is not None and user_id not in (None, self._owner):
            raise InvalidInputError(f"these are the sessions of {self._owner!r}; {user_id!r} cannot own one of them")
        return user_id if self._owner is None else self._owner
