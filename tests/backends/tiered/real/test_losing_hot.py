"""A hot tier that comes back older than it was, or empty."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from uuid import UUID

import pytest
from tests.backends.tiered.real.load import Load, check_kept, check_positions, created, opened, settings, whole

from perdure import QueryRecord, SessionStore, hookimpl
from perdure.errors import BackendUnavailableError
from perdure.models import utc_now
from perdure.testing.servers import ValkeyServer

pytestmark = pytest.mark.xdist_group("hot tier lost")


class Told:
    """A plugin that keeps what it is told of tiers."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    @hookimpl
    def tier_degraded(self, tier: str, reason: str) -> None:
        self.reasons.append(f"{tier}: {reason}")


async def tracked(store: SessionStore, session_id: UUID, number: int) -> None:
    for _ in range(number):
        await store.track_query(session_id, QueryRecord(query_type="price"))


async def test_a_log_without_its_tail_overrides_nothing_in_the_archive_and_is_reported(
    redis_url: str, archive_url: str, valkey_server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    async with opened(redis_url, archive_url, "hot", plugins=[told]) as store:
        archived, active = await created(store, 2)
        await tracked(store, archived, 5)
        assert await store.archive_session(archived)
        kept = await whole(store, archived)
        await tracked(store, active, 20)

        valkey_server.kill()
        # Less than the writes to the active session amount to, which are the last.
        assert valkey_server.truncate_aof(2_000) == 2_000
        valkey_server.start()

        with caplog.at_level(logging.ERROR, logger="perdure.tiers"):
            left = await until_answered(store, active)
        assert left < 20
        assert any(
            "session.rolled_back" in record.message and str(active) in record.message for record in caplog.records
        )
        assert any("came back older than it was" in reason and str(active) in reason for reason in told.reasons)
        health = await store.health()
        assert any("came back older than it was" in warning for warning in health.tiers["hot"].warnings)
        found = await whole(store, archived)
        assert found.state.history.total_queries == kept.state.history.total_queries == 5
        check_positions(found)


async def test_a_log_from_before_the_archiving_is_united_with_what_was_archived(
    redis_url: str, archive_url: str, valkey_server: ValkeyServer
) -> None:
    instant = utc_now()
    now = [instant]
    store = SessionStore.open(
        redis_url, archive=archive_url, acknowledge="hot", settings=settings(), clock=lambda: now[0]
    )
    async with store:
        session = await store.create_session(["AAPL"], "equity", ttl=timedelta(hours=1))
        await tracked(store, session.id, 10)
        before = valkey_server.aof_path.stat().st_size
        await tracked(store, session.id, 10)
        now[0] = instant + timedelta(hours=2)
        assert (await store.cleanup_expired_sessions()).archived == 1

        valkey_server.kill()
        valkey_server.truncate_aof(valkey_server.aof_path.stat().st_size - before)
        valkey_server.start()

        now[0] += timedelta(minutes=5)
        await until_answered(store, session.id)
        report = await store.cleanup_expired_sessions()
        assert not report.failed
        found = await whole(store, session.id)
        assert found.is_archived
        assert found.state.history.total_queries == 20
        check_positions(found)


async def until_answered(store: SessionStore, session_id: UUID) -> int:
    """Read until hot answers; how many queries the session has then."""
    last: object = "only what the archive has"
    for _ in range(200):
        try:
            session = await store.get_session(session_id)
        except BackendUnavailableError as error:
            last = error
            await asyncio.sleep(0.05)
            continue
        if session is None:
            return 0
        if not session.is_stale:
            return session.state.history.total_queries
        await asyncio.sleep(0.05)
    raise AssertionError(f"hot does not answer: {last!r}")


async def test_a_flushed_cache_loses_nothing_and_fills_again(
    redis_url: str, archive_url: str, valkey_server: ValkeyServer
) -> None:
    async with opened(redis_url, archive_url, "archive") as store, opened(redis_url, archive_url, "archive") as reader:
        load = Load(store, await created(store, 50), writers=50)
        async with load.running():
            await load.more(100)
            valkey_server.clear()
            await load.more(100)
        await check_kept(load, store)
        valkey_server.clear()
        for session_id in load.sessions:
            await whole(reader, session_id)
        with valkey_server.client() as client:
            keys = "\n".join(str(key) for key in client.scan_iter(count=10_000))
        for session_id in load.sessions:
            assert f":c:{session_id.hex}" in keys, "a session that was read is not cached again"
