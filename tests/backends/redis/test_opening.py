"""What is looked at when a backend is opened, and what health tells of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.backends.opening import health_once_open

from perdure import SessionStore
from perdure.backends.redis.backend import RedisBackend
from perdure.backends.redis.checking import ServerFacts
from perdure.errors import BackendUnavailableError, ConfigurationError, SchemaError
from perdure.models import SessionFilter
from perdure.testing import START, ChangeMaker
from perdure.testing.conformance.steps import created, listed, whole
from perdure.testing.servers import ValkeyCluster, ValkeyServer


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A server of the test's own."""
    with ValkeyServer(durability="everysec") as server:
        yield server


@dataclass(frozen=True)
class Opened:
    """What opening and a health check said."""

    warnings: tuple[str, ...]
    details: dict[str, Any]


async def opened(url: str) -> Opened:
    health = await health_once_open(RedisBackend(url))
    return Opened(health.warnings, dict(health.details))


# The layout -----------------------------------------------------------------------------------------


async def test_the_number_of_buckets_stays_what_it_was(redis_url: str) -> None:
    backend = RedisBackend(f"{redis_url}?buckets=4")
    await backend.open()
    session = await created(backend)
    await backend.aclose()

    with pytest.raises(SchemaError, match=r"is in 4 buckets, not 16; give buckets=4 in the URL"):
        await RedisBackend(redis_url).open()

    again = RedisBackend(f"{redis_url}?buckets=4")
    await again.open()
    assert await whole(again, session.id) == session
    await again.aclose()


async def test_the_data_of_a_newer_perdure_is_refused(redis_url: str, valkey_server: ValkeyServer) -> None:
    with valkey_server.client() as client:
        client.hset("{perdure:0}:meta", mapping={"format": 2, "buckets": 16})

    with pytest.raises(SchemaError, match="newer perdure"):
        await RedisBackend(redis_url).open()


async def test_namespaces_and_databases_are_apart(redis_url: str) -> None:
    urls = [redis_url, f"{redis_url}?namespace=other", redis_url.replace("/0", "/1")]
    backends = [RedisBackend(url) for url in urls]
    for backend in backends:
        await backend.open()
    sessions = [await created(backend) for backend in backends]

    for backend, session in zip(backends, sessions, strict=True):
        assert await listed(backend) == [session.id]
        await backend.aclose()


async def test_several_processes_that_open_at_once_agree(redis_url: str) -> None:
    backends = [RedisBackend(f"{redis_url}?buckets={3 + number % 2}") for number in range(10)]

    outcomes = await asyncio.gather(*(backend.open() for backend in backends), return_exceptions=True)

    refused = [isinstance(outcome, SchemaError) for outcome in outcomes]
    assert refused.count(True) == 5
    assert refused == [refused[0], refused[1]] * 5
    for backend in backends:
        await backend.aclose()


# What can be lost -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "lost"),
    [("allkeys-lru", "any session, or a part of it"), ("volatile-ttl", "cached copies, though no sessions")],
)
async def test_a_server_that_throws_things_away_is_warned_of_and_refused_where_strict(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture, policy: str, lost: str
) -> None:
    with server.client() as client:
        client.config_set("maxmemory-policy", policy)

    with caplog.at_level(logging.WARNING, "perdure.redis"):
        found = await opened(server.url)

    assert f"maxmemory-policy is {policy}" in found.warnings[0]
    assert lost in found.warnings[0]
    assert [record for record in caplog.records if record.getMessage().startswith("redis.unsafe")]
    assert found.details["maxmemory_policy"] == policy
    with pytest.raises(ConfigurationError, match=policy):
        await RedisBackend(f"{server.url}?strict=true").open()


async def test_a_server_that_keeps_everything_is_not_warned_of(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "perdure.redis"):
        found = await opened(f"{server.url}?strict=true")

    assert found.warnings == ()
    assert caplog.records == []
    assert found.details["appendfsync"] == "everysec"
    assert found.details["aof_enabled"] is True
    assert found.details["mode"] == "standalone"
    assert found.details["used_memory"] > 0


