"""Several processes on one file, and processes that are killed."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from tests.backends.sqlite_processes import children

from perdure import QueryRecord, SessionStore, Settings
from perdure.backends.sql.connection import begin
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.models import utc_now
from perdure.testing import START, ManualClock, stored_session

SETTINGS = Settings(sweep_in_background=False, sweep_on_open=False, session_max_queries_per_session=1_000_000)
LEASE = timedelta(seconds=60)
SEED = 7


def store_on(path: Path, clock: ManualClock | None = None) -> SessionStore:
    return SessionStore.open(f"sqlite:///{path}", settings=SETTINGS, clock=utc_now if clock is None else clock)


async def new_session(path: Path) -> UUID:
    async with store_on(path) as store:
        return (await store.create_session(["AAPL"], "equity", ttl_hours=100)).id


async def stored_ids(path: Path, session_id: UUID) -> list[str]:
    """The ids of all queries, in the order of their positions, which must be gapless."""
    async with store_on(path) as store:
        session = await store.get_session(session_id)
        assert session is not None
        queries = list(session.state.history.queries)
        assert [query.position for query in queries] == list(range(1, session.state.history.total_queries + 1))
        return [str(query.id) for query in queries]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
async def backend(path: Path) -> AsyncIterator[SqliteBackend]:
    backend = SqliteBackend(path)
    await backend.open()
    yield backend
    await backend.aclose()


async def test_two_processes_that_append_to_one_session_fill_a_hundred_positions(path: Path) -> None:
    session_id = await new_session(path)

    with children(2, "append", path, session_id, 50) as both:
        for child in both:
            child.go()
        said = [words for child in both for words in child.ended()]

    assert sorted(int(position) for _, position in said) == list(range(1, 101))
    stored = await stored_ids(path, session_id)
    assert {int(position): query_id for query_id, position in said} == dict(enumerate(stored, 1))


@pytest.mark.parametrize("attempt", range(3))
async def test_four_processes_may_open_a_file_at_once_that_does_not_exist_yet(path: Path, attempt: int) -> None:
    with children(4, "create", path) as four:
        for child in four:
            child.go()
        created = {UUID(child.ended()[0][0]) for child in four}

    async with store_on(path) as store:
        assert {summary.id for summary in await store.list_sessions()} == created
    assert len(created) == 4
    assert await SqliteBackend(path).schema.verify() == []


async def test_after_a_kill_every_acknowledged_query_is_there_and_writing_goes_on(path: Path) -> None:
    session_id = await new_session(path)
    chance = random.Random(SEED)
    acknowledged: dict[int, str] = {}
    stored: list[str] = []

    for _ in range(5):
        with children(1, "track_for_ever", path, session_id, chance.choice([1, 4])) as (child,):
            child.go()
            said = [child.line() for _ in range(chance.randint(1, 120))]
            said += child.killed()
        acknowledged |= {int(position): query_id for query_id, position in said}

        stored = await stored_ids(path, session_id)
        assert acknowledged.items() <= dict(enumerate(stored, 1)).items()

    async with store_on(path) as store:
        tracked = await store.track_query(session_id, QueryRecord(query_type="after"))
    assert tracked.position == len(stored) + 1
    assert await SqliteBackend(path).schema.verify() == []


async def test_a_kill_hurts_no_other_process_that_writes_to_the_same_session(path: Path) -> None:
    session_id = await new_session(path)

    with (
        children(1, "track_for_ever", path, session_id, 4) as (victim,),
        children(1, "append", path, session_id, 60) as (survivor,),
    ):
        victim.go()
        survivor.go()
        said = [victim.line() for _ in range(30)]
        said += victim.killed()
        said += survivor.ended()

    stored = await stored_ids(path, session_id)
    assert {int(position): query_id for query_id, position in said}.items() <= dict(enumerate(stored, 1)).items()


async def test_what_a_killed_process_had_claimed_comes_back_after_the_lease(path: Path, backend: SqliteBackend) -> None:
    session = stored_session()
    await backend.create(session)
    now = session.expires_at
    with children(1, "claim", path, now.isoformat(), LEASE.total_seconds()) as (child,):
        child.go()
        claimed = child.line()
        child.killed()
    assert claimed == [str(session.id)]

    just_before = now + LEASE - timedelta(microseconds=1)
    early = await backend.claim_expired(now=just_before, lease=LEASE, limit=10, max_bytes=2**20)
    in_time = await backend.claim_expired(now=now + LEASE, lease=LEASE, limit=10, max_bytes=2**20)

    assert [list(early), [session.id for session in in_time]] == [[], [session.id]]


async def test_a_session_whose_sweeper_was_killed_is_archived_by_a_later_sweep(path: Path) -> None:
    clock = ManualClock(START)
    async with store_on(path, clock) as store:
        session = await store.create_session(["AAPL"], "equity", ttl_hours=1)
        clock.advance(timedelta(hours=1))
        with children(1, "claim", path, clock().isoformat(), LEASE.total_seconds()) as (child,):
            child.go()
            assert child.line() == [str(session.id)]
            child.killed()

        during = await store.cleanup_expired_sessions()
        clock.advance(LEASE)
        after = await store.cleanup_expired_sessions()
        archived = await store.get_session(session.id)

    assert (during.archived, after.archived) == (0, 1)
    assert archived is not None
    assert archived.is_archived


async def test_two_processes_that_sweep_at_once_archive_each_session_once(path: Path, backend: SqliteBackend) -> None:
    for _ in range(40):
        await backend.create(stored_session())

    with children(2, "sweep", path, (START + timedelta(hours=2)).isoformat()) as both:
        for child in both:
            child.go()
        reports = [child.ended()[0] for child in both]

    assert sum(int(archived) for archived, _ in reports) == 40
    assert [failed for _, failed in reports] == ["0", "0"]


async def test_a_commit_is_synced_before_it_is_acknowledged(backend: SqliteBackend) -> None:
    assert backend._write_thread is not None

    def pragmas(connection: object) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]  # type: ignore[attr-defined]

    assert await backend._write_thread.run(pragmas) == ["wal", 2, 1]


async def test_whoever_waits_for_the_write_lock_looks_again_after_short_and_random_pauses(
    path: Path, backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own waiting grows longer with every look, which starves one of two busy processes."""
    pauses: list[float] = []
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as holder,
        closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as waiting,
    ):
        holder.execute("BEGIN IMMEDIATE")

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 50:
                holder.execute("COMMIT")

        monkeypatch.setattr(time, "sleep", pause)
        begin(waiting, patience_s=60)

        assert waiting.in_transaction
    assert len(pauses) == 50
    assert max(pauses) <= 0.002
    assert len(set(pauses)) > 1
