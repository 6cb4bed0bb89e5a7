"""`acknowledge="hot"`: what both tiers have counted, each session exactly once.

Hot judges over the archive, which may have metrics of what is active again; so the archive is asked without the
sessions that hot holds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

from perdure.backends.cursors import SortKey
from perdure.backends.protocol import Copy, Tombstone
from perdure.backends.tiered.paging import full_page, page_of_both
from perdure.backends.tiered.tier import Tier
from perdure.models import Measures, Page, SessionMetrics, StatsFilter, StoredSession

__all__ = ["HotStatistics"]


class HotStatistics:
    """The verbs of statistics."""

    def __init__(self, hot: Tier, archive: Tier) -> None:
        self._hot = hot
        self._archive = archive

    async def measure(
        self, wanted: StatsFilter, *, now: datetime, without: Collection[UUID] = (), with_ids: bool = False
    ) -> Measures:
        """See `SessionBackend.measure`. Hot names those that it counts, at O(active).

        What the archive is asked afterwards leaves out those, and no others: one that left hot before its turn came is
        in the archive by then, and one that comes back later is still in the archive.
        """
        active = await self._hot.run(lambda hot: hot.measure(wanted, now=now, without=without, with_ids=True))
        excluded = active.ids.union(without)
        archived = await self._archive.run(
            lambda archive: archive.measure(wanted, now=now, without=excluded, with_ids=with_ids)
        )
        return active + archived if with_ids else Measures((active + archived).counts)

    async def metrics(self, wanted: StatsFilter, *, cursor: str | None = None, limit: int) -> Page[SessionMetrics]:
        """See `SessionBackend.metrics`."""
        return await full_page(partial(self._page, wanted), cursor=cursor, limit=limit)

    async def _page(self, wanted: StatsFilter, cursor: str | None, limit: int) -> Page[SessionMetrics]:
        """A page that may be shorter than asked for, and yet not the last one."""
        active = await self._hot.run(lambda hot: hot.metrics(wanted, cursor=cursor, limit=limit))
        archived = await self._archive.run(lambda archive: archive.metrics(wanted, cursor=cursor, limit=limit))
        seen = {metrics.session_id for metrics in active}
        rest = [metrics for metrics in archived if metrics.session_id not in seen]
        held = await self._held([metrics.session_id for metrics in rest])
        # One that hot holds came into it just now, or is on a later page of hot's and beyond the end of this one.
        fresh = [metrics for metrics in rest if not isinstance(held.get(metrics.session_id), Tombstone)]
        return page_of_both(active, archived, fresh, key=_key_of, limit=limit)

    async def record(self, sessions: Sequence[StoredSession], *, at: datetime) -> list[bool]:
        """See `SessionBackend.record`: in the archive, of what hot does not hold."""
        held = await self._held([session.id for session in sessions])
        absent = [session for session in sessions if session.id not in held]
        recorded: list[bool] = []
        if absent:
            recorded = await self._archive.run(lambda archive: archive.record(absent, at=at), stores=True)
        counts = {session.id: count for session, count in zip(absent, recorded, strict=True)}
        return [counts.get(session.id, isinstance(held.get(session.id), Copy)) for session in sessions]

    async def _held(self, ids: Sequence[UUID]) -> dict[UUID, Copy | Tombstone]:
        return await self._hot.run(lambda hot: hot.copies(ids)) if ids else {}


def _key_of(metrics: SessionMetrics) -> SortKey:
    return metrics.created_at, metrics.session_id
