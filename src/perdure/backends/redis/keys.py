"""Which key holds what: every key of a session, and every index that it is in, belongs to one bucket.

A bucket is one hash tag, so that one script changes all of them together, on a cluster too.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID
from zlib import crc32

__all__ = ["DEFAULT_BUCKETS", "DEFAULT_NAMESPACE", "Layout"]

DEFAULT_NAMESPACE = "perdure"
DEFAULT_BUCKETS = 16


class Layout:
    """The keys of one namespace."""

    def __init__(self, namespace: str, buckets: int) -> None:
        self.namespace = namespace
        self.buckets = buckets
        self.bases = [f"{{{namespace}:{number}}}" for number in range(buckets)]
        """What every key of a bucket begins with."""
        self.meta = f"{self.bases[0]}:meta"
        """A hash: how the data is laid out."""
        self.sweep = f"{self.bases[0]}:sweep"
        """When the last sweep started, and who started it."""

    def bucket_of(self, session_id: UUID) -> int:
        """The bucket of a session."""
        return crc32(session_id.bytes) % self.buckets

    def place(self, session_id: UUID) -> tuple[int, tuple[str, str]]:
        """The bucket of a session, its hash (facts, and an entry for each state key), and the list of its queries."""
        bucket, name = crc32(session_id.bytes) % self.buckets, session_id.hex
        base = self.bases[bucket]
        return bucket, (f"{base}:s:{name}", f"{base}:q:{name}")

    def session(self, session_id: UUID) -> str:
        """The hash of a session."""
        return self.place(session_id)[1][0]

    def cached(self, session_id: UUID) -> tuple[str, str, str]:
        """The hash and the list of a copy of what another backend keeps, and the right to fill them."""
        base, name = self.bases[self.bucket_of(session_id)], session_id.hex
        return f"{base}:c:{name}", f"{base}:d:{name}", f"{base}:t:{name}"

    def due(self, bucket: int) -> str:
        """A sorted set: when each session that is not archived becomes due."""
        return f"{self.bases[bucket]}:due"

    def old(self, bucket: int) -> str:
        """A sorted set: when each archived session was archived."""
        return f"{self.bases[bucket]}:old"

    def tombs(self, bucket: int) -> str:
        """A sorted set: when the tombstone of each deleted session may be forgotten."""
        return f"{self.bases[bucket]}:tombs"

    def tickets(self, bucket: int) -> tuple[str, str]:
        """A hash, the ticket for each slot, and a sorted set: when it was taken."""
        return f"{self.bases[bucket]}:tickets", f"{self.bases[bucket]}:taken"

    def purged(self, bucket: int) -> tuple[str, str]:
        """A sorted set: when each session that retention removed was created, and a hash: what it counts."""
        return f"{self.bases[bucket]}:purged", f"{self.bases[bucket]}:metrics"

    def index(self, bucket: int, label: str, *, archived: bool) -> str:
        """A sorted set: when each session with that label was created."""
        return f"{self.bases[bucket]}:{'z' if archived else 'a'}:{label}"

    def every_due(self) -> Iterator[str]:
        """`due` of each bucket."""
        return map(self.due, range(self.buckets))