@pytest.mark.parametrize(("save", "words"), [("", "writes nothing to disk"), ("3600 1", "snapshots only")])
async def test_a_server_without_an_append_only_file_is_warned_of(server: ValkeyServer, save: str, words: str) -> None:
    with server.client() as client:
        client.config_set("appendonly", "no")
        client.config_set("save", save)

    (warning,) = (await opened(server.url)).warnings

    assert words in warning


async def test_where_settings_may_not_be_asked_what_is_told_is_enough(server: ValkeyServer) -> None:
    with server.client() as client:
        client.acl_setuser("ann", enabled=True, nopass=True, categories=["+@all"], commands=["-config"], keys=["*"])

    found = await opened(server.url.replace("//", "//ann:any@"))

    assert found.warnings == ()
    assert (found.details["maxmemory_policy"], found.details["appendfsync"]) == ("noeviction", None)


async def test_where_nothing_may_be_asked_that_is_warned_of_and_refused_where_strict(server: ValkeyServer) -> None:
    with server.client() as client:
        client.acl_setuser(
            "ann", enabled=True, nopass=True, categories=["+@all"], commands=["-config", "-info"], keys=["*"]
        )
    url = server.url.replace("//", "//ann:any@")

    (warning,) = (await opened(url)).warnings

    assert "could not be asked" in warning
    with pytest.raises(ConfigurationError, match="could not be asked"):
        await RedisBackend(f"{url}?strict=true").open()


@pytest.mark.parametrize(("version", "too_old"), [("6.0.16", True), ("5.0", True), ("6.2.0", False), ("8.4.1", False)])
def test_a_server_that_is_too_old_is_told(version: str, too_old: bool) -> None:
    assert ServerFacts({"redis_version": version}, {}).is_too_old is too_old


# Where it is ----------------------------------------------------------------------------------------


async def test_nobody_at_the_address_is_a_clear_error() -> None:
    backend = RedisBackend("redis://127.0.0.1:1/0")

    with pytest.raises(BackendUnavailableError, match="redis: "):
        await backend.open()

    health = await backend.health(now=START)
    assert not health.ok


async def test_a_node_of_a_cluster_is_not_taken_for_a_server(valkey_cluster: ValkeyCluster, cluster_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"use redis\+cluster://"):
        await RedisBackend(valkey_cluster.nodes[0].url).open()


async def test_a_server_is_not_taken_for_a_cluster(redis_url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a node of a cluster"):
        await RedisBackend(redis_url.replace("redis://", "redis+cluster://").removesuffix("/0")).open()


async def test_a_cluster_is_found_by_any_of_its_nodes(valkey_cluster: ValkeyCluster, cluster_url: str) -> None:
    first = cluster_url.split("//")[1].split(",")[0]

    found = await opened(f"redis+cluster://127.0.0.1:1,{first}")

    assert found.details["masters"] == 3


async def test_a_socket_of_the_machine_is_served(server: ValkeyServer) -> None:
    with ValkeyServer(config={"unixsocket": "redis.sock", "unixsocketperm": "700"}) as server:
        backend = RedisBackend(f"unix://{server.folder}/redis.sock?db=2")
        await backend.open()
        session = await created(backend)
        with server.client() as client:
            client.select(2)
            assert client.exists(backend._layout.session(session.id))
        await backend.aclose()


async def test_a_store_opens_it_by_its_url(redis_url: str) -> None:
    async with SessionStore.open(redis_url) as store:
        session = await store.create_session(["AAPL"], "equity", user_id="ann")
        assert (await store.health()).ok
    async with SessionStore.open(redis_url) as store:
        assert await store.get_session(session.id) == session


async def test_opening_is_repeatable_and_leaves_no_connection_behind(
    redis_url: str, valkey_server: ValkeyServer
) -> None:
    backend = RedisBackend(redis_url)
    for _ in range(3):
        await backend.open()
        await backend.open()
        session = await created(backend)
        await backend.apply(session.id, ChangeMaker().query())
        await backend.find(SessionFilter(), limit=1)
        await backend.aclose()
        await backend.aclose()
    with valkey_server.client() as client:
        assert len(client.client_list()) == 1
