"""Postgres: recording, reading, sweeping and listing, against bare asyncpg on the same server in the same run."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from benchmarks.measuring import Call, Row, at_least, at_most, interleaved
from benchmarks.reading import PAGE, fill
from benchmarks.work import QUIET, a_query, a_session, stored_sessions
from perdure import SessionFilter, SessionStore, Settings
from perdure.backends.sql.postgres import PostgresBackend
from perdure.testing.servers import PostgresServer

ROUNDS = 1_500
TASKS = 32
CALLS_A_TASK = 150
DUE = 8_000
ALREADY = 100_000
ABSORBED = 20_000

TABLE = "CREATE TABLE raw (session bigint, position bigint, body text NOT NULL, PRIMARY KEY (session, position))"
INSERT = "INSERT INTO raw (session, position, body) VALUES ($1, $2, $3)"
SELECT = "SELECT body FROM raw WHERE session = 1 AND position > $1 ORDER BY position"


def open_store(url: str) -> SessionStore:
    """A store that does nothing by itself and holds a history of any length."""
    return SessionStore.open(url, settings=Settings(session_max_queries_per_session=10_000_000, **QUIET))


async def measure(server: PostgresServer, *, large: int) -> list[Row]:
    """Every row, each on a database of its own."""
    url = server.create_database("bench")
    return [
        *await one_caller(url),
        *await many_callers(server.create_database("bench_many")),
        *await whole_sessions(server.create_database("bench_read")),
        *await absorbing(server.create_database("bench_absorb")),
        *await sweeps(server.create_database("bench_sweep")),
        *await listings(server, large=large),
    ]


async def raw_connection(url: str) -> asyncpg.Connection:
    """The bare driver, on a connection that is held."""
    connection = await asyncpg.connect(url)
    await connection.execute(TABLE)
    return connection


async def one_caller(url: str) -> list[Row]:
    """A query recorded by one caller at a time, at the beginning of a session and after 1,000."""
    raw, positions = await raw_connection(url), itertools.count(1)
    body = a_query().model_dump_json()

    async def insert() -> None:
        await raw.execute(INSERT, 1, next(positions), body)

    async with open_store(url) as store:
        long_session = await a_session(store, queries=1_000)
        fresh = itertools.cycle([await a_session(store) for _ in range(200)])

        async def track_fresh() -> None:
            await store.track_query(next(fresh), a_query())

        async def track_long() -> None:
            await store.track_query(long_session, a_query())

        calls: dict[str, Call] = {"raw": insert, "h=0": track_fresh, "h=1,000": track_long}
        timed = await interleaved(calls, rounds=ROUNDS)
    await raw.close()
    what = "raw INSERT, held connection"
    return [
        _row("Postgres: track a query, h = 0", timed["raw"].p50, timed["h=0"].p50, what, 1.5),
        _row("… h = 1,000", timed["raw"].p50, timed["h=1,000"].p50, what, 1.5),
    ]


def _row(work: str, raw: float, ours: float, what: str, limit: float) -> Row:
    target, met = at_most(ours / raw, limit)
    return Row(work, f"{raw:,.0f} µs ({what})", f"{ours:,.0f} µs", f"{ours / raw:.2f} ×", target, met)


async def many_callers(url: str) -> list[Row]:
    """32 tasks at once: on sessions of their own, and all on one; the best of three alternating runs each."""
    raw, positions = await raw_connection(url), itertools.count(1)
    body = a_query().model_dump_json()
    pool = await asyncpg.create_pool(url, min_size=10, max_size=10)

    async def insert(task: int) -> None:
        await pool.execute(INSERT, task, next(positions), body)

    async with open_store(url) as store:
        sessions = [await a_session(store) for _ in range(TASKS)]
        shared = await a_session(store)

        async def track_own(task: int) -> None:
            await store.track_query(sessions[task], a_query())

        async def track_shared(_: int) -> None:
            await store.track_query(shared, a_query())

        rates: dict[str, list[float]] = {"raw": [], "own": [], "shared": []}
        for _ in range(3):
            rates["raw"].append(await _rate(insert))
            rates["own"].append(await _rate(track_own))
            rates["shared"].append(await _rate(track_shared))
    await pool.close()
    await raw.close()
    pooled, own, one = (max(rates[name]) for name in ("raw", "own", "shared"))
    return [
        _rate_row("Postgres: 32 tasks, many sessions", pooled, own, "asyncpg's pool of 10", 2),
        _rate_row("Postgres: 32 tasks, one session", own, one, "perdure, many sessions", 1),
    ]


def _rate_row(work: str, raw: float, ours: float, what: str, limit: float) -> Row:
    target, met = at_least(ours / raw, limit)
    return Row(work, f"{raw:,.0f}/s ({what})", f"{ours:,.0f}/s", f"{ours / raw:.2f} ×", target, met)


async def _rate(call: Callable[[int], Awaitable[None]]) -> float:
    async def work(task: int) -> None:
        for _ in range(CALLS_A_TASK):
            await call(task)

    began = time.perf_counter()
    await asyncio.gather(*(work(task) for task in range(TASKS)))
    return TASKS * CALLS_A_TASK / (time.perf_counter() - began)


async def whole_sessions(url: str) -> list[Row]:
    """The newest 10, and all, of 1,000 queries; every record is looked at."""
    raw = await raw_connection(url)
    body = a_query().model_dump_json()
    await raw.executemany(INSERT, [(1, position, body) for position in range(1, 1_001)])

    async def select(limit: int) -> None:
        assert len(await raw.fetch(SELECT, 1_000 - limit)) == limit

    async with open_store(url) as store:
        session_id = await a_session(store, queries=1_000)

        async def read(history: int | None) -> None:
            session = await store.get_session(session_id, history=history)
            assert session is not None
            for query in session.state.history.queries:
                assert query.position

        calls: dict[str, Call] = {
            "raw 10": lambda: select(10),
            "10": lambda: read(10),
            "raw all": lambda: select(1_000),
            "all": lambda: read(None),
        }
        timed = await interleaved(calls, rounds=300, block=20)
    await raw.close()
    newest, everything = timed["10"], timed["all"]
    spread = everything.p99 / everything.p50
    return [
        Row(
            "Postgres: read with the newest 10 of 1,000",
            f"{timed['raw 10'].p50:,.0f} µs (raw select)",
            f"{newest.p50:,.0f} µs",
            f"{newest.p50 / timed['raw 10'].p50:.2f} ×",
            "–",
            None,
        ),
        Row(
            "Postgres: read all of 1,000 queries",
            f"{timed['raw all'].p50 / 1000:.2f} ms (raw select)",
            f"{everything.p50 / 1000:.2f} ms, p99 {everything.p99 / 1000:.2f} ms",
            f"p99 = {spread:.1f} × p50",
            "≤ 3 ms, p99 ≤ 3 × p50",
            everything.p50 <= 3_000 and spread <= 3,
        ),
    ]


async def absorbing(url: str) -> list[Row]:
    """Sessions of 10 queries taken from elsewhere, as the sweep of a hot tier does."""
    rows = []
    backend = PostgresBackend(url)
    await backend.open()
    for already in (0, ALREADY):
        if already:
            await _absorb(backend, already, queries=1)
        rate = await _absorb(backend, ABSORBED, queries=10)
        where = f"into an archive of {already:,} not analysed" if already else "into an empty archive"
        work = f"Postgres: absorb sessions of 10 queries {where}"
        rows.append(Row(work, "–", f"{rate:,.0f} sessions/s", "–", "≥ 6,000/s", rate >= 6_000))
    await backend.aclose()
    return rows


async def _absorb(backend: PostgresBackend, count: int, *, queries: int) -> float:
    took = 0.0
    for start in range(0, count, 1_000):
        batch = stored_sessions(1_000, user="analyst", queries=queries, start=start)
        for session in batch:
            session.archived_at = session.expires_at
        began = time.perf_counter()
        await backend.absorb(batch)
        took += time.perf_counter() - began
    return count / took


async def sweeps(url: str) -> list[Row]:
    """Sessions of 10 queries each in Postgres alone, into an empty archive and into one of 100,000."""
    rows = []
    async with open_store(url) as store:
        for already in (0, ALREADY):
            if already:
                await fill(store, already, users=100, queries=1)
                await store.cleanup_expired_sessions()
            await fill(store, DUE, users=100, queries=10)
            began = time.perf_counter()
            report = await store.cleanup_expired_sessions()
            rate = DUE / (time.perf_counter() - began)
            assert report.archived == DUE, report
            where = f"into an archive of {already:,}" if already else "into an empty archive"
            work = f"Postgres: sweep and archive, 10 queries each, {where}"
            rows.append(Row(work, "–", f"{rate:,.0f} sessions/s", "–", "≥ 4,000/s", rate >= 4_000))
    return rows


# Filling with SQL: the listing is what is measured, and a million sessions one by one would take an hour.
FILL = """
WITH made AS (
  INSERT INTO perdure.sessions (
    id, user_id, type, assets, tags, created_at, expires_at, due_at, last_accessed_at, archived_at, version, head,
    total_queries, cache_hits, state_bytes, history_bytes, writers
  )
  SELECT gen_random_uuid(), 'user-' || n % $2, 'equity', '["AAPL"]', '["tech"]', $1 + n * 1000000::bigint,
    $1 + n * 1000000::bigint, $1 + n * 1000000::bigint, $1, CASE n % 3 WHEN 0 THEN $1 END, 1, 'fill', 0, 0, 0, 0, ''
  FROM generate_series($3::bigint, $4::bigint) AS n
  RETURNING id
)
INSERT INTO perdure.session_labels
SELECT label, (s.archived_at IS NOT NULL)::integer, s.created_at, s.id
FROM perdure.sessions AS s, made, LATERAL unnest(ARRAY['all']) AS label WHERE false
"""
LABELS = """
INSERT INTO perdure.session_labels
SELECT label, (s.archived_at IS NOT NULL)::integer, s.created_at, s.id
FROM perdure.sessions AS s,
  LATERAL unnest(ARRAY['all', 'user:' || s.user_id, 'type:equity', 'asset:AAPL', 'tag:tech']) AS label
