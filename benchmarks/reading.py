"""Reading a session, and a page of a listing."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from benchmarks.measuring import Call, Row, interleaved
from benchmarks.tracking import INSERT, raw_connection
from benchmarks.work import a_query, a_session, open_store, stored_sessions
from perdure import SessionFilter, SessionStore

FILL = 2_000
PAGE = 50


async def whole_sessions(folder: Path) -> list[Row]:
    """The newest 10, and all, of 1,000 queries; every record is looked at."""
    raw = await raw_connection(folder / "raw_read.db")
    body = a_query().model_dump_json()
    await raw.executemany(INSERT, [(1, position, body) for position in range(1, 1_001)])

    async def select(limit: int) -> None:
        cursor = await raw.execute("SELECT body FROM raw WHERE session = 1 AND position > ?", (1_000 - limit,))
        assert len(list(await cursor.fetchall())) == limit

    async with open_store(folder / "read.db") as store:
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
        timed = await interleaved(calls, rounds=400, block=20)
    await raw.close()
    newest, everything = timed["10"], timed["all"]
    spread = everything.p99 / everything.p50
    return [
        Row(
            "read with the newest 10 of 1,000",
            f"{timed['raw 10'].p50:,.0f} µs (raw select)",
            f"{newest.p50:,.0f} µs",
            f"{newest.p50 / timed['raw 10'].p50:.2f} ×",
            "–",
            None,
        ),
        Row(
            "read all of 1,000 queries",
            f"{timed['raw all'].p50 / 1000:.2f} ms (raw select)",
            f"{everything.p50 / 1000:.2f} ms, p99 {everything.p99 / 1000:.2f} ms",
            f"p99 = {spread:.1f} × p50",
            "≤ 3 ms, p99 ≤ 3 × p50",
            everything.p50 <= 3_000 and spread <= 3,
        ),
    ]


async def listings(folder: Path, *, large: int) -> list[Row]:
    """One user's page of 50 among 10,000 sessions, and among many more."""
    small = await _page_among(folder / "list_small.db", 10_000)
    big = await _page_among(folder / "list_large.db", large)
    ratio = big / small
    return [
        Row("one user's page of 50 among 10,000 sessions", "–", f"{small:.2f} ms", "–", "≤ 5 ms", small <= 5),
        Row(
            f"… among {large:,}",
            f"{small:.2f} ms (perdure, 10,000)",
            f"{big:.2f} ms",
            f"{ratio:.2f} ×",
            "≤ 1.5",
            ratio <= 1.5,
        ),
    ]


async def _page_among(path: Path, sessions: int) -> float:
    """Milliseconds of a page, the median over users and over the first and second page."""
    async with open_store(path) as store:
        users = max(1, sessions // 1_000)
        await fill(store, sessions, users=users)
        names = itertools.cycle([f"user-{number}" for number in range(users)])
        cursors: dict[str, str | None] = {}

        async def page() -> None:
            name = next(names)
            found = await store.list_sessions(SessionFilter(user_id=name), limit=PAGE, cursor=cursors.get(name))
            assert len(found.items) == PAGE
            cursors[name] = None if cursors.get(name) else found.next_cursor

        timed = await interleaved({"page": page}, rounds=400)
    return timed["page"].p50 / 1000


async def fill(store: SessionStore, sessions: int, *, users: int, queries: int = 0) -> float:
    """Take sessions in bulk, spread over users; gives sessions per second."""
    began = time.perf_counter()
    for start in range(0, sessions, FILL):
        batch = stored_sessions(min(FILL, sessions - start), user="", queries=queries, start=start)
        for number, session in enumerate(batch, start):
            session.user_id = f"user-{number % users}"
        await store._core.backend.absorb(batch)
    return sessions / (time.perf_counter() - began)
