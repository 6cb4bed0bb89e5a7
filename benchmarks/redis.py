"""Redis and a cluster of it: recording, reading, listing, sweeping, and what a session weighs.

`python -m benchmarks.redis [--no-cluster] [--large N]` measures these rows alone.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import redis.asyncio as driver
from redis.asyncio.cluster import RedisCluster

from benchmarks.measuring import Call, Row, at_least, at_most, interleaved
from benchmarks.reading import PAGE, fill
from benchmarks.work import QUIET, a_query, a_session, stored_sessions
from perdure import SessionFilter, SessionStore, Settings
from perdure.backends.redis.backend import RedisBackend
from perdure.testing.servers import ValkeyCluster, ValkeyServer

APPEND = "return redis.call('RPUSH', KEYS[1], ARGV[1])"
ROUNDS = 2_000
TASKS = 32
CALLS_A_TASK = 300
REPEATS = 5
DUE = 8_000
ALREADY = 20_000
LONG = 1_000

Raw = driver.Redis | RedisCluster


def rows(*, large: int, cluster: bool = True) -> list[Row]:
    """Every row, on servers that are started for it."""
    found: list[Row] = []
    with ValkeyServer(durability="everysec") as server:
        measured = (one_caller, reading, many_callers, sweeping)
        raw_rate = 0.0
        for measure in measured:
            server.clear()
            made = asyncio.run(measure(server.url, server.port))
            found += made
            if measure is many_callers:
                raw_rate = float(made[0].raw.split("/s")[0].replace(",", ""))
        server.clear()
        found += asyncio.run(listings(server, large=large))
    with ValkeyServer(durability="none") as server:  # of its own: what others leave to be freed would count
        found += asyncio.run(weight(server.url, server.port))
    if cluster:
        with ValkeyCluster(durability="everysec") as nodes:
            found += asyncio.run(clustered(nodes.url, nodes.nodes[0].port, raw_rate))
    return found


@asynccontextmanager
async def store_at(url: str) -> AsyncIterator[SessionStore]:
    """A store that does nothing by itself and holds a history of any length."""
    settings = Settings(session_max_queries_per_session=10_000_000, **QUIET)
    async with SessionStore.open(url, settings=settings) as store:
        yield store


async def one_caller(url: str, port: int) -> list[Row]:
    """A query recorded by one caller at a time, at the beginning of a session and after 1,000."""
    raw, body = driver.Redis(port=port), a_query().model_dump_json()
    sha = await raw.script_load(APPEND)
    numbers = itertools.count()

    async def append() -> None:
        await raw.evalsha(sha, 1, f"raw:{next(numbers) % 200}", body)

    async with store_at(url) as store:
        long_session = await a_session(store, queries=LONG)
        fresh = itertools.cycle([await a_session(store) for _ in range(200)])

        async def track_fresh() -> None:
            await store.track_query(next(fresh), a_query())

        async def track_long() -> None:
            await store.track_query(long_session, a_query())

        calls: dict[str, Call] = {"raw": append, "h=0": track_fresh, "h=1,000": track_long}
        timed = await interleaved(calls, rounds=ROUNDS)
    await raw.aclose()
    return [
        _at_most("Redis: track a query, h = 0", timed["raw"].p50, timed["h=0"].p50, "raw EVALSHA append", 1.5),
        _at_most("… h = 1,000 against h = 0", timed["h=0"].p50, timed["h=1,000"].p50, "perdure, h = 0", 1.1),
    ]


async def reading(url: str, port: int) -> list[Row]:
    """The newest 10, and all, of 1,000 queries; every record is looked at."""
    raw = driver.Redis(port=port)
    await raw.set("raw", b"x" * 2_048)
    for _ in range(LONG):
        await raw.rpush("raw:list", a_query().model_dump_json())  # type: ignore[misc]  # its stubs allow for both kinds

    async with store_at(url) as store:
        session_id = await a_session(store, queries=LONG)

        async def read(history: int | None) -> None:
            session = await store.get_session(session_id, history=history)
            assert session is not None
            for query in session.state.history.queries:
                assert query.position

        calls: dict[str, Call] = {"get": lambda: raw.get("raw"), "10": lambda: read(10)}
        newest = await interleaved(calls, rounds=ROUNDS)
        calls = {"lrange": lambda: raw.lrange("raw:list", 0, -1), "all": lambda: read(None)}  # type: ignore[dict-item]
        whole = await interleaved(calls, rounds=400, block=20)
    await raw.aclose()
    everything = whole["all"]
    spread = everything.p99 / everything.p50
    return [
        _at_most("Redis: read with the newest 10 of 1,000", newest["get"].p50, newest["10"].p50, "GET of 2 KB", 1.75),
        Row(
            "Redis: read all of 1,000 queries",
            f"{whole['lrange'].p50 / 1000:.2f} ms (LRANGE)",
            f"{everything.p50 / 1000:.2f} ms, p99 {everything.p99 / 1000:.2f} ms",
            f"p99 = {spread:.1f} × p50",
            "≤ 3 ms, p99 ≤ 3 × p50",
            everything.p50 <= 3_000 and spread <= 3,
        ),
    ]


async def many_callers(url: str, port: int) -> list[Row]:
    """32 tasks at once: on sessions of their own, and all on one."""
    raw = driver.Redis(port=port)
    own, shared, plain = await _rates(url, raw)
    await raw.aclose()
    return [
        _at_least("Redis: 32 tasks, many sessions", plain, own, "raw EVALSHA append", 1.2),
        _at_least("Redis: 32 tasks, one session", own, shared, "perdure, many sessions", 0.8),
    ]


async def clustered(url: str, port: int, single: float) -> list[Row]:
    """The same on a cluster, against its raw client and against one server's."""
    raw = RedisCluster(host="127.0.0.1", port=port)
    own, _, plain = await _rates(url, raw)
    await raw.aclose()
    page = await _page_among(url, 10_000)
    return [
        _at_least("Redis Cluster: 32 tasks, many sessions", single, own, "raw EVALSHA append, one server", 0.8),
        _at_least("… against the cluster's raw client", plain, own, "raw EVALSHA append, cluster", 0.8),
        Row("Redis Cluster: one user's page of 50 among 10,000", "–", f"{page:.2f} ms", "–", "≤ 5 ms", page <= 5),
    ]


