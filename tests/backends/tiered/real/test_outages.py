"""A server that is gone for a while, under load: the tier that can be done without is done without."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import pytest
from tests.backends.tiered.real.load import check_positions, created, opened, whole
from tests.effort import OUTAGE_S

from perdure import QueryRecord, SessionStore
from perdure.testing.servers import PostgresServer, ValkeyServer

pytestmark = pytest.mark.xdist_group("tiers down")

CACHE_TTL_S = 1.0
READERS = 4


class Truth:
    """What one session was acknowledged to hold, and since when."""

    def __init__(self, session_id: UUID) -> None:
        self.session_id = session_id
        self.acknowledged: list[tuple[float, int]] = [(time.monotonic(), 0)]
        self.ids: dict[int, UUID] = {}
        self.reads = 0

    def total_at(self, instant: float) -> int:
        """How many queries were acknowledged by then."""
        return max((total for since, total in self.acknowledged if since <= instant), default=0)

    async def write(self, store: SessionStore, end: asyncio.Event) -> None:
        """Track queries, and read each of them back; whatever fails, fails the test."""
        while not end.is_set():
            query = QueryRecord(query_type="price")
            tracked = await store.track_query(self.session_id, query)
            self.acknowledged.append((time.monotonic(), tracked.position))
            self.ids[tracked.position] = query.id
            session = await store.get_session(self.session_id)
            assert session is not None
            assert not session.is_stale
            assert session.state.history.total_queries >= tracked.position, "a store does not read its own writes"
            await asyncio.sleep(0.005)

    async def read(self, store: SessionStore, end: asyncio.Event, oldest_s: float) -> None:
        """Read as another process does: nothing may be older than that."""
        while not end.is_set():
            asked = time.monotonic()
            session = await store.get_session(self.session_id)
            assert session is not None
            assert session.state.history.total_queries >= self.total_at(asked - oldest_s), "too old a copy was read"
            self.reads += 1
            await asyncio.sleep(0.005)

    async def check(self, store: SessionStore) -> None:
        """All that was acknowledged is there, exactly once: nothing was tried twice."""
        session = await whole(store, self.session_id)
        check_positions(session)
        assert {query.position: query.id for query in session.state.history.queries} == self.ids


async def test_redis_may_be_gone_where_the_archive_acknowledges(
    redis_url: str, archive_url: str, valkey_server: ValkeyServer
) -> None:
    facts = {"cache_ttl_seconds": CACHE_TTL_S}
    async with (
        opened(redis_url, archive_url, "archive", **facts) as store,
        opened(redis_url, archive_url, "archive", **facts) as other,
    ):
        truths = [Truth(session_id) for session_id in await created(store, READERS)]
        end = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for truth in truths:
                group.create_task(truth.write(store, end))
                group.create_task(truth.read(other, end, CACHE_TTL_S))
            await asyncio.sleep(CACHE_TTL_S)
            await asyncio.to_thread(valkey_server.kill)
            during = [len(truth.ids) for truth in truths]
            await asyncio.sleep(OUTAGE_S)
            assert all(len(truth.ids) > before for truth, before in zip(truths, during, strict=True))
            assert not (await store.health()).tiers["hot"].ok
            await asyncio.to_thread(valkey_server.start)
            await asyncio.sleep(2 * CACHE_TTL_S)
            end.set()
        for truth in truths:
            assert truth.reads > 0
            await truth.check(other)
        assert (await store.health()).ok


async def test_postgres_may_be_gone_where_hot_acknowledges(
    redis_url: str, archive_url: str, postgres_server: PostgresServer
) -> None:
    async with opened(redis_url, archive_url, "hot", archive_timeout_seconds=1, sweep_lease_seconds=2) as store:
        truths = [Truth(session_id) for session_id in await created(store, READERS)]
        expiring = [await store.create_session(["AAPL"], "equity", ttl_hours=0.5 / 3600) for _ in range(20)]
        end = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for truth in truths:
                group.create_task(truth.write(store, end))
            await asyncio.to_thread(postgres_server.kill)
            await asyncio.sleep(OUTAGE_S)
            report = await store.cleanup_expired_sessions()
            assert report.archived == 0
            for session in expiring:
                kept = await whole(store, session.id)
                assert kept.is_expired
                assert not kept.is_archived
            end.set()
        await asyncio.to_thread(postgres_server.start)
        for truth in truths:
            assert truth.ids
            await truth.check(store)
    async with opened(redis_url, archive_url, "hot", sweep_lease_seconds=1) as store:
        await drained(store, len(expiring))
        for session in expiring:
            assert (await whole(store, session.id)).is_archived


async def drained(store: SessionStore, number: int) -> None:
    """Sweep until so many are archived: what the sweeper before had claimed comes back when its lease is over."""
    archived = 0
    async with asyncio.timeout(70):
        while archived < number:
            archived += (await store.cleanup_expired_sessions()).archived
            await asyncio.sleep(0.1)
    assert archived == number