"""


async def listings(server: PostgresServer, *, large: int) -> list[Row]:
    """One user's page of 50 among 10,000 sessions, and among many more."""
    small = await _page_among(server.create_database("bench_small"), 10_000)
    big = await _page_among(server.create_database("bench_large"), large)
    ratio = big / small
    return [
        Row("Postgres: one user's page of 50 among 10,000 sessions", "–", f"{small:.2f} ms", "–", "≤ 5 ms", small <= 5),
        Row(f"… among {large:,}", f"{small:.2f} ms (10,000)", f"{big:.2f} ms", f"{ratio:.2f} ×", "≤ 1.5", ratio <= 1.5),
    ]


async def _page_among(url: str, sessions: int) -> float:
    """Milliseconds of a page, the median over users and over the first and second page."""
    async with open_store(url) as store:
        users = max(1, sessions // 1_000)
        began = (datetime(2026, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        raw = await asyncpg.connect(url)
        await raw.execute(FILL, began, users, 1, sessions)
        await raw.execute(LABELS)
        await raw.close()
        names = itertools.cycle([f"user-{number}" for number in range(users)])
        cursors: dict[str, str | None] = {}

        async def page() -> None:
            name = next(names)
            found = await store.list_sessions(SessionFilter(user_id=name), limit=PAGE, cursor=cursors.get(name))
            assert len(found.items) == PAGE
            cursors[name] = None if cursors.get(name) else found.next_cursor

        timed = await interleaved({"page": page}, rounds=400)
    return timed["page"].p50 / 1000


def run(folder: Path, *, large: int) -> list[Row]:
    """Start a server in the folder, and measure on it."""
    with PostgresServer(folder=folder / "postgres") as server:
        return asyncio.run(measure(server, large=large))
