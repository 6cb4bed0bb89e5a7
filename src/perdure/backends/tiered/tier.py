"""One backend in its role: every call bounded in time, left alone for a while when it fails, and watched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol, TypeVar

from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState
from purgatory.service._async.circuitbreaker import AsyncCircuitBreaker

from perdure.backends.protocol import BackendHealth, SessionBackend
from perdure.errors import BackendClosedError, BackendError, BackendUnavailableError
from perdure.logs import EventLog

__all__ = ["InFlight", "Role", "Tier", "TierTimes", "TierWatcher"]

log = EventLog("perdure.tiers")

T = TypeVar("T")
Call = Callable[[SessionBackend], Awaitable[T]]
Role = Literal["hot", "archive"]

FAILURES = 5
"""Calls in a row that fail before a tier is left alone for a while."""


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


class InFlight:
    """How many calls are under way, in any tier."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._idle.set()

    async def finish(self) -> None:
        """Wait until there are none; a verb of several calls makes the next one before anybody else gets to run."""
        while self._count:
            self._idle.clear()
            await self._idle.wait()


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
        in_flight: InFlight,
    ) -> None:
        self.role = role
        self.backend = backend
        self._timeout_s = timeout.total_seconds()
        self._retry_after_s = retry_after.total_seconds()
        self._watcher = watcher
        self._in_flight = in_flight
        self._breaker: AsyncCircuitBreaker | None = None
        self._opening = asyncio.Lock()
        self._is_open = False
        self.trouble: str | None = None
        """Why the last call failed; None where it did not."""

    async def open(self, *, needed: bool) -> None:
        """Open the backend; where it is not `needed` and does not answer, go on without.

        Raises:
            BackendError: it is needed, or what is there cannot be used.
        """
        factory = AsyncCircuitBreakerFactory(
            default_threshold=FAILURES,
            default_ttl=self._retry_after_s,
            exclude=[(BaseException, lambda error: not isinstance(error, BackendUnavailableError))],
        )
        breaker = await factory.get_breaker(self.role)
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

    async def run(self, call: Call[T]) -> T:
        """What the call gives.

        Raises:
            BackendUnavailableError: the tier does not answer, not in time, or is being left alone.
            PerdureError: whatever else the backend raises.
        """
        if self._breaker is None:
            raise BackendClosedError(self.backend.name)
        try:
            async with self._breaker:
                with self._in_flight:
                    answer = await self._bounded(call)
        except OpenedState:
            reason = f"left alone for {self._retry_after_s:g} s after it failed ({self.trouble})"
            raise BackendUnavailableError(self.backend.name, reason) from None
        except BackendUnavailableError as error:
            await self._note(str(error))
            raise
        if self.trouble is not None:
            await self._note(None)
        return answer

    async def attempt(self, call: Call[T]) -> T | None:
        """What the call gives, or None where the tier fails, for what can be done without it."""
        try:
            return await self.run(call)
        except BackendUnavailableError:
            return None  # it was noted
        except BackendError as error:
            await self._note(str(error))
            return None

    async def health(self, *, now: datetime) -> BackendHealth:
        """How the backend is; never raises."""
        if self._breaker is None:
            return BackendHealth(self.backend.name, ok=False, latency_ms=0.0, error="not open")
        try:
            async with asyncio.timeout(self._timeout_s):
                if not self._is_open:
                    await self._open_backend()
                return await self.backend.health(now=now)
        except (TimeoutError, BackendError) as error:
            reason = str(error) or f"no answer within {self._timeout_s:g} s"
            return BackendHealth(self.backend.name, ok=False, latency_ms=self._timeout_s * 1000, error=reason)

    async def _bounded(self, call: Call[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                if not self._is_open:
                    await self._open_backend()
                return await call(self.backend)
        except TimeoutError:
            raise BackendUnavailableError(self.backend.name, f"no answer within {self._timeout_s:g} s") from None

    async def _open_backend(self) -> None:
        async with self._opening:
            if not self._is_open:
                await self.backend.open()
                self._is_open = True

    async def _note(self, trouble: str | None) -> None:
        """Remember how it is, and tell of it when it changed."""
        was, self.trouble = self.trouble, trouble
        if (was is None) == (trouble is None):
            return
        if trouble is None:
            log.info("tier.recovered", tier=self.role, backend=self.backend.name)
        else:
            log.warning("tier.degraded", tier=self.role, backend=self.backend.name, reason=trouble)
        await self.report(trouble)

    async def report(self, reason: str | None) -> None:
        """Tell the watcher."""
        if self._watcher is not None:
            await self._watcher(self.role, reason)


async def _nothing(backend: SessionBackend) -> None:
    """Asks for nothing but that the backend is open."""
