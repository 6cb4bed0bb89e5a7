"""Recording queries: one caller, and 32 at once."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiosqlite

from benchmarks.measuring import Call, Row, at_least, at_most, interleaved
from benchmarks.work import a_query, a_session, open_store

ROUNDS = 2_000
TASKS = 32
CALLS_A_TASK = 150

INSERT = "INSERT INTO raw (session, position, body) VALUES (?, ?, ?)"


async def raw_connection(path: Path) -> aiosqlite.Connection:
    """The bare driver, as safe as perdure: WAL, every commit synced."""
    connection = await aiosqlite.connect(path, isolation_level=None)
    await connection.execute("PRAGMA journal_mode=WAL")
    await connection.execute("PRAGMA synchronous=FULL")
    await connection.execute(
        "CREATE TABLE raw (session INTEGER, position INTEGER, body TEXT, PRIMARY KEY (session, position)) WITHOUT ROWID"
    )
    return connection


async def one_caller(folder: Path) -> list[Row]:
    """A query recorded by one caller at a time, at the beginning of a session and after 1,000."""
    raw, positions = await raw_connection(folder / "raw.db"), itertools.count(1)
    body = a_query().model_dump_json()

    async def insert() -> None:
        await raw.execute("BEGIN IMMEDIATE")
        await raw.execute(INSERT, (1, next(positions), body))
        await raw.commit()

    async with open_store(folder / "one.db") as store:
        long_session = await a_session(store, queries=1_000)
        # Few queries in each: a new session every 25 calls stays near the beginning of its history.
        fresh = itertools.cycle([await a_session(store) for _ in range(200)])

        async def track_fresh() -> None:
            await store.track_query(next(fresh), a_query())

        async def track_long() -> None:
            await store.track_query(long_session, a_query())

        calls: dict[str, Call] = {"raw": insert, "h=0": track_fresh, "h=1,000": track_long}
        timed = await interleaved(calls, rounds=ROUNDS)
    await raw.close()
    return [
        _row("track a query, h = 0", timed["raw"].p50, timed["h=0"].p50, "raw begin, insert, commit", 1.1),
        _row("track a query, h = 1,000", timed["raw"].p50, timed["h=1,000"].p50, "raw begin, insert, commit", 1.1),
        _row("… h = 1,000 against h = 0", timed["h=0"].p50, timed["h=1,000"].p50, "perdure, h = 0", 1.1),
    ]


def _row(work: str, raw: float, ours: float, what: str, limit: float) -> Row:
    target, met = at_most(ours / raw, limit)
    return Row(work, f"{raw:,.0f} µs ({what})", f"{ours:,.0f} µs", f"{ours / raw:.2f} ×", target, met)


async def many_callers(folder: Path) -> list[Row]:
    """32 tasks at once: on sessions of their own, and all on one; the best of three alternating runs each."""
    raw, positions = await raw_connection(folder / "raw32.db"), itertools.count(1)
    body = a_query().model_dump_json()

    async def insert(task: int) -> None:
        await raw.execute(INSERT, (task, next(positions), body))

    async with open_store(folder / "many.db") as store:
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
    await raw.close()
    raw_rate, own, shared_rate = (max(rates[name]) for name in ("raw", "own", "shared"))
    return [
        _rate_row("32 tasks, many sessions", raw_rate, own, "raw autocommit inserts", 1.8),
        _rate_row("32 tasks, one session", raw_rate, shared_rate, "raw autocommit inserts", 1.8),
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
