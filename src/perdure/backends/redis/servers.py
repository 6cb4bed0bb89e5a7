"""Which server a bucket is on: one server, or the nodes of a cluster."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import (
    BlockingConnectionPool,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from perdure.backends.redis.address import RedisAddress
from perdure.backends.redis.keys import Layout
from perdure.backends.redis.lanes import Lane
from perdure.backends.redis.meanings import mapped
from perdure.errors import ConfigurationError

NODE_PATIENCE_S = 1.0
"""How long one node may take to say where the slots are, before the next is asked."""

LOOKS_APART_S = 0.1
"""However many calls fail at once, the cluster is not asked more often where its slots are."""

__all__ = ["Cluster", "Server", "Servers", "Single"]


class Server:
    """One server, and the connections to it."""

    def __init__(self, pool: ConnectionPool, address: RedisAddress, *, is_ours: bool = True) -> None:
        self._pool = pool
        self._is_ours = is_ours
        self._writers = [Lane(pool, patience_s=address.socket_timeout) for _ in range(address.writers)]
        self._readers = [Lane(pool, patience_s=address.socket_timeout) for _ in range(address.readers)]

    def writer(self, bucket: int) -> Lane:
        """Always the same for a bucket, so that what is written to one session keeps its order."""
        return self._writers[bucket % len(self._writers)]

    def reader(self) -> Lane:
        """The one with the least to do."""
        return min(self._readers, key=lambda lane: lane.load)

    async def aclose(self) -> None:
        """Let what is under way be answered, then disconnect."""
        await asyncio.gather(*(lane.aclose() for lane in (*self._writers, *self._readers)))
        if self._is_ours:
            await self._pool.disconnect()


class Servers(Protocol):
    """Where the buckets are."""

    @property
    def is_cluster(self) -> bool:
        """Whether one script can only reach the keys of one bucket."""

    async def open(self) -> None:
        """Find out where they are."""

    async def aclose(self) -> None:
        """Disconnect; what is under way is answered first. Repeatable."""

    def of(self, bucket: int) -> Server:
        """The server of a bucket."""

    def every(self) -> Sequence[Server]:
        """All that hold a bucket."""

    async def look_again(self) -> None:
        """Something has moved, or is gone: find out where the buckets are now."""


class Single:
    """One server for all buckets. A pool that was passed in is left open."""

    is_cluster = False

    def __init__(self, address: RedisAddress, *, pool: ConnectionPool | None = None) -> None:
        self._address = address
        self._given = pool
        self._server: Server | None = None

    async def open(self) -> None:
        """See `Servers.open`."""
        pool = self._given or _pool(self._address, *self._address.nodes[:1])
        self._server = Server(pool, self._address, is_ours=self._given is None)

    async def aclose(self) -> None:
        """See `Servers.aclose`."""
        server, self._server = self._server, None
        if server is not None:
            await server.aclose()

    def of(self, bucket: int) -> Server:
        """See `Servers.of`."""
        assert self._server is not None
        return self._server

    def every(self) -> Sequence[Server]:
        """See `Servers.every`."""
        return [self.of(0)]

    async def look_again(self) -> None:
        """See `Servers.look_again`: its lanes connect again by themselves, and look up its name then."""


class Cluster:
    """The masters of a cluster, each bucket on one of them.

    Where the slots are is found out by redis-py's client; commands go over lanes, since that client would send again
    by itself what may have been run already, and fails instead of waiting when its connections are in use.
    """

    is_cluster = True

    def __init__(self, address: RedisAddress, layout: Layout) -> None:
        self._address = address
        self._layout = layout
        self._servers: dict[str, Server] = {}
        self._owners: list[Server] = []
        self._known: list[tuple[str, int]] = list(address.nodes)
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = -math.inf
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """See `Servers.open`."""
        self._looked_at = -math.inf
        await self.look_again()

    async def aclose(self) -> None:
        """See `Servers.aclose`."""
        servers, self._servers, self._owners = list(self._servers.values()), {}, []
        if self._looking is not None:
            await asyncio.wait([self._looking])
        await asyncio.gather(*(server.aclose() for server in servers), *self._closing)

    def of(self, bucket: int) -> Server:
        """See `Servers.of`."""
        return self._owners[bucket]

    def every(self) -> Sequence[Server]:
        """See `Servers.every`."""
        return list(self._servers.values())

    async def look_again(self) -> None:
        """See `Servers.look_again`; callers at the same time share one look.

        Raises:
            BackendUnavailableError: no node answers, or none has a slot that a bucket is in.
            ConfigurationError: what answers is no cluster.
        """
        now = asyncio.get_running_loop().time()
        if self._looking is None and now < self._looked_at + LOOKS_APART_S:
            return
        if self._looking is None:
            self._looked_at = now
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(lambda _: setattr(self, "_looking", None))
        await asyncio.shield(self._looking)

    async def _look(self) -> None:
        try:
            owners = await self._ask(self._known)
        except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
            if "Cluster mode is not enabled" in str(error):
                raise ConfigurationError(f"redis: {self._address} is not a node of a cluster; use redis://") from error
            raise mapped(error) from error
        for node in owners:
            if node.name not in self._servers:
                pool = _pool(self._address, (node.host, int(node.port)))
                self._servers[node.name] = Server(pool, self._address)
        self._owners = [self._servers[node.name] for node in owners]
        for name in self._servers.keys() - {node.name for node in owners}:
            closing = asyncio.create_task(self._servers.pop(name).aclose())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _ask(self, nodes: Iterable[tuple[str, int]]) -> list[ClusterNode]:
        """The master of each bucket."""
        arguments = {name: value for name, value in self._address.connection_arguments.items() if name != "db"}
        client = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in nodes],
            require_full_coverage=False,
            ssl=self._address.tls,
            retry=Retry(NoBackoff(), 0),
            **{**arguments, "socket_timeout": min(self._address.socket_timeout, NODE_PATIENCE_S)},
        )
        manager = client.nodes_manager
        try:
            async with asyncio.timeout(self._address.timeout):
                # Not `client.initialize()`, which also has the server describe each command it has: ten times the work.
                await manager.initialize()
            owners = [client.get_node_from_key(base) for base in self._layout.bases]
            found = [(node.host, int(node.port)) for node in client.get_nodes()]
            self._known = list(dict.fromkeys([*found, *self._address.nodes]))
        finally:
            await manager.aclose()
            await manager.aclose("startup_nodes")
        return [owner for owner in owners if owner is not None]


def _pool(address: RedisAddress, *place: tuple[str, int]) -> ConnectionPool:
    """A pool for the lanes of one server; each takes one connection and keeps it."""
    kind: Callable[..., Connection | UnixDomainSocketConnection] = SSLConnection if address.tls else Connection
    where = dict(zip(("host", "port"), place[0], strict=True)) if place else {"path": address.path}
    if address.path is not None:
        kind = UnixDomainSocketConnection
    return BlockingConnectionPool(
        connection_class=kind,  # type: ignore[arg-type]  # the stubs want the class, and it is one
        max_connections=address.writers + address.readers,
        timeout=address.timeout,
        retry=Retry(NoBackoff(), 0),
        **address.connection_arguments,
        **where,
    )
