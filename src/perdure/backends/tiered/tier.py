"""One backend in its role: every call bounded in time, left alone for a while when it fails, and watched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, Protocol, TypeVar

from perdure.backends.protocol import BackendHealth, Deliver, SessionBackend
from perdure.backends.tiered.breaker import Breaker, LeftAlone
from perdure.errors import (
    BackendClosedError,
    BackendError,
    BackendUnavailableError,
    SchemaError,
    StorageFullError,
    StorageReadOnlyError,
)
from perdure.logs import EventLog
from perdure.models import StoredSession

__all__ = ["Role", "Tier", "TierTimes", "TierWatcher"]

log = EventLog("perdure.tiers")

T = TypeVar("T")
Call = Callable[[SessionBackend], Awaitable[T]]
DeliveringCall = Callable[[SessionBackend, Deliver], Awaitable[T]]
Role = Literal["hot", "archive"]
Trouble = Literal["silent", "refusing"]
"""It does not answer, or cannot be used; or it answers, and takes nothing."""


class TierWatcher(Protocol):
    """Told when a tier stops answering as it should (`reason` says how), and when it does again (`reason` is None)."""

    async def __call__(self, tier: Role, reason: str | None) -> None:
        """Must not raise."""


@dataclass(frozen=True, slots=True)
class TierTimes:
    """How long to wait for a tier, and how long to leave one alone that fails."""

    hot_timeout: timedelta = timedelta(seconds=2)
    archive_timeout: timedelta = timedelta(seconds=10)
    retry_after: timedelta = timedelta(seconds=1)
    cache_ttl: timedelta = timedelta(seconds=5)
    """How old may be what the hot tier says where the archive is the truth."""


class Tier:
    """A backend behind a time-out and a circuit breaker. Where opening it failed, it is opened when it answers."""

    def __init__(
        self,
        role: Role,
        backend: SessionBackend,
        *,
        timeout: timedelta,
        retry_after: timedelta,
        watcher: TierWatcher | None,
    ) -> None:
        self.role = role
        self.backend = backend
        self._timeout_s = timeout.total_seconds()
        self._retry_after = retry_after
        self._watcher = watcher
        self._breaker: Breaker | None = None
        self._opening = asyncio.Lock()
        self._is_open = False
        self._troubles: dict[Trouble, str] = {}

    async def open(self, *, needed: bool) -> None:
        """Open the backend; where it is not `needed` and does not answer, go on without.

        Raises:
            BackendError: it is needed, or what is there cannot be used.
        """
        breaker = Breaker(self.role, retry_after=self._retry_after)
        if needed:
            await self._open_backend()  # as long as it takes: it may have to migrate
            self._breaker = breaker
            return
        self._breaker = breaker
        with suppress(BackendUnavailableError):  # which is noted
            await self.run(_nothing)

    async def aclose(self) -> None:
        """Close the backend, if it was opened."""
        self._is_open, self._breaker = False, None
        await self.backend.aclose()

    @property
    def trouble(self) -> str | None:
        """Why the tier does not do what it should; None where it does."""
        return next(iter(self._troubles.values()), None)

    @property
    def is_silent(self) -> bool:
        """Whether the last that was heard of it is that it does not answer."""
        return "silent" in self._troubles

    async def run(self, call: Call[T], *, stores: bool = False) -> T:
        """What the call gives; `stores` says that it needs room, so that its success shows that there is some.

        Raises:
            BackendUnavailableError: the tier does not answer, not in time, or is being left alone.
            PerdureError: whatever else the backend raises.
        """

        async def without_limit(backend: SessionBackend, _: asyncio.Timeout) -> T:
            return await call(backend)

        return await self._watched(without_limit, stores=stores)

    async def run_delivering(self, call: DeliveringCall[T], deliver: Deliver) -> T:
        """What the call gives that delivers; the time that this takes is the receivers', and not counted."""

        async def with_limit(backend: SessionBackend, limit: asyncio.Timeout) -> T:
            async def deliver_unhurried(sessions: Sequence[StoredSession]) -> None:
                limit.reschedule(None)
                try:
                    await deliver(sessions)
                finally:
                    limit.reschedule(asyncio.get_running_loop().time() + self._timeout_s)

            return await call(backend, deliver_unhurried)

        return await self._watched(with_limit, stores=True)

    async def attempt(self, call: Call[T], *, stores: bool = False) -> T | None:
        """What the call gives, or None where the tier fails, for what can be done without it."""
        try:
            return await self.run(call, stores=stores)
        except BackendError as error:
            if self.trouble is None:  # otherwise it was told of
                log.warning("tier.failed", tier=self.role, backend=self.backend.name, reason=str(error))
            return None

    async def health(self, *, now: datetime) -> BackendHealth:
        """How the backend is; never raises."""
        if self._breaker is None:
            return BackendHealth(self.backend.name, ok=False, latency_ms=0.0, error="not open")
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                if not self._is_open:
                    await self._open_backend()
                health = await self.backend.health(now=now)
        except (TimeoutError, BackendError) as error:
            reason = str(error) or f"no answer within {self._timeout_s:g} s"
            took_ms = (time.perf_counter() - began) * 1000
            return BackendHealth(self.backend.name, ok=False, latency_ms=took_ms, error=reason)
        if self.trouble is None or not health.ok:
            return health
        return replace(health, warnings=(*health.warnings, f"it failed when it was last needed: {self.trouble}"))

    async def _watched(self, call: Callable[[SessionBackend, asyncio.Timeout], Awaitable[T]], *, stores: bool) -> T:
        """Make a call, if the breaker lets it through, and note what it tells of the tier."""
        if self._breaker is None:
            raise BackendClosedError(self.backend.name)
        try:
            with self._breaker.call():
                answer = await self._bounded(call)
        except LeftAlone:
            why = "" if self.trouble is None else f" ({self.trouble})"  # None: a call from before was answered late
            for_s = f"{self._retry_after.total_seconds():g} s"
            raise BackendUnavailableError(
                self.backend.name, f"left alone for {for_s} at a time while it fails{why}"
            ) from None
        except (BackendUnavailableError, SchemaError) as error:
            await self._note("silent", str(error))
            raise
        except (StorageFullError, StorageReadOnlyError) as error:
            await self._note("refusing", str(error))
            raise
        if self._troubles:
            await self._note_answer(stored=stores)
        return answer

    async def _bounded(self, call: Callable[[SessionBackend, asyncio.Timeout], Awaitable[T]]) -> T:
        limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                if not self._is_open:
                    await self._open_backend()
                return await call(self.backend, limit)
        except TimeoutError:
            if not limit.expired():
                raise  # not ours: what was called, the receiver of a delivery perhaps, has time-outs too
            raise BackendUnavailableError(self.backend.name, f"no answer within {self._timeout_s:g} s") from None

    async def _open_backend(self) -> None:
        async with self._opening:
            if not self._is_open:
                await self.backend.open()
                self._is_open = True

    async def _note(self, trouble: Trouble, reason: str) -> None:
        """Remember what is wrong, and tell of it if nothing was."""
        well = not self._troubles
        self._troubles[trouble] = reason
        if well:
            log.warning("tier.degraded", tier=self.role, backend=self.backend.name, reason=reason)
            await self.report(reason)

    async def _note_answer(self, *, stored: bool) -> None:
        """The tier answers: forget what was wrong, as far as this shows, and tell of it if nothing is left."""
        self._troubles.pop("silent", None)
        if stored:
            self._troubles.pop("refusing", None)
        if not self._troubles:
            log.info("tier.recovered", tier=self.role, backend=self.backend.name)
            await self.report(None)

    async def report(self, reason: str | None) -> None:
        """Tell the watcher."""
        if self._watcher is not None:
            await self._watcher(self.role, reason)


async def _nothing(backend: SessionBackend) -> None:
    """Asks for nothing but that the backend is open."""