async def listings(server: ValkeyServer, *, large: int) -> list[Row]:
    """One user's page of 50 among 10,000 sessions, and among many more."""
    small = await _page_among(server.url, 10_000)
    server.clear()
    big = await _page_among(server.url, large)
    ratio = big / small
    return [
        Row("Redis: one user's page of 50 among 10,000 sessions", "–", f"{small:.2f} ms", "–", "≤ 5 ms", small <= 5),
        Row(f"… among {large:,}", f"{small:.2f} ms (10,000)", f"{big:.2f} ms", f"{ratio:.2f} ×", "≤ 1.5", ratio <= 1.5),
    ]


async def sweeping(url: str, _: int) -> list[Row]:
    """Sessions of 10 queries each: archived in Redis alone, and what Redis can serve of a sweep between two tiers."""
    found = []
    async with store_at(url) as store:
        for already in (0, ALREADY):
            if already:
                await fill(store, already, users=100, queries=1)
                await store.cleanup_expired_sessions()
            await fill(store, DUE, users=100, queries=10)
            began = time.perf_counter()
            report = await store.cleanup_expired_sessions()
            rate = DUE / (time.perf_counter() - began)
            assert report.archived == DUE, report
            where = f"beside {already:,} archived" if already else "beside none archived"
            found.append(_rate(f"Redis: sweep and archive, 10 queries each, {where}", rate, 4_000))
        found.append(_rate("Redis: claim and evict, 10 queries each", await _claim_and_evict(store), 4_000))
    return found


async def _claim_and_evict(store: SessionStore) -> float:
    """Sessions a second."""
    backend = store._core.backend
    await fill(store, DUE, users=100, queries=10)
    now, lease, count = store._core.now(), timedelta(minutes=5), 0
    began = time.perf_counter()
    while claimed := await backend.claim_expired(now=now, lease=lease, limit=200, max_bytes=2**26):
        evicted = await asyncio.gather(
            *(backend.evict(session.id, version=session.version, head=session.head) for session in claimed)
        )
        count += sum(evicted)
    assert count == DUE
    return DUE / (time.perf_counter() - began)


