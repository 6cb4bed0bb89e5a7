"""Two tiers in memory, with a hand on each of their calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar
from uuid import UUID

from perdure.backends import Archived, BackendHealth, MemoryBackend, MemoryData, SessionBackend
from perdure.backends.tiered import TieredBackend, TierTimes
from perdure.errors import BackendUnavailableError
from perdure.models import StoredSession
from perdure.testing import FaultyBackend, stored_session
from perdure.testing.conformance.steps import EXPIRY, MINUTE

T = TypeVar("T")
Acknowledge = Literal["archive", "hot"]
Step = Callable[[], Awaitable[Any]]

PATIENT = TierTimes(retry_after=timedelta(0))
"""For tiers that fail often: they are asked all the same."""

IMPATIENT = TierTimes(hot_timeout=timedelta(0), archive_timeout=timedelta(0), retry_after=timedelta(0))
"""For calls that never answer: no time is spent on them, and those that answer at once are in time."""


@dataclass
class Meddling:
    """What happens at a call: of that method, where one is named, after so many others."""

    method: str | None
    before: Step | None
    after: Step | None
    skipped: int = 0


class Meddled(FaultyBackend):
    """A backend in whose calls something else can happen: another reader, another writer, an error, or nothing at all.

    `down`: nobody answers, at opening either.
    """

    def __init__(self, inner: SessionBackend) -> None:
        super().__init__(inner)
        self.down = False
        self.meddling: list[Meddling] = []

    def when(self, method: str, *, before: Step | None = None, after: Step | None = None) -> None:
        """At the next call of that method; where it is said several times, at the one after that and so on."""
        self.meddling.append(Meddling(method, before, after))

    def at(self, call: int, *, before: Step | None = None, after: Step | None = None) -> None:
        """At the call of any method that is so many calls from here; the next one is 1."""
        self.meddling.append(Meddling(None, before, after, call - 1))

    def fails(self, method: str, error: Exception) -> None:
        """The next call of that method raises this."""

        async def fail() -> None:
            raise error

        self.when(method, before=fail)

    def hangs(self, method: str) -> None:
        """The next call of that method never ends."""
        self.when(method, before=asyncio.Event().wait)

    async def open(self) -> None:
        self._answer()
        await super().open()

    async def health(self, *, now: datetime) -> BackendHealth:
        self._answer()
        return await super().health(now=now)

    async def pass_on(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        planned = next((each for each in self.meddling if each.method in (None, method)), None)
        if planned is not None and planned.skipped:
            planned.skipped, planned = planned.skipped - 1, None
        if planned is not None:
            self.meddling.remove(planned)
            if planned.before is not None:
                await planned.before()
        try:
            self._answer()
            return await super().pass_on(method, call)
        finally:
            if planned is not None and planned.after is not None:
                await planned.after()

    def _answer(self) -> None:
        if self.down:
            raise BackendUnavailableError(self.name, "nobody answers")


@dataclass
class Seconds:
    """A clock that stands still until it is moved."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Pair:
    """A tiered backend, both its tiers, and what its watcher was told; `another()` is a second process on the data."""

    acknowledge: Acknowledge
    times: TierTimes = PATIENT
    seconds: Seconds = field(default_factory=Seconds)
    told: list[tuple[str, str | None]] = field(default_factory=list)
    hot_data: MemoryData = field(default_factory=MemoryData)
    archive_data: MemoryData = field(default_factory=MemoryData)

    def __post_init__(self) -> None:
        self.hot = Meddled(MemoryBackend(self.hot_data, seconds=self.seconds))
        self.archive = Meddled(MemoryBackend(self.archive_data, seconds=self.seconds))
        self.tiers = TieredBackend(
            self.hot,
            self.archive,
            acknowledge=self.acknowledge,
            times=self.times,
            watcher=self.watch,
            seconds=self.seconds,
        )

    async def watch(self, tier: str, reason: str | None) -> None:
        self.told.append((tier, reason))

    async def another(self) -> Pair:
        """The same data in another process."""
        other = Pair(self.acknowledge, self.times, self.seconds, hot_data=self.hot_data, archive_data=self.archive_data)
        await other.tiers.open()
        return other

    def hot_copy(self, session_id: UUID) -> StoredSession | None:
        """What hot holds, without asking anybody."""
        return self.hot_data.sessions.get(session_id)

    def archive_copy(self, session_id: UUID) -> StoredSession | None:
        """What the archive holds, without asking anybody."""
        return self.archive_data.sessions.get(session_id)

    def cached_copy(self, session_id: UUID) -> StoredSession | None:
        """What the cache holds, without asking anybody, fresh or not."""
        return self.hot_data.cached.copies.get(session_id, (None, 0.0))[0]

    async def sweep(
        self, *, at: datetime = EXPIRY, delivered: list[StoredSession] | None = None, limit: int = 1_000
    ) -> list[Archived]:
        """Claim what is due, and archive it."""

        async def deliver(sessions: Sequence[StoredSession]) -> None:
            if delivered is not None:
                delivered.extend(sessions)

        claimed = await self.tiers.claim_expired(now=at, lease=MINUTE, limit=limit, max_bytes=2**40)
        return await self.tiers.archive(claimed.sessions, at=at, deliver=deliver) if claimed.sessions else []

    async def archived(self, **facts: Any) -> StoredSession:
        """A session that was active in hot, and is in the archive by now."""
        session = stored_session(**facts)
        await self.tiers.create(session, fresh=True)
        await self.sweep(at=session.expires_at)
        assert self.hot_copy(session.id) is None or self.acknowledge == "archive"
        kept = self.archive_copy(session.id)
        assert kept is not None
        return kept.copy()


async def opened(acknowledge: Acknowledge, **facts: Any) -> Pair:
    """A pair that is open."""
    pair = Pair(acknowledge, **facts)
    await pair.tiers.open()
    return pair
