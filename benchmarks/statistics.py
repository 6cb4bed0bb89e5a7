"""Statistics over many archived sessions in Postgres, from the roll-up."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
from pydantic_core import to_json

from benchmarks.measuring import Row, interleaved
from benchmarks.postgres import open_store
from perdure import QueryRecord, SessionType
from perdure.analytics import SessionAnalytics
from perdure.models import Measured, StoredSession, store_query
from perdure.testing.servers import PostgresServer
from perdure.values import encode_default

USERS = 1_000
DAYS = 365
KINDS = 2_000
"""Different sessions, which come again and again at other times and of other users."""

AT_ONCE = 20_000
BEGAN = datetime(2025, 1, 1, tzinfo=UTC)

# Rows as archiving writes them; the trigger on the table notes each for the roll-up.
FILL = """
INSERT INTO perdure.session_metrics (
  session_id, user_id, type, assets, tags, created_at, expires_at, last_accessed_at, archived_at, version,
  total_queries, cache_hits, day, counts
)
SELECT gen_random_uuid(), 'user-' || n % $3, k.type, '[]', '[]', t.at, t.at + k.lasts,
  t.at + k.lasts, t.at + k.lasts, 1,
  k.queries, k.hits, t.at / 86400000000,
  k.counts || jsonb_build_object('began:' || perdure.hour_of(t.at), 1, 'asked:' || perdure.hour_of(t.at), k.queries)
FROM generate_series($1::bigint, $2::bigint) AS n
JOIN kinds AS k ON k.number = n % $4,
  LATERAL (SELECT $5::bigint + n * $6::bigint AS at) AS t
"""

KINDS_TABLE = """
CREATE TEMPORARY TABLE kinds (number bigint, type text, lasts bigint, queries bigint, hits bigint, counts jsonb)
"""


async def statistics(url: str, *, sessions: int) -> list[Row]:
    """How long statistics take: of all sessions, of the last 30 days, of one user."""
    end = BEGAN + timedelta(days=DAYS)
    async with open_store(url) as store:
        await _fill(url, sessions)
        began = time.perf_counter()
        assert await store.generate_session_metrics() == sessions
        rate = sessions / (time.perf_counter() - began)
        analytics = SessionAnalytics(store)
        stats = await analytics.get_session_stats(days=None, until=end)
        assert (stats.total_sessions, stats.users) == (sessions, min(USERS, sessions))
        timed = await interleaved(
            {
                "all": lambda: analytics.get_session_stats(days=None, until=end),
                "month": lambda: analytics.get_session_stats(until=end),
                "user": lambda: analytics.get_session_stats("user-7", days=None, until=end),
            },
            rounds=30,
            block=3,
        )
    among = f"{sessions:,} archived sessions"
    all_of_them, month, user = (timed[name].p50 / 1000 for name in ("all", "month", "user"))
    return [
        Row(f"Postgres: rolling up the metrics of {among}", "–", f"{rate:,.0f} sessions/s", "–", "–", None),
        Row(f"Postgres: statistics over {among}", "–", f"{all_of_them:,.0f} ms", "–", "≤ 1 s", all_of_them <= 1_000),
        Row("… over the last 30 days of them", "–", f"{month:,.0f} ms", "–", "≤ 1 s", month <= 1_000),
        Row("… over one user's", "–", f"{user:,.1f} ms", "–", "≤ 1 s", user <= 1_000),
    ]


async def _fill(url: str, sessions: int) -> None:
    """Write the rows in bulk, spread evenly over the days and the users."""
    apart = timedelta(days=DAYS) // timedelta(microseconds=1) // sessions
    first = (BEGAN - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    raw = await asyncpg.connect(url)
    await raw.execute(KINDS_TABLE)
    await raw.copy_records_to_table("kinds", records=list(_kinds()))
    await raw.execute("CREATE INDEX ON kinds (number)")
    for start in range(0, sessions, AT_ONCE):
        last = min(start + AT_ONCE, sessions) - 1
        await raw.execute(FILL, start, last, min(USERS, sessions), KINDS, first, apart)
    await raw.close()


def _kinds() -> Iterator[tuple[int, str, int, int, int, str]]:
    """What sessions count, each by the function that backends measure them with, but for when it was."""
    chance = random.Random(1)
    for number in range(KINDS):
        session = _a_session(chance)
        counts = Measured.of(session, now=session.expires_at).counts
        timeless = {key: count for key, count in counts.items() if not key.startswith(("began:", "asked:"))}
        lasts = (session.last_accessed_at - session.created_at) // timedelta(microseconds=1)
        yield number, session.type, lasts, session.total_queries, session.cache_hits, to_json(timeless).decode()


def _a_session(chance: random.Random) -> StoredSession:
    """One of some of five types, 100 assets, 20 tags, with 1 to 12 queries of 8 types."""
    queries = [
        QueryRecord(
            query_type=f"type-{chance.randrange(8)}",
            cache_hit=chance.random() < 0.2,
            execution_time_ms=chance.lognormvariate(5, 1),
            timestamp=BEGAN,
        )
        for _ in range(chance.randint(1, 12))
    ]
    return StoredSession(
        id=UUID(int=0),
        user_id=None,
        type=str(chance.choice(list(SessionType))),
        assets=tuple(f"A{asset}" for asset in chance.sample(range(100), 3)),
        tags=tuple(f"tag-{tag}" for tag in chance.sample(range(20), 2)),
        created_at=BEGAN,
        expires_at=BEGAN + timedelta(days=1),
        last_accessed_at=BEGAN + timedelta(seconds=chance.lognormvariate(6, 1)),
        archived_at=BEGAN + timedelta(days=1),
        total_queries=len(queries),
        cache_hits=sum(query.cache_hit for query in queries),
        sections={},
        queries=[store_query(query, encoder=encode_default).body for query in queries],
    )


def rows(folder: Path, *, sessions: int) -> list[Row]:
    """Start a server in the folder, and measure on it."""
    with PostgresServer(folder=folder / "postgres_statistics") as server:
        return asyncio.run(statistics(server.create_database("bench_statistics"), sessions=sessions))
