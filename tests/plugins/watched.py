"""Stores for plugins to watch, with something of everything happening in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from perdure import QueryRecord, SessionStore, Settings, hookimpl
from perdure.backends import MemoryBackend, SessionBackend
from perdure.errors import SessionArchivedError
from perdure.testing import FaultyBackend, ManualClock

QUIET = Settings(sweep_on_open=False, sweep_in_background=False)
SECRET = "swordfish"


class Brings:
    """Two backends that a test holds in its hands, as tiers."""

    def __init__(self, hot: SessionBackend, archive: SessionBackend) -> None:
        self._hot, self._archive = hot, archive

    @hookimpl
    def register_backends(self, backends: dict[str, Any]) -> None:
        backends["hot"] = lambda url: self._hot
        backends["kept"] = lambda url: self._archive


class Broken:
    @hookimpl
    def session_deleted(self) -> None:
        raise RuntimeError(SECRET)


def two_tiers(plugin: object, **settings: Any) -> tuple[SessionStore, FaultyBackend, FaultyBackend]:
    """A store of two tiers, not opened yet, and the tiers."""
    hot, archive = FaultyBackend(MemoryBackend()), FaultyBackend(MemoryBackend())
    store = SessionStore.open(
        "hot://x",
        archive="kept://x",
        plugins=[plugin, Brings(hot, archive)],
        settings=Settings(sweep_on_open=False, sweep_in_background=False, **settings),
    )
    return store, hot, archive


async def live(plugin: object) -> None:
    """Something of everything: 4 sessions, of which 2 expire, one abandoned; 4 queries; all with a secret in them."""
    clock = ManualClock()
    async with SessionStore.open("memory://", settings=QUIET, plugins=[plugin, Broken()], clock=clock) as store:
        by_hand, busy, idle, gone = [
            await store.create_session(["AAPL"], "equity", ttl_hours=1, context={"k": SECRET}) for _ in range(4)
        ]
        for cache_hit in (True, False, True):
            query = QueryRecord(query_type="price", parameters={"p": SECRET}, cache_hit=cache_hit)
            await store.track_query(busy.id, query)
        with suppress(TimeoutError):
            async with store.tracking(busy.id, "news", {"p": SECRET}):
                raise TimeoutError(SECRET)
        await store.archive_session(by_hand.id)
        with suppress(SessionArchivedError):
            await store.update_context(by_hand.id, focus=SECRET)
        await store.extend_session(by_hand.id, 5)
        await store.delete_session(gone.id)
        clock.advance(timedelta(hours=2))
        assert (await store.cleanup_expired_sessions()).archived == 2
        assert await store.get_session(idle.id) is not None


async def waiting(path: Path, *ages: timedelta) -> None:
    """Leave sessions that expired so long ago and that nobody has archived, and one that is active."""
    for age in ages:
        clock = ManualClock(datetime.now(UTC) - age - timedelta(hours=1))
        async with SessionStore.open(f"sqlite:///{path}", settings=QUIET, clock=clock) as store:
            await store.create_session(["A"], "equity", ttl_hours=1)
    async with SessionStore.open(f"sqlite:///{path}", settings=QUIET) as store:
        await store.create_session(["A"], "equity")


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until something holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
