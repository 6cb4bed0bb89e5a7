"""What the nodes of a cluster know of each other."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.testing.servers.valkey import ValkeyServer

__all__ = ["KnownNode", "cluster_command", "view_of"]


@dataclass(frozen=True, slots=True)
class KnownNode:
    """A node as another one sees it."""

    id: str
    port: int
    flags: frozenset[str]
    master_id: str
    slots: tuple[tuple[int, int], ...]

    @property
    def in_handshake(self) -> bool:
        """Whether the two have not met properly yet."""
        return "handshake" in self.flags

    def holds(self, slot: int) -> bool:
        """Whether it is the master of a slot."""
        return any(first <= slot <= last for first, last in self.slots)


def view_of(server: ValkeyServer) -> list[KnownNode]:
    """What a node knows of the cluster: https://valkey.io/commands/cluster-nodes/ says how it is written."""
    known = []
    for line in cluster_command(server, "NODES").splitlines():
        name, address, flags, master_id, _, _, _, _, *ranges = line.split()
        slots = tuple(_slot_range(part) for part in ranges if not part.startswith("["))
        port = int(address.partition("@")[0].rpartition(":")[2])
        known.append(KnownNode(name, port, frozenset(flags.split(",")), master_id, slots))
    return known


def _slot_range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def cluster_command(server: ValkeyServer, *words: str | int) -> str:
    """What a node answers to `CLUSTER …`, as text."""
    with server.client() as client:
        return str(client.execute_command("CLUSTER", *words))
