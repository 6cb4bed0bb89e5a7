"""A master of the cluster is killed under writers, and its replica takes its place."""

from __future__ import annotations

import asyncio
import logging

import pytest
from tests.backends.tiered.real.load import Load, check_positions, created, opened, whole

from perdure import QueryRecord
from perdure.testing.servers import ValkeyCluster

pytestmark = pytest.mark.xdist_group("cluster over postgres")

FAILOVER_S = 20.0


async def test_a_store_goes_on_by_itself_when_a_master_is_killed(
    cluster_url: str, archive_url: str, valkey_cluster: ValkeyCluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(cluster_url, archive_url, "hot") as store:
        archived = await created(store, 4)
        for session_id in archived:
            await store.track_query(session_id, QueryRecord(query_type="price"))
            assert await store.archive_session(session_id)
        load = Load(store, await created(store, 16))
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
        for session_id in archived:
            session = await whole(store, session_id)
            assert session.is_archived
            assert session.state.history.total_queries == 1
