"""Writers, sweepers, deleters and readers at the same time, in several processes as far as the tiers can tell.

Every call lets others go first now and then, so that each round takes another course; the seed makes it the same again.
1,000 rounds; over a file and on real servers, which take their own course as well, some of them; all in `nox -s soak`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
from tests.backends.tiered.pairs import PATIENT, Acknowledge
from tests.effort import LONG

from perdure.backends import MemoryBackend, MemoryData, SessionBackend
from perdure.backends.redis.backend import RedisBackend
from perdure.backends.sql.postgres import PostgresBackend
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.backends.tiered import TieredBackend
from perdure.changes import Applied
from perdure.errors import BackendUnavailableError, SessionInactiveError, SessionNotFoundError
from perdure.models import StoredSession
from perdure.testing import START, ChangeMaker, FaultyBackend, stored_session
from perdure.testing.conformance.steps import FOREVER, HOUR, MINUTE, whole

T = TypeVar("T")
Maker = Callable[[], SessionBackend]

ROUNDS = {"memory": 1_000, "memory over sqlite": 1_000 if LONG else 40, "redis over postgres": 1_000 if LONG else 25}
UNHURRIED = replace(PATIENT, hot_timeout=timedelta(seconds=30), archive_timeout=timedelta(seconds=30))
"""For servers that may be busy: no call of a race is given up."""
CALL_S = 0.001
"""About what a call of a server takes: who is held up for less is overtaken by nobody."""


class Yielding(FaultyBackend):
    """A backend whose calls let others go first, before and after they take effect: `pause_s` by `pause_s`."""

    def __init__(self, inner: SessionBackend, rng: Random, pause_s: float) -> None:
        super().__init__(inner)
        self._rng = rng
        self._pause_s = pause_s

    async def pass_on(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        await self._others_first()
        answer = await call()
        await self._others_first()
        return answer

    async def _others_first(self) -> None:
        for _ in range(self._rng.choice([0, 0, 1, 2, 5])):
            await asyncio.sleep(self._pause_s)


class Processes:
    """Several tiered backends on the same data."""

    def __init__(self, kind: str, acknowledge: Acknowledge, hot: Maker, archive: Maker) -> None:
        self.acknowledge = acknowledge
        self.rng = Random(f"{kind} {acknowledge}")
        self.pause_s = CALL_S if kind == "redis over postgres" else 0.0
        self.hot, self.archive = hot, archive
        self.opened: list[TieredBackend] = []

    async def start(self) -> TieredBackend:
        hot, archive = (Yielding(make(), self.rng, self.pause_s) for make in (self.hot, self.archive))
        tiers = TieredBackend(hot, archive, acknowledge=self.acknowledge, times=UNHURRIED)
        await tiers.open()
        self.opened.append(tiers)
        return tiers

    async def end(self) -> None:
        for tiers in self.opened:
            await tiers.aclose()


@pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.xdist_group(kind)) for kind in ROUNDS])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tiers(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Maker, Maker]:
    """What makes a backend on the hot tier, and one on the archive."""
    if kind == "redis over postgres":
        hot_url, archive_url = (request.getfixturevalue(name) for name in ("redis_url", "postgres_url"))
        return partial(RedisBackend, hot_url), partial(PostgresBackend, archive_url)
    hot = partial(MemoryBackend, MemoryData())
    if kind == "memory over sqlite":
        return hot, partial(SqliteBackend, tmp_path / "archive.db")
    return hot, partial(MemoryBackend, MemoryData())


@pytest.fixture(params=["archive", "hot"])
async def processes(request: pytest.FixtureRequest, kind: str, tiers: tuple[Maker, Maker]) -> Any:
    processes = Processes(kind, request.param, *tiers)
    yield processes
    await processes.end()


async def sweep(tiers: TieredBackend, now: datetime, delivered: list[StoredSession] | None = None) -> None:
    async def deliver(sessions: Sequence[StoredSession]) -> None:
        if delivered is not None:
            delivered.extend(sessions)

    claimed = await tiers.claim_expired(now=now, lease=MINUTE, limit=9, max_bytes=2**40)
    for done in await tiers.archive(claimed.sessions, at=now, deliver=deliver) if claimed.sessions else []:
        assert done.error is None


async def test_a_writer_that_races_the_archiver_loses_nothing(processes: Processes, kind: str) -> None:
    writer, sweeper = await processes.start(), await processes.start()
    maker = ChangeMaker()
    session = stored_session(expires_at=START + MINUTE)
    await writer.create(session)
    now, acknowledged = START, list[str]()
    delivered: list[StoredSession] = []

    async def write() -> None:
        for number in range(2):
            change = maker.query(at=now - (1 - number) * MINUTE, expires_at=now + MINUTE)
            try:
                await writer.apply(session.id, change)
            except SessionInactiveError:
                continue  # it came too late to count as active, and too early to revive
            acknowledged.append(change.queries[0].body)

    for _ in range(ROUNDS[kind]):
        now += timedelta(minutes=processes.rng.randint(1, 3))
        await asyncio.gather(write(), sweep(sweeper, now, delivered), sweep(sweeper, now + HOUR, delivered))
    stored = await whole(await processes.start(), session.id)
    assert len(acknowledged) > ROUNDS[kind]
    assert stored.queries == acknowledged
    assert stored.total_queries == len(acknowledged)
    assert len(delivered) > ROUNDS[kind] // 10, "the archiver must have had its chances"


async def test_a_deletion_among_writers_sweepers_and_slow_readers_is_final(processes: Processes, kind: str) -> None:
    deleter, writer, sweeper, reader = [await processes.start() for _ in range(4)]
    sessions = [stored_session(expires_at=START + MINUTE) for _ in range(ROUNDS[kind])]

    async def write(session: StoredSession) -> None:
        for _ in range(2):
            try:
                change = ChangeMaker().query(at=START + MINUTE, expires_at=START + HOUR)
                await writer.apply(session.id, change)
            except SessionNotFoundError:
                return

    async def read(session: StoredSession) -> None:
        for _ in range(3):
            await reader.read(session.id)

    async def delete(session: StoredSession) -> None:
        for _ in range(processes.rng.randint(0, 20)):
            await asyncio.sleep(processes.pause_s)
        assert await deleter.delete(session.id, forget_at=FOREVER)
        assert await deleter.read(session.id) is None

    for session in sessions:
        await writer.create(session)
        now = START + MINUTE
        await asyncio.gather(write(session), sweep(sweeper, now), read(session), delete(session))
        for tiers in (deleter, writer, sweeper, reader):
            assert await tiers.read(session.id) is None
    await sweep(sweeper, FOREVER)
    fresh = await processes.start()
    assert [await fresh.read(session.id) for session in sessions] == [None] * len(sessions)


async def test_two_processes_that_restore_one_session_at_once_both_keep_what_they_wrote(
    processes: Processes, kind: str
) -> None:
    one, two, sweeper = [await processes.start() for _ in range(3)]
    for _ in range(ROUNDS[kind] // 4):
        session = stored_session(expires_at=START)
        await one.create(session)
        await sweep(sweeper, START)
        assert (await whole(two, session.id)).archived_at == START

        async def restore(tiers: TieredBackend, session: StoredSession = session) -> tuple[Applied, str]:
            change = ChangeMaker().query(at=START, expires_at=START + HOUR)
            return await tiers.apply(session.id, change), change.queries[0].body

        answers = await asyncio.gather(restore(one), restore(two))
        assert sorted(applied.version for applied, _ in answers) == [2, 3]
        places = {applied.total_queries: body for applied, body in answers}
        for tiers in (one, two):
            stored = await whole(tiers, session.id)
            assert stored.queries == [places[1], places[2]]
            assert stored.archived_at is None


async def test_a_session_that_moves_all_the_time_is_read_or_an_error_and_never_missing(
    processes: Processes, kind: str
) -> None:
    mover, reader = await processes.start(), await processes.start()
    session = stored_session(expires_at=START)
    await mover.create(session)
    ended = False

    async def move() -> None:
        nonlocal ended
        now = START
        for _ in range(ROUNDS[kind] // 2):
            await sweep(mover, now)
            await mover.apply(session.id, ChangeMaker().change(at=now, expires_at=now + MINUTE))
            now += MINUTE
        ended = True

    async def read() -> int:
        count = 0
        while not ended:
            try:
                assert await reader.read(session.id) is not None
                count += 1
            except BackendUnavailableError as error:
                assert "moved between the tiers" in str(error)  # noqa: PT017 (it says so, or is another error)
        return count

    _, count = await asyncio.gather(move(), read())
    assert count > 10
