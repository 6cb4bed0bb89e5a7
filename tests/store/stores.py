"""Opening stores on the data of one test, and looking at what they send."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from perdure import SessionStore, Settings, hookimpl
from perdure.backends import Archived, Deliver, SessionBackend
from perdure.changes import Applied, SessionChange
from perdure.models import StoredSession
from perdure.testing import Fault, FaultyBackend, ManualClock

T = TypeVar("T")

QUIET: dict[str, Any] = {"sweep_on_open": False, "sweep_in_background": False}
"""Settings of a store that does nothing by itself."""


class SpyingBackend(FaultyBackend):
    """A `FaultyBackend` that also keeps the changes it was sent, and can hold them up: `gate.clear()`."""

    def __init__(self, inner: SessionBackend, faults: Sequence[Fault] = ()) -> None:
        super().__init__(inner, faults)
        self.changes: list[SessionChange] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()
        self.most_in_flight: Counter[UUID] = Counter()
        self._in_flight: Counter[UUID] = Counter()

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        self.changes.append(change)
        self._in_flight[session_id] += 1
        self.most_in_flight[session_id] = max(self.most_in_flight[session_id], self._in_flight[session_id])
        self.arrived.set()
        try:
            await self.gate.wait()
            return await super().apply(session_id, change)
        finally:
            self._in_flight[session_id] -= 1

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        self.arrived.set()
        await self.gate.wait()
        return await super().archive(sessions, at=at, deliver=deliver)

    def forget(self) -> None:
        """Begin to count anew."""
        self.calls.clear()
        self.changes.clear()

    def fail(self, *faults: Fault) -> None:
        """Fail at these calls, counted from now on."""
        self.calls.clear()
        self.faults = list(faults)


class Brings:
    """A plugin with a backend, so that a test can open a store on one that it holds in its hands."""

    def __init__(self, backend: SessionBackend) -> None:
        self._backend = backend

    @hookimpl
    def register_backends(self, backends: dict[str, Any]) -> None:
        backends["held"] = lambda url: self._backend


class Stores:
    """Opens stores that share data and clock; the test's end closes them."""

    def __init__(self, backend: Callable[[], SessionBackend], clock: ManualClock) -> None:
        self.backend = backend
        self.clock = clock
        self._open: list[SessionStore] = []

    async def open(
        self,
        backend: SessionBackend | None = None,
        *,
        plugins: Iterable[object] = (),
        clock: Callable[[], Any] | None = None,
        **settings: Any,
    ) -> SessionStore:
        """A store on the data of this test; `backend` is what stands between the two."""
        store = SessionStore.open(
            "held://",
            plugins=[Brings(self.backend() if backend is None else backend), *plugins],
            settings=Settings(**{**QUIET, **settings}),
            clock=self.clock if clock is None else clock,
        )
        self._open.append(store)
        return await store

    async def spied(self, *faults: Fault, **options: Any) -> tuple[SessionStore, SpyingBackend]:
        """A store, and what it sends."""
        spy = SpyingBackend(self.backend(), faults)
        return await self.open(spy, **options), spy

    async def aclose(self) -> None:
        """Close all of them."""
        for store in self._open:
            await store.aclose()


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until something holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def present(value: T | None) -> T:
    """What must be there."""
    assert value is not None
    return value
