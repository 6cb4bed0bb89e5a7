"""Looking at an open store now and then, for what no event tells: how it is, and how many sessions are active."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from perdure.backends import DUE_COUNTED
from perdure.errors import PerdureError
from perdure.logs import EventLog
from perdure.models import SessionFilter
from perdure.store import SessionStore, StoreHealth

__all__ = ["Look", "Looking"]

log = EventLog("perdure.plugins")


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen. `active` is what was counted last; None where nothing was, or it could not be."""

    health: StoreHealth
    active: int | None

    @property
    def due(self) -> int:
        """Sessions that have expired and not been archived; counted to `DUE_COUNTED` in each tier."""
        return sum(tier.due for tier in self.health.tiers.values())

    @property
    def backlog_age_s(self) -> float:
        """For how long the longest due of them has been waiting; 0 where none is."""
        since = [tier.due_since for tier in self.health.tiers.values() if tier.due_since is not None]
        return max(0.0, (datetime.now(UTC) - min(since)).total_seconds()) if since else 0.0

    @property
    def last_sweep(self) -> datetime | None:
        """When any tier was last swept."""
        sweeps = [tier.last_swept_at for tier in self.health.tiers.values() if tier.last_swept_at is not None]
        return max(sweeps, default=None)


class Looking:
    """Tells `seen` of a store when it is opened, and then `every` so often while it is open.

    Active sessions are counted every `count_every` only, or never: that costs what the active sessions hold.
    """

    def __init__(self, seen: Callable[[Look], None], *, every: timedelta, count_every: timedelta | None) -> None:
        self._seen = seen
        self._every_s = every.total_seconds()
        self._count_every_s = None if count_every is None else count_every.total_seconds()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def begin(self, store: SessionStore) -> None:
        """Look at this store from now on."""
        self._tasks[id(store)] = asyncio.create_task(self._keep_looking(store))

    async def end(self, store: SessionStore) -> None:
        """Look at it no longer."""
        task = self._tasks.pop(id(store), None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _keep_looking(self, store: SessionStore) -> None:
        loop = asyncio.get_running_loop()
        active: int | None = None
        counted_at = float("-inf")
        while True:
            try:
                health = await store.health()
                if self._count_every_s is not None and loop.time() >= counted_at + self._count_every_s:
                    counted_at, active = loop.time(), await _active(store, health)
                self._seen(Look(health, active))
            except Exception as error:  # noqa: BLE001 (what was seen would stay as it is for ever, and nobody know)
                log.error("look.failed", error=type(error).__name__)
            await asyncio.sleep(self._every_s)


async def _active(store: SessionStore, health: StoreHealth) -> int | None:
    """What is not archived, without what is due at this moment; None where the backlog is too long to be counted."""
    due = [tier.due for tier in health.tiers.values()]
    if max(due, default=0) >= DUE_COUNTED:
        return None
    try:
        return max(0, (await store.get_totals(SessionFilter(archived=False))).sessions - sum(due))
    except PerdureError:
        return None  # its health says why
