"""Which keys there are, and which commands are used: what an operator counts on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import redis.asyncio as driver
from redis.crc import key_slot
from tests.backends.calls import whole_life
from tests.docs.pages import PROJECT

from perdure.backends.redis.backend import RedisBackend
from perdure.backends.redis.keys import Layout
from perdure.models import StatsFilter, StoredSession
from perdure.testing import START, ChangeMaker, stored_session
from perdure.testing.conformance.steps import EXPIRY, FOREVER, created, numbered
from perdure.testing.servers import ValkeyCluster, ValkeyServer

FORBIDDEN = {"keys", "scan", "sscan", "hscan", "zscan", "flushdb", "flushall", "eval_ro", "function", "fcall"}
NEWER_THAN_6_2 = {
    "expiretime", "pexpiretime", "lmpop", "zmpop", "sintercard", "zintercard", "lcs", "evalsha_ro", "hexpire",
    "hpexpire", "hgetdel", "hsetex", "hgetex", "spublish", "delifeq", "blmpop", "bzmpop",
}  # fmt: skip


@asynccontextmanager
async def monitored(server: ValkeyServer) -> AsyncIterator[set[str]]:
    """The commands that the server runs meanwhile, in scripts too."""
    client = driver.Redis(port=server.port, decode_responses=True)
    seen: set[str] = set()

    async def watch() -> None:
        async with client.monitor() as monitor:
            started.set()
            async for command in monitor.listen():
                seen.add(re.split(r"\s", command["command"], maxsplit=1)[0].lower())

    started = asyncio.Event()
    watching = asyncio.create_task(watch())
    await started.wait()
    try:
        yield seen
        await asyncio.sleep(0.1)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await client.aclose()


async def test_a_whole_life_uses_no_command_that_looks_at_all_keys_and_none_that_is_newer_than_6_2(
    redis_url: str, valkey_server: ValkeyServer
) -> None:
    async with monitored(valkey_server) as seen:
        backend = RedisBackend(redis_url)
        await backend.open()
        await whole_life(backend)
        await backend.aclose()

    assert {"evalsha", "hset", "rpush", "zadd", "unlink"} <= seen
    assert seen & FORBIDDEN == set()
    assert seen & NEWER_THAN_6_2 == set()


async def test_the_rights_that_the_documentation_lists_are_enough_for_a_whole_life(
    redis_url: str, cluster_url: str, valkey_server: ValkeyServer, valkey_cluster: ValkeyCluster
) -> None:
    _, _, below = (PROJECT / "docs" / "redis.md").read_text(encoding="utf-8").partition("ACL SETUSER perdure ")
    rules = below.partition("```")[0].replace(">PASSWORD", ">secret").split()
    for url, nodes in ((redis_url, [valkey_server]), (cluster_url, valkey_cluster.nodes)):
        for node in nodes:
            with node.client() as client:
                client.execute_command("ACL", "SETUSER", "perdure", "reset", *rules)
        backend = RedisBackend(url.replace("//", "//perdure:secret@"))
        await backend.open()
        await whole_life(backend)
        assert (await backend.health(now=START)).details["appendfsync"] == "always"
        await backend.aclose()
        for node in nodes:
            with node.client() as client:
                assert client.acl_log() == []
                client.acl_deluser("perdure")


async def test_no_key_of_a_session_or_an_index_has_a_time_to_live(
    backend: RedisBackend, valkey_server: ValkeyServer
) -> None:
    await whole_life(backend)
    cached = stored_session(queries=numbered(2))
    ticket = await backend.cache.ticket(cached.id)
    await backend.cache.fill(cached, ticket=ticket, lifetime=timedelta(seconds=30))
    await backend.cache.ticket(uuid4())

    with valkey_server.client() as client:
        client.connection_pool.connection_kwargs["decode_responses"] = False
        lives = {key: client.pttl(key) for key in client.keys("*")}
    fading = {key for key, left in lives.items() if left != -1}
    assert len(lives) > 50
    assert {key.split(b":")[2] for key in fading} == {b"c", b"d", b"t"}
    assert len(fading) == 3


async def test_every_key_is_in_a_bucket_and_those_of_one_session_in_one_slot(
    backend: RedisBackend, valkey_server: ValkeyServer
) -> None:
    await whole_life(backend)

    with valkey_server.client() as client:
        client.connection_pool.connection_kwargs["decode_responses"] = False
        keys: list[bytes] = client.keys("*")
    layout = Layout("perdure", 16)
    slots = {key_slot(base.encode()) for base in layout.bases}
    assert all(re.match(rb"\{perdure:\d+\}:", key) for key in keys)
    assert {key_slot(key) for key in keys} <= slots
    for _ in range(50):
        session_id = uuid4()
        bucket, names = layout.place(session_id)
        whole = [*names, *layout.cached(session_id), layout.due(bucket), layout.old(bucket), layout.tombs(bucket)]
        assert len({key_slot(name.encode()) for name in whole}) == 1


async def test_sessions_are_spread_over_the_nodes_of_a_cluster(valkey_cluster: ValkeyCluster, cluster_url: str) -> None:
    backend = RedisBackend(cluster_url)
    await backend.open()
    await asyncio.gather(*(created(backend) for _ in range(150)))
    await whole_life(backend)
    await backend.aclose()

    counts = []
    for node in valkey_cluster.nodes:
        with node.client() as client:
            if client.info("replication")["role"] == "master":
                counts.append(client.dbsize())
    assert len(counts) == 3
    assert min(counts) > 20


async def test_what_is_deleted_leaves_its_tombstone_and_nothing_else(
    backend: RedisBackend, valkey_server: ValkeyServer
) -> None:
    sessions = [
        await created(backend, queries=numbered(3), tags=(f"tag-{number}", "x"), sections={"context": {"a": 1}})
        for number in range(20)
    ]
    await backend.apply(sessions[0].id, ChangeMaker().change(archive=True, add_tags=("late",)))
    for session in sessions:
        await backend.ticket(session.id, now=START)
        await backend.delete(session.id, forget_at=FOREVER)

    left = keys_of(valkey_server)
    assert {key.split(":")[2] for key in left} == {"meta", "tombs"}
    await backend.purge(archived_before=START, now=FOREVER, limit=1)
    assert keys_of(valkey_server) == {"{perdure:0}:meta"}


async def test_what_is_evicted_or_purged_leaves_nothing_but_what_the_latter_counted(
    backend: RedisBackend, valkey_server: ValkeyServer
) -> None:
    kept: list[StoredSession] = [await created(backend, queries=numbered(2), tags=("x",)) for _ in range(10)]
    for _ in range(10):
        await created(backend, archived_at=EXPIRY, tags=("x",))
    for session in kept:
        await backend.evict(session.id, version=1, head=session.head)
    await backend.purge(archived_before=FOREVER, now=FOREVER, limit=100)

    assert {key.rpartition(":")[2] for key in keys_of(valkey_server)} == {"meta", "metrics", "purged"}
    assert (await backend.measure(StatsFilter(), now=FOREVER))["sessions"] == 10


def keys_of(server: ValkeyServer) -> set[str]:
    with server.client() as client:
        return set(client.keys("*"))


def test_buckets_are_evenly_filled() -> None:
    layout = Layout("perdure", 16)
    counts = [0] * 16
    for number in range(16_000):
        counts[layout.bucket_of(UUID(int=number * 2**64 + number, version=4))] += 1
    assert min(counts) > 800
    assert max(counts) < 1_200
