"""Noticing that a hot tier came back older than it was: what it had acknowledged is gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

from perdure.backends.tiered.tier import Tier
from perdure.logs import EventLog

__all__ = ["Losses"]

log = EventLog("perdure.tiers")

REMEMBERED = 10_000
"""Sessions of which the last acknowledged version is remembered; those written longest ago are forgotten first."""

REMEMBERED_S = 3_600.0
"""For how long; after that, a session may be gone because its time was over."""


class Losses:
    """Compares what the hot tier says with what it had acknowledged to this store.

    A Redis that lost the tail of its log, or failed over to a replica that lagged, answers as if the lost writes had
    never been. Nobody can bring them back, but nobody should take it for normal either.
    """

    def __init__(self, hot: Tier, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._hot = hot
        self._seconds = seconds
        self._versions: dict[UUID, tuple[int, float]] = {}
        self.count = 0
        """Sessions that were found to lack what had been acknowledged."""
        self.revived = 0
        """Sessions that were found there after they had been deleted."""

    @property
    def warning(self) -> str | None:
        """What an operator should know; None where nothing was lost."""
        found = []
        if self.count:
            found.append(f"{_many(self.count)} lost something that had been acknowledged")
        if self.revived:
            found.append(f"{_many(self.revived)} that had been deleted came with it and had to be deleted again")
        return f"it came back older than it was: {', '.join(found)}" if found else None

    def acknowledge(self, session_id: UUID, version: int) -> None:
        """The caller hears of that version."""
        self._versions.pop(session_id, None)
        self._versions[session_id] = version, self._seconds() + REMEMBERED_S
        if len(self._versions) > REMEMBERED:
            del self._versions[next(iter(self._versions))]

    def forget(self, session_id: UUID) -> None:
        """The session was removed on purpose."""
        self._versions.pop(session_id, None)

    def acknowledged(self, session_id: UUID) -> int:
        """The version that anybody who asks from now on should find, or a later one; 0 where that is not known."""
        version, ends = self._versions.get(session_id, (0, 0.0))
        return version if ends > self._seconds() else 0

    async def compare(self, session_id: UUID, *, acknowledged: int, found: int) -> None:
        """Tell if the session should be further on than `found` (0: it is nowhere)."""
        if found < acknowledged:
            self._versions.pop(session_id, None)
            await self.tell(session_id, acknowledged=acknowledged, found=found)

    async def tell(self, session_id: UUID, *, acknowledged: int, found: int) -> None:
        """Let everybody know of a session that the hot tier lost something of."""
        self.count += 1
        log.error("session.rolled_back", session_id=str(session_id), acknowledged=acknowledged, found=found)
        await self._hot.report(
            f"{self._hot.backend.name} came back older than it was: session {session_id} is at version {found}, "
            f"and {acknowledged} had been acknowledged"
        )

    async def tell_revived(self, session_id: UUID) -> None:
        """Let everybody know of a session that had been deleted, was there again, and is gone again."""
        self.revived += 1
        log.warning("session.deleted_again", session_id=str(session_id))
        await self._hot.report(
            f"{self._hot.backend.name} came back older than it was: "
            f"session {session_id} was there, which had been deleted"
        )


def _many(sessions: int) -> str:
    return "1 session" if sessions == 1 else f"{sessions:,} sessions"
