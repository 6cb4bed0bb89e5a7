"""Another process on a SQLite file: `python sqlite_child.py VERB PATH …`. Says "ready", waits for a line, begins.

Everything it needs is imported before it says so, and before it gives up rights.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 (asyncio imports it when it is first needed, which may be too late)
import os
import resource
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from uuid import UUID

import structlog

from perdure import QueryRecord, SessionStore, Settings
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.errors import BackendError, PerdureError

NOBODY = 65534
SETTINGS = Settings(sweep_in_background=False, sweep_on_open=False, session_max_queries_per_session=1_000_000)


def opened(path: str) -> SessionStore:
    return SessionStore.open(f"sqlite:///{path}", settings=SETTINGS)


def say(*words: object) -> None:
    print(*words, flush=True)


async def append(path: str, session_id: str, number: str) -> None:
    """Append queries one after the other, and say the id and position of each."""
    async with opened(path) as store:
        for _ in range(int(number)):
            query = QueryRecord(query_type="price")
            tracked = await store.track_query(session_id, query)
            say(query.id, tracked.position)


async def create(path: str) -> None:
    """Open what may not exist yet, create a session, say its id."""
    async with opened(path) as store:
        say((await store.create_session(["AAPL"], "equity")).id)


async def track_for_ever(path: str, session_id: str, tasks: str) -> None:
    """Track queries in several tasks, and say each once it is acknowledged, until killed."""

    async def track(store: SessionStore) -> None:
        for number in count():
            query = QueryRecord(query_type="price", parameters={"number": number}, result_summary="x" * (number % 900))
            tracked = await store.track_query(session_id, query)
            say(query.id, tracked.position)

    async with opened(path) as store, asyncio.TaskGroup() as group:
        for _ in range(int(tasks)):
            group.create_task(track(store))


async def claim(path: str, now: str, lease_seconds: str) -> None:
    """Claim what has expired, say the ids, and hold it until killed."""
    backend = SqliteBackend(Path(path))
    await backend.open()
    lease = timedelta(seconds=float(lease_seconds))
    claimed = await backend.claim_expired(now=datetime.fromisoformat(now), lease=lease, limit=10, max_bytes=2**20)
    say(*(session.id for session in claimed))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def sweep(path: str, now: str) -> None:
    """Archive what has expired, and say how many this process archived."""
    instant = datetime.fromisoformat(now)
    settings = SETTINGS.model_copy(update={"sweep_batch": 5})
    async with SessionStore.open(f"sqlite:///{path}", settings=settings, clock=lambda: instant) as store:
        report = await store.cleanup_expired_sessions()
        say(report.archived, len(report.failed))


async def without_rights(path: str, session_id: str) -> None:
    """As somebody who may not write the file: say what opening, reading and writing give."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    store = opened(path)

    async def read() -> object:
        session = await store.get_session(session_id)
        return None if session is None else session.state.history.total_queries

    async def write() -> object:
        return (await store.track_query(session_id, QueryRecord(query_type="price"))).position

    await _say_outcome("open", store.__aenter__)
    await _say_outcome("read", read)
    await _say_outcome("write", write)
    await store.aclose()


async def _say_outcome(what: str, call: Callable[[], Awaitable[object]]) -> None:
    try:
        answer = await call()
    except PerdureError as error:
        say(what, type(error).__name__, error)
    else:
        say(what, "ok", answer)


async def fill_up(path: str, session_id: str, limit_bytes: str) -> None:
    """Track until no file may grow any more, then with room again; say what was acknowledged and what failed."""
    async with opened(path) as store:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit_bytes), hard))
        failures = 0
        while failures < 3:
            query = QueryRecord(query_type="price", result_summary="x" * 20_000)
            try:
                tracked = await store.track_query(session_id, query)
            except BackendError as error:
                failures += 1
                say("failed", type(error).__name__)
            else:
                say("kept", query.id, tracked.position)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        query = QueryRecord(query_type="price")
        say("kept", query.id, (await store.track_query(UUID(session_id), query)).position)


VERBS: dict[str, Callable[..., Awaitable[None]]] = {
    verb.__name__: verb for verb in (append, create, track_for_ever, claim, sweep, without_rights, fill_up)
}

if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    verb, *arguments = sys.argv[1:]
    say("ready")
    sys.stdin.readline()
    asyncio.run(VERBS[verb](*arguments))  # type: ignore[arg-type]
