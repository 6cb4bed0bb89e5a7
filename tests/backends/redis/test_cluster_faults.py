"""A cluster that changes while it is used: the backend goes on by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.crc import key_slot

from perdure.backends.redis.backend import RedisBackend
from perdure.changes import Applied
from perdure.errors import BackendUnavailableError, SessionArchivedError
from perdure.models import StoredSession
from perdure.testing import START, ChangeMaker, stored_session
from perdure.testing.conformance.steps import claimed_ids, listed, numbered, whole
from perdure.testing.servers import ValkeyCluster, ValkeyServer


@pytest.fixture
async def backend(cluster_url: str) -> AsyncIterator[RedisBackend]:
    backend = RedisBackend(f"{cluster_url}?timeout=10")
    await backend.open()
    yield backend
    await backend.aclose()


async def session_in(backend: RedisBackend, bucket: int) -> StoredSession:
    """A session of that bucket."""
    while True:
        session = stored_session(queries=numbered(1))
        if backend._layout.bucket_of(session.id) == bucket:
            await backend.create(session)
            return session


def slot_of(backend: RedisBackend, bucket: int) -> int:
    return key_slot(backend._layout.bases[bucket].encode())


async def write_until(stop: asyncio.Event, backend: RedisBackend, session: StoredSession) -> list[str]:
    """Bodies of the queries that were acknowledged."""
    writer, acknowledged = ChangeMaker(), list(session.queries)
    while not stop.is_set():
        change = writer.query()
        applied = await backend.apply(session.id, change)
        acknowledged.append(change.queries[0].body)
        assert applied.total_queries == len(acknowledged)
    return acknowledged


async def test_a_graceful_fail_over_is_not_noticed(backend: RedisBackend, valkey_cluster: ValkeyCluster) -> None:
    sessions = [await session_in(backend, bucket) for bucket in range(16)]
    stop = asyncio.Event()
    writing = [asyncio.create_task(write_until(stop, backend, session)) for session in sessions]

    await asyncio.sleep(0.2)
    await asyncio.to_thread(valkey_cluster.failover, of_slot=slot_of(backend, 0))
    await asyncio.sleep(0.5)
    stop.set()
    acknowledged = await asyncio.gather(*writing)

    for session, bodies in zip(sessions, acknowledged, strict=True):
        assert (await whole(backend, session.id)).queries == bodies
    assert sum(map(len, acknowledged)) > 100
    assert len(await listed(backend)) == 16


async def test_a_master_that_is_killed_is_replaced_within_the_time_and_the_others_never_wait(
    backend: RedisBackend, valkey_cluster: ValkeyCluster
) -> None:
    sessions = [await session_in(backend, bucket) for bucket in range(16)]
    slot = slot_of(backend, 0)
    dead = valkey_cluster.master_of(slot)
    hit = [s for s in sessions if _is_on(valkey_cluster, dead, slot_of(backend, backend._layout.bucket_of(s.id)))]
    other = next(session for session in sessions if session not in hit)
    await asyncio.sleep(0.1)  # lets the replicas hear of the last session
    dead.kill()

    began = time.perf_counter()
    waiting = [asyncio.create_task(backend.apply(session.id, ChangeMaker().query())) for session in hit]
    await backend.apply(other.id, ChangeMaker().query())
    elapsed = time.perf_counter() - began
    applied = await asyncio.gather(*waiting)

    assert elapsed < 1
    assert set(applied) == {Applied(version=2, total_queries=2)}
    for session in hit:
        assert (await whole(backend, session.id)).total_queries == 2
    assert len(await listed(backend)) == 16
    assert len(await claimed_ids(backend, START.replace(year=2030))) == 16
    await asyncio.to_thread(dead.restart)


async def test_a_stalled_master_is_given_up_for_its_successor(cluster_url: str, valkey_cluster: ValkeyCluster) -> None:
    backend = RedisBackend(f"{cluster_url}?timeout=15&socket_timeout=0.5")
    await backend.open()
    session = await session_in(backend, 0)
    await asyncio.sleep(0.1)
    stalled = valkey_cluster.master_of(slot_of(backend, 0))
    stalled.stop()

    assert (await backend.apply(session.id, ChangeMaker().query())).total_queries == 2

    stalled.resume()
    await backend.aclose()


async def test_a_slot_that_moved_is_followed(backend: RedisBackend, valkey_cluster: ValkeyCluster) -> None:
    session = await session_in(backend, 0)
    slot = slot_of(backend, 0)
    source = valkey_cluster.master_of(slot)
    target = next(node for node in valkey_cluster.nodes if _is_master(node) and node is not source)

    _begin_move(slot, source, target)
    began = asyncio.create_task(backend.apply(session.id, ChangeMaker().query()))
    await asyncio.sleep(0.2)
    _move_keys(slot, source, target)
    _end_move(valkey_cluster, slot, source, target)

    assert (await began).total_queries == 2
    assert (await backend.apply(session.id, ChangeMaker().query())).total_queries == 3
    with target.client() as client:
        assert client.exists(backend._layout.session(session.id)) == 1
    _begin_move(slot, target, source)
    _move_keys(slot, target, source)
    _end_move(valkey_cluster, slot, target, source)
    assert (await whole(backend, session.id)).total_queries == 3


async def test_while_half_of_a_slot_has_moved_its_sessions_wait_or_fail_and_none_is_half_changed(
    cluster_url: str, valkey_cluster: ValkeyCluster
) -> None:
    backend = RedisBackend(f"{cluster_url}?timeout=0.5")
    await backend.open()
    session = await session_in(backend, 0)
    untouched = await session_in(backend, 1)
    slot = slot_of(backend, 0)
    source = valkey_cluster.master_of(slot)
    target = next(node for node in valkey_cluster.nodes if _is_master(node) and node is not source)
    key, queries = backend._layout.place(session.id)[1]
    moved = [[queries], [key], [backend._layout.index(0, "all", archived=False)]]
    for keys in moved:
        _begin_move(slot, source, target)
        _migrate(source, target, keys)
        for change in (ChangeMaker().query(), ChangeMaker().change(add_tags=("late",), archive=True)):
            (outcome,) = await asyncio.gather(backend.apply(session.id, change), return_exceptions=True)
            assert isinstance(outcome, Applied | SessionArchivedError | BackendUnavailableError)
            assert isinstance(outcome, Applied | SessionArchivedError) or "moving data" in str(outcome)
        await backend.apply(untouched.id, ChangeMaker().query())
        _move_keys(slot, source, target)
        _end_move(valkey_cluster, slot, source, target)
        after = await whole(backend, session.id)
        assert len(after.queries) == after.total_queries
        assert session.id in await listed(backend, tags=list(after.tags), archived=after.archived_at is not None)
        source, target = target, source
    await backend.aclose()


# Moving slots by hand -------------------------------------------------------------------------------


def _is_master(node: ValkeyServer) -> bool:
    with node.client() as client:
        return bool(client.info("replication")["role"] == "master")


def _is_on(cluster: ValkeyCluster, node: ValkeyServer, slot: int) -> bool:
    return cluster.master_of(slot) is node


def _id(node: ValkeyServer) -> str:
    with node.client() as client:
        return str(client.execute_command("CLUSTER MYID"))


def _begin_move(slot: int, source: ValkeyServer, target: ValkeyServer) -> None:
    with source.client() as leaving, target.client() as taking:
        taking.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", _id(source))
        leaving.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", _id(target))


def _migrate(source: ValkeyServer, target: ValkeyServer, keys: list[str]) -> None:
    with source.client() as client:
        client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "REPLACE", "KEYS", *keys)


def _move_keys(slot: int, source: ValkeyServer, target: ValkeyServer) -> None:
    with source.client() as client:
        client.connection_pool.connection_kwargs["decode_responses"] = False
        while keys := client.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "REPLACE", "KEYS", *keys)


def _end_move(cluster: ValkeyCluster, slot: int, source: ValkeyServer, target: ValkeyServer) -> None:
    node = _id(target)
    for server in (target, source, *cluster.nodes):
        if _is_master(server):
            with server.client() as client:
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", node)
