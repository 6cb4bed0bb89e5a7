"""Real servers as pytest fixtures: `pytest_plugins = ["perdure.testing.plugin"]` in the top `conftest.py`.

| Fixture | Scope | Gives |
| --- | --- | --- |
| `redis_url`, `postgres_url`, `cluster_url` | test | the URL of an empty database on a server that runs |
| `valkey_server`, `postgres_server`, `valkey_cluster` | session | the server, to be stopped, killed and started again |
| `redis_binary`, `postgres_binaries` | session | what is started: the first available one, unless overridden |

A server is started when a test first wants it, once in each worker of pytest-xdist. A test may leave it killed or
stopped: the next test's URL finds it running.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest

from perdure.testing.servers import (
    LocalServer,
    PostgresBinaries,
    PostgresServer,
    RedisBinary,
    ValkeyCluster,
    ValkeyServer,
)
from perdure.testing.servers.binaries import default_postgres_binaries, default_redis_binary

__all__ = [
    "cluster_url",
    "postgres_binaries",
    "postgres_server",
    "postgres_url",
    "redis_binary",
    "redis_url",
    "valkey_cluster",
    "valkey_server",
]

S = TypeVar("S", bound=LocalServer)

DATABASE = "perdure_test"


@pytest.fixture(scope="session")
def redis_binary() -> RedisBinary:
    """The program that `valkey_server` and `valkey_cluster` start: the first that is available."""
    return default_redis_binary()


@pytest.fixture(scope="session")
def postgres_binaries() -> PostgresBinaries:
    """The programs that `postgres_server` starts: the first that are available."""
    return default_postgres_binaries()


@pytest.fixture(scope="session")
def valkey_server(redis_binary: RedisBinary) -> Iterator[ValkeyServer]:
    """A Valkey or Redis that syncs each write to the disk before it answers."""
    with ValkeyServer(binary=redis_binary) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(postgres_binaries: PostgresBinaries) -> Iterator[PostgresServer]:
    """A Postgres with its usual safety."""
    with PostgresServer(binaries=postgres_binaries) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_cluster(redis_binary: RedisBinary) -> Iterator[ValkeyCluster]:
    """Three masters with a replica each."""
    with ValkeyCluster(binary=redis_binary) as cluster:
        yield cluster


@pytest.fixture
def redis_url(valkey_server: ValkeyServer) -> str:
    """The URL of `valkey_server`, which is running and empty. A few milliseconds."""
    running(valkey_server).clear()
    return valkey_server.url


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of an empty database of `postgres_server`, which is running. About 15 ms."""
    return running(postgres_server).clear(DATABASE)


@pytest.fixture
def cluster_url(valkey_cluster: ValkeyCluster) -> str:
    """The URL of `valkey_cluster`, which is whole and empty. About 50 ms."""
    valkey_cluster.resume()
    valkey_cluster.start().clear()
    return valkey_cluster.url


def running(server: S) -> S:
    """The server, which a test before may have left stopped or killed."""
    if server.stopped:
        server.resume()
    return server.start()
