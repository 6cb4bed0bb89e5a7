"""Processes whose tiers fail, and let others go first, at any call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from perdure import SessionStore
from perdure.backends import SessionBackend
from perdure.errors import BackendUnavailableError
from perdure.testing import Fault, FaultyBackend, ManualClock, Moment

__all__ = ["Attempt", "Process", "RoughTier"]

T = TypeVar("T")


class RoughTier(FaultyBackend):
    """A tier as one process sees it: others may go first at every call, faults strike, and all of it may be down."""

    def __init__(self, inner: SessionBackend, role: str, down: set[str], rng: Random) -> None:
        super().__init__(inner)
        self.role = role
        self.struck = 0
        self._down = down
        self._rng = rng

    async def pass_on(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        await self._others_first()
        if self.role in self._down:
            self.struck += 1
            raise BackendUnavailableError(self.name, f"{self.role} is down")
        try:
            return await super().pass_on(method, call)
        finally:
            await self._others_first()

    def _moment(self, method: str) -> Moment | None:
        moment = super()._moment(method)
        self.struck += moment is not None
        return moment

    def strike(self, call: int, moment: Moment) -> None:
        """At the call that is so many from here."""
        self.faults.append(Fault(len(self.calls) + call, moment))

    async def _others_first(self) -> None:
        for _ in range(self._rng.choice([0, 0, 0, 1, 3, 10, 30])):
            await asyncio.sleep(0)


@dataclass
class Process:
    """A store of its own, with a clock of its own."""

    number: int
    store: SessionStore
    hot: RoughTier
    archive: RoughTier
    clock: ManualClock
    degraded: set[str]
    """Tiers that it has found to fail, and not yet to answer again: it may leave them alone."""

    @property
    def struck(self) -> tuple[int, int]:
        """How many faults its tiers have had: hot, archive."""
        return self.hot.struck, self.archive.struck


@dataclass
class Attempt:
    """Something that a caller does: between its beginning and its end, what struck."""

    process: Process
    began: tuple[int, int] = field(init=False)
    degraded: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.process.struck
        self.degraded = frozenset(self.process.degraded)

    @property
    def hot_struck(self) -> bool:
        return self.process.struck[0] > self.began[0]

    @property
    def hot_was_away(self) -> bool:
        """Whether hot failed, or may have been left alone, as it is while somebody else tries it again."""
        return self.hot_struck or "hot" in self.degraded

    @property
    def archive_struck(self) -> bool:
        return self.process.struck[1] > self.began[1]