async def weight(url: str, port: int) -> list[Row]:
    """Bytes in Redis for a session of 100 queries and a little state."""
    raw, count = driver.Redis(port=port), 500
    sessions = stored_sessions(count, user="analyst", queries=100)
    for session in sessions:
        session.sections["context"] = {f"key-{number}": '"' + "v" * 40 + '"' for number in range(5)}
        session.state_bytes = sum(len(key) + len(text) for key, text in session.sections["context"].items())
    backend = RedisBackend(url)
    await backend.open()
    before = (await raw.info("memory"))["used_memory"]
    for first in range(0, count, 100):
        await backend.absorb(sessions[first : first + 100])
    used = ((await raw.info("memory"))["used_memory"] - before) / count
    await backend.aclose()
    await raw.aclose()
    json = sum(session.history_bytes + session.state_bytes for session in sessions) / count
    target, met = at_most(used / json, 1.1)
    return [
        Row(
            "Redis: bytes of a session, h = 100",
            f"{json / 1000:.1f} KB (the JSON itself)",
            f"{used / 1000:.1f} KB",
            f"{used / json:.2f} ×",
            target,
            met,
        )
    ]


async def _rates(url: str, raw: Raw) -> tuple[float, float, float]:
    """Calls a second of 32 tasks: on sessions of their own, all on one, and raw; the best of alternating runs."""
    body = a_query().model_dump_json()
    await raw.eval(APPEND, 1, "{raw}", body)  # type: ignore[misc]
    sha = await raw.script_load(APPEND)
    async with store_at(url) as store:
        sessions = [await a_session(store) for _ in range(TASKS)]
        shared = await a_session(store)
        calls: dict[str, Callable[[int], Awaitable[object]]] = {
            "raw": lambda task: raw.evalsha(sha, 1, f"raw:{task}", body),  # type: ignore[dict-item]
            "own": lambda task: store.track_query(sessions[task], a_query()),
            "shared": lambda _: store.track_query(shared, a_query()),
        }
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(REPEATS):
            for name, call in calls.items():
                rates[name].append(await _tasks_rate(call))
    return max(rates["own"]), max(rates["shared"]), max(rates["raw"])


async def _tasks_rate(call: Callable[[int], Awaitable[object]]) -> float:
    async def work(task: int) -> None:
        for _ in range(CALLS_A_TASK):
            await call(task)

    began = time.perf_counter()
    await asyncio.gather(*(work(task) for task in range(TASKS)))
    return TASKS * CALLS_A_TASK / (time.perf_counter() - began)


async def _page_among(url: str, sessions: int) -> float:
    """Milliseconds of a page of a user who has 10,000 of them, the median over the first and second page."""
    async with store_at(url) as store:
        await fill(store, sessions, users=sessions // 10_000)
        cursor: str | None = None

        async def page() -> None:
            nonlocal cursor
            found = await store.list_sessions(SessionFilter(user_id="user-0"), limit=PAGE, cursor=cursor)
            assert len(found.items) == PAGE
            cursor = None if cursor else found.next_cursor

        timed = await interleaved({"page": page}, rounds=400)
    return timed["page"].p50 / 1000


def _at_most(work: str, raw: float, ours: float, what: str, limit: float) -> Row:
    target, met = at_most(ours / raw, limit)
    return Row(work, f"{raw:,.0f} µs ({what})", f"{ours:,.0f} µs", f"{ours / raw:.2f} ×", target, met)


def _at_least(work: str, raw: float, ours: float, what: str, limit: float) -> Row:
    target, met = at_least(ours / raw, limit)
    return Row(work, f"{raw:,.0f}/s ({what})", f"{ours:,.0f}/s", f"{ours / raw:.2f} ×", target, met)


def _rate(work: str, rate: float, limit: float) -> Row:
    return Row(work, "–", f"{rate:,.0f} sessions/s", "–", f"≥ {limit:,.0f}/s", rate >= limit)


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-cluster", dest="cluster", action="store_false")
    parser.add_argument("--large", type=int, default=1_000_000, help="sessions in the large listing")
    options = parser.parse_args()
    for row in rows(large=options.large, cluster=options.cluster):
        met = {True: "yes", False: "NO", None: "–"}[row.met]
        print(f"{met:>4}  {row.work}: {row.perdure} against {row.raw}: {row.ratio} (target {row.target})", flush=True)


if __name__ == "__main__":
    main()
