"""A master of the cluster is killed under writers, and its replica takes its place, which is behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from redis.crc import key_slot
from tests.backends.tiered.real.load import Load, check_positions, created, opened, settings, whole

from perdure import QueryRecord, SessionStore
from perdure.backends.redis.backend import RedisBackend
from perdure.testing.servers import ValkeyCluster

pytestmark = pytest.mark.xdist_group("cluster over postgres")

FAILOVER_S = 20.0


async def checkpoint(store: SessionStore, sessions: list[UUID]) -> None:
    """Let the archive have what the sessions hold, a query more than before, and let them be active again."""
    for session_id in sessions:
        await store.track_query(session_id, QueryRecord(query_type="price"))
        assert await store.archive_session(session_id)
        await store.extend_session(session_id)


async def archived(archive_url: str, sessions: list[UUID]) -> dict[UUID, set[UUID]]:
    """The ids of the queries that the archive has by itself, by session; their positions have no gaps."""
    found = {}
    async with SessionStore.open(archive_url, settings=settings()) as archive:
        for session_id in sessions:
            session = await whole(archive, session_id)
            check_positions(session)
            found[session_id] = {query.id for query in session.state.history.queries}
    return found


@contextmanager
def a_replica_that_is_cut_off(cluster: ValkeyCluster, slot: int) -> Iterator[None]:
    """From now on it hears nothing of its master."""
    (replica,) = cluster.replicas_of(slot)
    with replica.client() as client, cluster.master_of(slot).client() as master:
        client.config_set("masterauth", "of somebody else")
        master.client_kill_filter(_type="replica")
    try:
        yield
    finally:
        with replica.client() as client:
            client.config_set("masterauth", "")


async def check_archived(store: SessionStore, archive_url: str, load: Load, before: dict[UUID, set[UUID]]) -> None:
    """Archived, every session of the load still has in the archive what the archive had of it before."""
    for session_id in load.sessions:
        assert await store.archive_session(session_id)
    after = await archived(archive_url, load.sessions)
    for session_id, queries in before.items():
        assert queries <= after[session_id]


async def test_a_store_goes_on_by_itself_when_a_master_is_killed(
    cluster_url: str, archive_url: str, valkey_cluster: ValkeyCluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(cluster_url, archive_url, "hot") as store:
        ended = await created(store, 4)
        for session_id in ended:
            await store.track_query(session_id, QueryRecord(query_type="price"))
            assert await store.archive_session(session_id)
        load = Load(store, await created(store, 16))
        await checkpoint(store, load.sessions[::2])
        before = await archived(archive_url, load.sessions[::2])
        with caplog.at_level(logging.ERROR, logger="perdure.tiers"):
            async with load.running():
                await load.more(200)
                dead = await asyncio.to_thread(valkey_cluster.kill_master)
                async with asyncio.timeout(FAILOVER_S):
                    await asyncio.to_thread(valkey_cluster.wait_until_ok)
                    await load.more(16 * 20)
            reported = [record.message for record in caplog.records if "session.rolled_back" in record.message]
        await asyncio.to_thread(dead.restart)
        assert set(load.acknowledged) == set(load.sessions), "some session was never written to"
        for session_id, acknowledged in load.acknowledged.items():
            session = await whole(store, session_id)
            check_positions(session)
            kept = {query.id for query in session.state.history.queries}
            # What a replica had not got is lost for good, but never in silence.
            assert acknowledged.keys() <= kept or any(str(session_id) in message for message in reported)
        for session_id in ended:
            session = await whole(store, session_id)
            assert session.is_archived
            assert session.state.history.total_queries == 1
        await check_archived(store, archive_url, load, before)


async def test_a_replica_that_was_behind_overrides_nothing_of_the_archive(
    cluster_url: str, archive_url: str, valkey_cluster: ValkeyCluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(cluster_url, archive_url, "hot") as store:
        load = Load(store, await created(store, 16))
        half = load.sessions[::2]
        await checkpoint(store, half)
        slot = key_slot(RedisBackend(cluster_url)._layout.session(half[0]).encode())
        await asyncio.to_thread(valkey_cluster.wait_until_ok)
        with a_replica_that_is_cut_off(valkey_cluster, slot):
            await checkpoint(store, half)  # what the replica never hears of
            before = await archived(archive_url, half)
            with caplog.at_level(logging.ERROR, logger="perdure.tiers"):
                async with load.running():
                    await load.more(200)
                    dead = await asyncio.to_thread(valkey_cluster.kill_master, of_slot=slot)
                    async with asyncio.timeout(FAILOVER_S):
                        await asyncio.to_thread(valkey_cluster.wait_until_ok)
                        await load.more(16 * 20)
                lost = any(f"session.rolled_back session_id={str(half[0])!r}" in line for line in caplog.messages)
        await asyncio.to_thread(dead.restart)
        assert lost, "the replica was not behind"
        assert [len(queries) for queries in before.values()] == [2] * 8
        await check_archived(store, archive_url, load, before)
