"""A Valkey Cluster of one's own: three masters, each with a replica."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from perdure.testing.servers.binaries import RedisBinary, default_redis_binary
from perdure.testing.servers.errors import ServerError
from perdure.testing.servers.ports import HOST, free_port
from perdure.testing.servers.valkey import Durability, ValkeyServer
from perdure.testing.servers.views import cluster_command, view_of

__all__ = ["ValkeyCluster"]

MASTERS = 3
SLOTS = 16_384
OK_SECONDS = 30.0
POLL_SECONDS = 0.05

_CONFIG = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": "1000",  # ms without an answer before a node counts as failed
    "cluster-replica-validity-factor": "0",  # a replica takes over however old its data are
    "cluster-migration-barrier": "10",  # replicas stay with their masters
    "repl-diskless-sync-delay": "0",
}


class ValkeyCluster:
    """Six servers on 127.0.0.1, `nodes`, that share the slots: up in about 3 s. The arguments are `ValkeyServer`'s.

    Each node can be stopped, killed and started again like any `ValkeyServer`. A master that is gone is replaced by its
    replica within about 2 s.

    Raises:
        MissingExtraError: no server is installed.
    """

    def __init__(
        self,
        *,
        folder: str | os.PathLike[str] | None = None,
        durability: Durability = "always",
        config: Mapping[str, str] | None = None,
        binary: RedisBinary | None = None,
    ) -> None:
        chosen = default_redis_binary() if binary is None else binary
        self.nodes: Sequence[ValkeyServer] = [
            _Node(
                folder=None if folder is None else Path(folder) / f"node-{number}",
                durability=durability,
                config={**_CONFIG, **(config or {})},
                binary=chosen,
            )
            for number in range(2 * MASTERS)
        ]

    @property
    def url(self) -> str:
        """`redis+cluster://127.0.0.1:PORT,127.0.0.1:PORT,…`: every node."""
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def start(self) -> Self:
        """Start every node that does not run, form the cluster if it is new, and return when it takes requests.

        Raises:
            ServerError: a node does not start, or the cluster does not come up.
        """
        for node in self.nodes:
            node.start()
        if all(len(view_of(node)) == 1 for node in self.nodes):
            self._form()
        self.wait_until_ok()
        return self

    def stop(self) -> None:
        """SIGSTOP to every node that runs."""
        self._each_running(ValkeyServer.stop)

    def resume(self) -> None:
        """SIGCONT to every node that runs."""
        self._each_running(ValkeyServer.resume)

    def kill(self) -> None:
        """SIGKILL to every node that runs."""
        self._each_running(ValkeyServer.kill)

    def terminate(self) -> None:
        """Let every node end cleanly; the data stay for `start`."""
        self._each_running(ValkeyServer.terminate)

    def restart(self) -> Self:
        """Start every node again on the same port and data; those that run are terminated first."""
        self.terminate()
        return self.start()

    def close(self) -> None:
        """Let every node end, and remove the folders if they are its own; repeatable."""
        with ExitStack() as closing:
            for node in self.nodes:
                closing.callback(node.close)

    def clear(self) -> None:
        """Forget every key, script and function; the cluster must be whole. About 20 ms."""
        for server in self._masters():
            server.clear()

    # Masters and replicas ----------------------------------------------------------------------------

    def master_of(self, slot: int = 0) -> ValkeyServer:
        """The node that holds a slot (0 to 16,383), as those that run see it.

        Raises:
            ServerError: it is gone, and has no successor yet.
        """
        awake = self._awake()
        for server in awake:
            with suppress(redis.RedisError):  # then another one knows
                holders = [self._by_port(node.port) for node in view_of(server) if node.holds(slot)]
                if holders and holders[0] in awake:
                    return holders[0]
        raise ServerError(f"slot {slot} has no master at present")

    def replicas_of(self, slot: int = 0) -> list[ValkeyServer]:
        """The running replicas of the node that holds a slot."""
        master = self.master_of(slot)
        view = view_of(master)
        (own,) = (node for node in view if node.port == master.port)
        ports = [node.port for node in view if node.master_id == own.id]
        return [server for server in map(self._by_port, ports) if server in self._awake()]

    def kill_master(self, *, of_slot: int = 0) -> ValkeyServer:
        """SIGKILL to the node that holds a slot; gives it back, gone, at once. `wait_until_ok` waits for its successor.

        What it had acknowledged and not yet sent to its replica is lost. Started again, it becomes a replica.
        """
        master = self.master_of(of_slot)
        master.kill()
        return master

    def failover(self, *, of_slot: int = 0) -> ValkeyServer:
        """Let a replica take the place of the node that holds a slot, which becomes its replica; gives the new master.

        Nobody dies and nothing is lost; writers are held up for a moment. Returns when every node agrees.

        Raises:
            ServerError: there is no replica, or it does not take over within 30 s.
        """
        replicas = self.replicas_of(of_slot)
        if not replicas:
            raise ServerError(f"no running replica of slot {of_slot} that could take over")
        successor = replicas[0]
        with successor.client() as client:
            client.execute_command("CLUSTER", "FAILOVER")
        _wait_for(lambda: self._agreed_on(of_slot) is successor, f"node {successor.port} has not taken over")
        self.wait_until_ok()
        return successor

    def wait_until_ok(self, *, within_seconds: float = OK_SECONDS) -> None:
        """Return when all is well with the nodes that run; a stopped one does not.

        They take requests, agree on who holds which slots and on who replicates whom, and each replica is linked to its
        master.

        Raises:
            ServerError: that is not so after `within_seconds`.
        """
        _wait_for(self._is_ok, "the cluster is not whole", within_seconds=within_seconds)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -------------------------------------------------------------------------------------------------

    def _form(self) -> None:
        masters, replicas = self.nodes[:MASTERS], self.nodes[MASTERS:]
        bounds = [number * SLOTS // MASTERS for number in range(MASTERS + 1)]
        for epoch, server in enumerate(self.nodes, start=1):
            cluster_command(server, "SET-CONFIG-EPOCH", epoch)  # each its own, or they settle that first
        for server, (first, end) in zip(masters, pairwise(bounds), strict=True):
            cluster_command(server, "ADDSLOTS", *range(first, end))
        for server in self.nodes[1:]:
            cluster_command(self.nodes[0], "MEET", HOST, server.port)
        _wait_for(lambda: all(map(self._knows_all, self.nodes)), "the nodes have not met")
        for master, replica in zip(masters, replicas, strict=True):
            cluster_command(replica, "REPLICATE", cluster_command(master, "MYID"))

    def _knows_all(self, server: ValkeyServer) -> bool:
        view = view_of(server)
        return len(view) == len(self.nodes) and not any(node.in_handshake for node in view)

    def _is_ok(self) -> bool:
        awake, masters = self._awake(), self._masters()
        ports = {server.port for server in awake}
        views = [[node for node in view_of(server) if node.port in ports or node.slots] for server in awake]
        agreed = {frozenset((node.port, node.slots, node.master_id) for node in view) for view in views}
        return (
            len(agreed) == 1
            and {node.port for node in views[0]} == ports
            and all(map(_takes_requests, awake))
            and all(_is_linked(server) for server in awake if server not in masters)
        )

    def _agreed_on(self, slot: int) -> ValkeyServer | None:
        ports = {node.port for server in self._awake() for node in view_of(server) if node.holds(slot)}
        return self._by_port(ports.pop()) if len(ports) == 1 else None

    def _masters(self) -> list[ValkeyServer]:
        return [self._by_port(node.port) for server in self._awake()[:1] for node in view_of(server) if node.slots]

    def _awake(self) -> list[ValkeyServer]:
        return [server for server in self.nodes if server.running and not server.stopped]

    def _by_port(self, port: int) -> ValkeyServer:
        return next(server for server in self.nodes if server.port == port)

    def _each_running(self, verb: Callable[[ValkeyServer], None]) -> None:
        for server in self.nodes:
            if server.running:
                verb(server)


class _Node(ValkeyServer):
    """A member of a cluster, which needs a second port."""

    def _free_port(self) -> int:
        return free_port(with_bus=True)


def _takes_requests(server: ValkeyServer) -> bool:
    return "cluster_state:ok" in cluster_command(server, "INFO")


def _is_linked(server: ValkeyServer) -> bool:
    with server.client() as client:
        facts = client.info("replication")
    return bool(facts["role"] == "slave" and facts["master_link_status"] == "up")


def _wait_for(condition: Callable[[], bool], otherwise: str, *, within_seconds: float = OK_SECONDS) -> None:
    deadline = time.monotonic() + within_seconds
    while not _holds(condition):
        if time.monotonic() > deadline:
            raise ServerError(f"{otherwise} after {within_seconds:g} s")
        time.sleep(POLL_SECONDS)


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except redis.RedisError:
        return False  # a node is gone, or not there yet
