"""What the tests of the synchronous store share."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from perdure import QueryRecord, Settings
from perdure import store as aio
from perdure.backends import MemoryBackend
from perdure.changes import Applied, SessionChange
from perdure.models import StoredSession
from perdure.sync import SessionStore
from perdure.testing import FaultyBackend

QUIET = Settings(sweep_on_open=False, sweep_in_background=False)


def price(**fields: Any) -> QueryRecord:
    return QueryRecord(query_type="price", **fields)


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'kept.db'}"


class Stuck(FaultyBackend):
    """A backend in memory that does not answer while it is held."""

    def __init__(self) -> None:
        super().__init__(MemoryBackend())
        self.held = False
        self.arrived = threading.Event()
        self.cancelled = 0

    async def _wait(self) -> None:
        self.arrived.set()
        try:
            while self.held:
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        await self._wait()
        return await super().read(session_id, history=history)

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        await self._wait()
        return await super().apply(session_id, change)


def opened(backend: FaultyBackend, *, timeout: timedelta | None = None) -> SessionStore:
    return SessionStore(aio.SessionStore(backend, settings=QUIET), timeout=timeout)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
