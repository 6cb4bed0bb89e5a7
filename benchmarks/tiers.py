"""Two tiers, Redis over Postgres: what each way of acknowledging costs, and how fast a sweep moves sessions.

`python -m benchmarks.tiers` measures these rows alone.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import AsyncExitStack
from typing import Literal

from benchmarks.measuring import Call, Row, interleaved
from benchmarks.work import QUIET, a_query, a_session, stored_sessions
from perdure import SessionStore, Settings
from perdure.testing.servers import PostgresServer, ValkeyServer

ROUNDS = 1_000
LONG = 1_000
TASKS, CALLS_A_TASK = 32, 100
DUE = 8_000
FILL = 1_000
Mode = Literal["hot", "archive"]


def rows(*, already: int = 100_000) -> list[Row]:
    """Every row, on servers that are started for it."""
    with ValkeyServer(durability="everysec") as redis, PostgresServer() as postgres:
        found = asyncio.run(one_caller(redis.url, postgres.create_database("one")))
        for there in (0, already):
            redis.clear()
            found += asyncio.run(sweeping(redis.url, postgres.create_database(f"sweep_{there}"), already=there))
    return found


def open_store(url: str, archive: str | None = None, acknowledge: Mode | None = None) -> SessionStore:
    """A store that does nothing by itself, holds a history of any length, and is patient with a busy machine."""
    settings = Settings(
        session_max_queries_per_session=10_000_000, hot_timeout_seconds=60, archive_timeout_seconds=120, **QUIET
    )
    return SessionStore.open(url, archive=archive, acknowledge=acknowledge, settings=settings)


async def one_caller(redis: str, postgres: str) -> list[Row]:
    """A query recorded, and a session read, through both tiers, against the tier that decides alone."""
    async with AsyncExitStack() as stack:
        stores = {
            "Redis": await stack.enter_async_context(open_store(f"{redis}?namespace=alone")),
            "Postgres": await stack.enter_async_context(open_store(f"{postgres}?schema=alone")),
            "hot": await stack.enter_async_context(
                open_store(f"{redis}?namespace=hot", f"{postgres}?schema=hot", "hot")
            ),
            "archive": await stack.enter_async_context(
                open_store(f"{redis}?namespace=cache", f"{postgres}?schema=cache", "archive")
            ),
        }
        fresh = {name: await a_session(store) for name, store in stores.items()}
        long = {name: await a_session(store, queries=LONG) for name, store in stores.items()}
        number = itertools.count()

        def track(name: str) -> Call:
            return lambda: stores[name].track_query(fresh[name], a_query(next(number)))

        def read(name: str) -> Call:
            return lambda: stores[name].get_session(long[name], history=10)

        written = await interleaved({name: track(name) for name in stores}, rounds=ROUNDS)
        seen = await interleaved({name: read(name) for name in stores}, rounds=ROUNDS)
        rates = {name: await _rate(store) for name, store in stores.items()}
    found = []
    for mode, alone in (("hot", "Redis"), ("archive", "Postgres")):
        title = f"two tiers, acknowledge={mode}: "
        found.append(_row(title + "track a query", written[alone].p50, written[mode].p50, f"{alone} alone"))
        found.append(_row(title + f"read newest 10 of {LONG:,}", seen[alone].p50, seen[mode].p50, f"{alone} alone"))
        found.append(
            Row(
                title + "32 tasks, many sessions",
                f"{rates[alone]:,.0f}/s ({alone} alone)",
                f"{rates[mode]:,.0f}/s",
                f"{rates[mode] / rates[alone]:.2f} ×",
                "–",
                None,
            )
        )
    return found


def _row(work: str, alone: float, both: float, what: str) -> Row:
    return Row(work, f"{alone:,.0f} µs ({what})", f"{both:,.0f} µs", f"{both / alone:.2f} ×", "–", None)


async def _rate(store: SessionStore) -> float:
    """Queries a second of 32 tasks, each with a session of its own."""
    sessions = [await a_session(store) for _ in range(TASKS)]

    async def work(place: int) -> None:
        for number in range(CALLS_A_TASK):
            await store.track_query(sessions[place], a_query(number))

    began = time.perf_counter()
    await asyncio.gather(*map(work, range(TASKS)))
    return TASKS * CALLS_A_TASK / (time.perf_counter() - began)


async def sweeping(redis: str, postgres: str, *, already: int) -> list[Row]:
    """Expired sessions of 10 queries each, moved from Redis into an archive that nobody has analysed."""
    async with open_store(redis, postgres, "hot") as store, open_store(redis) as hot, open_store(postgres) as archive:
        for start in range(0, already, FILL):
            those = stored_sessions(FILL, user=f"user-{start % 100_000}", queries=1, start=start)
            for session in those:
                session.archived_at = session.expires_at
            await archive._core.backend.absorb(those)
        for start in range(0, DUE, FILL):
            await hot._core.backend.absorb(stored_sessions(FILL, user=f"user-{start}", queries=10, start=start))
        began = time.perf_counter()
        report = await store.cleanup_expired_sessions()
        rate = DUE / (time.perf_counter() - began)
        assert (report.archived, report.failed) == (DUE, {}), report
    where = f"an archive of {already:,}" if already else "an empty archive"
    work = f"two tiers: sweep and archive, 10 queries each, into {where}"
    return [Row(work, "–", f"{rate:,.0f} sessions/s", "–", "≥ 4,000/s", rate >= 4_000)]


def main() -> None:
    """Print the rows."""
    for row in rows():
        met = {True: "yes", False: "NO", None: "–"}[row.met]
        print(f"{met:>4}  {row.work}: {row.perdure} against {row.raw}: {row.ratio} (target {row.target})", flush=True)


if __name__ == "__main__":
    main()
