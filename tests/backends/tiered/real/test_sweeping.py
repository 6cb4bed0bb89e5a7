"""Sessions that expire with nobody looking, by the real clock: all in the archive, none lost, none twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from tests.backends.tiered.real.load import check_positions, opened, whole

from perdure import QueryRecord, SessionFilter, SessionMetrics, SessionStore, SessionSummary, hookimpl
from perdure.testing.servers import PostgresServer

pytestmark = pytest.mark.xdist_group("tiers swept")

MANY = 200
LIFETIME = timedelta(seconds=6)
PATIENT = {"hot_timeout_seconds": 20, "archive_timeout_seconds": 20}
QUERIES = 3
SCRIPT = Path(__file__).with_name("sweeper_child.py")
PATIENCE_S = 60.0


class Told:
    """A plugin that keeps which sessions it was told of."""

    def __init__(self) -> None:
        self.ids: list[UUID] = []

    @hookimpl
    def session_archived(self, session: SessionSummary, metrics: SessionMetrics | None, event_id: str) -> None:
        self.ids.append(session.id)


async def expiring(store: SessionStore, after: timedelta) -> dict[UUID, list[UUID]]:
    """Sessions that expire soon, and the queries of each."""

    async def one() -> tuple[UUID, list[UUID]]:
        session = await store.create_session(["AAPL"], "equity", ttl=after)
        queries = [QueryRecord(query_type="price") for _ in range(QUERIES)]
        for query in queries:
            await store.track_query(session.id, query)
        return session.id, [query.id for query in queries]

    return dict(await asyncio.gather(*(one() for _ in range(MANY))))


async def check_archived(store: SessionStore, made: dict[UUID, list[UUID]]) -> None:
    """Each is archived whole and listed once, and hot has none of them."""
    listed = [summary.id async for summary in each_summary(store)]
    assert Counter(listed) == Counter(list(made))
    for session_id, queries in made.items():
        session = await whole(store, session_id)
        assert session.is_archived
        check_positions(session)
        assert [query.id for query in session.state.history.queries] == queries


async def each_summary(store: SessionStore) -> AsyncIterator[SessionSummary]:
    cursor: str | None = None
    while True:
        page = await store.list_sessions(SessionFilter(), limit=100, cursor=cursor)
        for summary in page:
            yield summary
        if page.next_cursor is None:
            return
        cursor = page.next_cursor


async def until_archived(postgres: PostgresServer, archive_url: str) -> None:
    """Wait until the archive has all of them, without asking any store."""
    database = archive_url.rpartition("/")[2]
    count = "SELECT count(*) FROM perdure.sessions WHERE archived_at IS NOT NULL"
    async with asyncio.timeout(PATIENCE_S):
        while (await asyncio.to_thread(postgres.execute, count, database=database))[0][0] < MANY:
            await asyncio.sleep(0.2)


async def test_an_open_store_archives_all_that_expires_with_nobody_looking(
    redis_url: str, archive_url: str, postgres_server: PostgresServer
) -> None:
    told = Told()
    swept = {"sweep_in_background": True, "session_cleanup_interval_minutes": 1 / 60, "sweep_batch": 30}
    async with opened(redis_url, archive_url, "hot", plugins=[told], **PATIENT, **swept) as store:
        made = await expiring(store, LIFETIME)
        await until_archived(postgres_server, archive_url)
    assert Counter(told.ids) == Counter(list(made))
    async with opened(redis_url, archive_url, "hot", **PATIENT) as store:
        await check_archived(store, made)
        assert all(tier.due == 0 for tier in (await store.health()).tiers.values())


async def test_four_sweepers_of_which_two_are_killed_archive_each_session_once(
    redis_url: str, archive_url: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    async with opened(redis_url, archive_url, "hot", **PATIENT) as store:
        with sweepers(4, redis_url, archive_url, tmp_path) as started:
            await until(lambda: all(sweeper.said == [["ready"]] for sweeper in started))
            made = await expiring(store, LIFETIME)
            await until(lambda: any(sweeper.told for sweeper in started))
            for sweeper in started[:2]:
                await asyncio.sleep(random.uniform(0, 0.1))
                sweeper.kill()
            told_by_then = {session_id for sweeper in started for session_id, _ in sweeper.told}
            await until_archived(postgres_server, archive_url)
            async with asyncio.timeout(PATIENCE_S):
                while any(tier.due for tier in (await store.health()).tiers.values()):
                    await asyncio.sleep(0.2)
            await until(lambda: {session for sweeper in started for session, _ in sweeper.told} == set(map(str, made)))
        await check_archived(store, made)
    assert len(told_by_then) < MANY, "nothing was left to do when the sweepers were killed"
    events = {event for sweeper in started for event in sweeper.told}
    assert len(events) == MANY, "told twice, as two different events"


async def until(true: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.01)


class Sweeper:
    """One process that sweeps; what it says goes to a file, which a killed process leaves as it is."""

    def __init__(self, out: Path, *urls: str) -> None:
        self._out = out
        path = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-W", "error", str(SCRIPT), *urls]
        with out.open("wb") as stream, out.with_suffix(".err").open("wb") as errors:
            env = {**os.environ, "PYTHONPATH": path}
            self._process = subprocess.Popen(command, stdout=stream, stderr=errors, env=env)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. It must not have ended by itself."""
        assert self._process.poll() in (None, -signal.SIGKILL), self._out.with_suffix(".err").read_text()
        self._process.kill()
        self._process.wait()

    @property
    def said(self) -> list[list[str]]:
        """The words of every whole line that it has said."""
        return [line.split() for line in self._out.read_text().splitlines(keepends=True) if line.endswith("\n")]

    @property
    def told(self) -> list[tuple[str, str]]:
        """The session and the event of each that it has archived."""
        return [(session_id, event) for session_id, event in self.said[1:]]


@contextmanager
def sweepers(number: int, hot: str, archive: str, folder: Path) -> Iterator[list[Sweeper]]:
    """That many processes that sweep; killed at the end."""
    with ExitStack() as ending:
        started = []
        for place in range(number):
            started.append(sweeper := Sweeper(folder / f"{place}.out", hot, archive))
            ending.callback(sweeper.kill)
        yield started
