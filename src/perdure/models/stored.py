"""A session as backends keep it: facts, and texts that nobody decodes on the way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from perdure.models.state import SECTIONS, SectionName

__all__ = ["StoredSession"]


@dataclass(slots=True)
class StoredSession:
    """What a backend takes, keeps and gives back. `Session` is made of it, and shows it to people.

    `sections` holds JSON text by section and key; `queries` the bodies of consecutive queries, oldest first, the first
    of them at position `first_position` (all of the history, or the newest part of it); the counters speak of all.
    `state_bytes` is the UTF-8 size of all keys and values, `history_bytes` that of all query bodies.
    `writers` is the memory of repeats (`perdure.changes.recall`), which travels with the session and means nothing
    to anybody else. `stale` marks what a backend could only give as it was when it was last sure; it is not stored.
    """

    id: UUID
    user_id: str | None
    type: str
    assets: tuple[str, ...]
    tags: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    last_accessed_at: datetime
    archived_at: datetime | None = None
    version: int = 1
    head: str = ""
    total_queries: int = 0
    cache_hits: int = 0
    first_query_at: datetime | None = None
    last_query_at: datetime | None = None
    state_bytes: int = 0
    history_bytes: int = 0
    writers: bytes = b""
    sections: dict[SectionName, dict[str, str]] = field(default_factory=lambda: {name: {} for name in SECTIONS})
    queries: list[str] = field(default_factory=list)
    first_position: int = 1
    stale: bool = False

    @property
    def size_bytes(self) -> int:
        """Roughly what the session weighs on the way between tiers."""
        return self.state_bytes + self.history_bytes

    def copy(self, *, history: int | None = None) -> StoredSession:
        """A copy that shares no container with this one, with the newest `history` of its queries (None: all)."""
        kept = len(self.queries) if history is None else min(history, len(self.queries))
        return replace(
            self,
            sections={name: dict(entries) for name, entries in self.sections.items()},
            queries=self.queries[len(self.queries) - kept :],
            first_position=self.first_position + len(self.queries) - kept,
        )
