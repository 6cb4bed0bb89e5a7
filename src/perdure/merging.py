"""What becomes of two copies of one session: nothing of either history is lost, and both sides arrive at the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

from pydantic_core import from_json

from perdure.changes import REMEMBERED_WRITERS, count_queries, entry_bytes
from perdure.models.query import StoredQuery
from perdure.models.state import SECTIONS
from perdure.models.stored import StoredSession
from perdure.models.times import EPOCH, to_utc

__all__ = ["AbsorbOutcome", "merge"]

_UNREADABLE_IDS = UUID("6f1f1a0e-7d39-5a7e-9a53-1f0c2f8e6b11")
_WRITER_BYTES = 40


class AbsorbOutcome(StrEnum):
    """What `absorb` did with one session."""

    STORED = "stored"
    """There was none; now there is."""
    MERGED = "merged"
    """The copy that was there was an earlier state of this one; now it is this one."""
    FORKED = "forked"
    """Both had something that the other lacked; now there is one copy with both, under a new version."""
    UNCHANGED = "unchanged"
    """All of it was there already."""
    DELETED = "deleted"
    """A tombstone is there; it stays."""
    REFUSED = "refused"
    """The ticket was void, or the slot not empty; nothing changed."""
    FAILED = "failed"
    """This session could not be stored; the others were."""


def merge(kept: StoredSession, incoming: StoredSession) -> tuple[AbsorbOutcome, StoredSession]:
    """What a backend that holds `kept` holds after it absorbed `incoming`. Both are whole. Idempotent.

    Histories: `kept`'s, then the queries of `incoming` whose ids are missing in it. Fields and keys: of the higher
    version; of two different copies of one version (a fork) the keys of both, and where they differ, those of the one
    that was written last. A result that is equal to neither copy gets a version above both and a head of its own.
    Of two equal copies the archived one wins: archiving is no change.
    """
    if (kept.version, kept.head) == (incoming.version, incoming.head):
        if kept.archived_at is None and incoming.archived_at is not None:
            return AbsorbOutcome.MERGED, replace(kept, archived_at=incoming.archived_at)
        return AbsorbOutcome.UNCHANGED, kept
    queries = _united_queries(kept.queries, incoming.queries)
    if _holds(incoming, kept, queries):
        return AbsorbOutcome.MERGED, incoming
    if _holds(kept, incoming, queries):
        return AbsorbOutcome.UNCHANGED, kept
    return AbsorbOutcome.FORKED, _forked(kept, incoming, queries)


def _holds(later: StoredSession, earlier: StoredSession, queries: list[str]) -> bool:
    """Whether `later` has all that must not be lost: the queries of both, and no earlier an expiry."""
    return later.version > earlier.version and later.queries == queries and later.expires_at >= earlier.expires_at


def _forked(kept: StoredSession, incoming: StoredSession, queries: list[str]) -> StoredSession:
    older, newer = sorted((kept, incoming), key=_precedence)
    sections = {name: dict(entries) for name, entries in newer.sections.items()}
    if kept.version == incoming.version:
        sections = {name: {**older.sections[name], **newer.sections[name]} for name in SECTIONS}
    merged = replace(
        newer,
        archived_at=_archived_at(newer, older),
        expires_at=max(kept.expires_at, incoming.expires_at),
        last_accessed_at=max(kept.last_accessed_at, incoming.last_accessed_at),
        version=max(kept.version, incoming.version) + 1,
        # Not the same the other way round: there the queries are the same, but in another order.
        head=hashlib.sha256(f"{kept.head}>{incoming.head}".encode()).hexdigest()[:32],
        writers=_united_writers(newer.writers, older.writers),
        sections=sections,
        state_bytes=sum(entry_bytes(key, text) for entries in sections.values() for key, text in entries.items()),
        queries=queries,
        first_position=1,
        total_queries=0,
        cache_hits=0,
        history_bytes=0,
        first_query_at=None,
        last_query_at=None,
    )
    count_queries(merged, map(_facts, queries))
    return merged


def _archived_at(newer: StoredSession, older: StoredSession) -> datetime | None:
    """The later of both, where both are: what came last has not been archived for as long as the rest."""
    if newer.archived_at is None or older.archived_at is None:
        return newer.archived_at
    return max(newer.archived_at, older.archived_at)


def _precedence(session: StoredSession) -> tuple[int, datetime, str]:
    return session.version, session.last_accessed_at, session.head


def _united_queries(kept: Sequence[str], incoming: Sequence[str]) -> list[str]:
    if kept == incoming[: len(kept)]:  # nearly always: one is an earlier state of the other
        return list(incoming)
    if incoming == kept[: len(incoming)]:
        return list(kept)
    known = {_facts(body).id for body in kept}
    return [*kept, *(body for body in incoming if _facts(body).id not in known)]


def _united_writers(newer: bytes, older: bytes) -> bytes:
    """The memory of both; of one writer the later of its changes, or a repeat of it would be taken for new."""
    last: dict[bytes, bytes] = {}
    for memory in (newer, older):
        for offset in range(0, len(memory), _WRITER_BYTES):
            writer, change = memory[offset : offset + 16], memory[offset + 16 : offset + _WRITER_BYTES]
            last[writer] = max(last.get(writer, b""), change)  # begins with the number of the change, big-endian
    return b"".join(writer + change for writer, change in last.items())[: REMEMBERED_WRITERS * _WRITER_BYTES]


def _facts(body: str) -> StoredQuery:
    """The facts of a stored query; of one that cannot be read, an id made of its text."""
    try:
        fields = from_json(body)
        at = to_utc(datetime.fromisoformat(fields["timestamp"]))
        return StoredQuery(UUID(fields["id"]), at, fields.get("cache_hit", False) is True, body)
    except (ValueError, KeyError, TypeError, AttributeError):
        return StoredQuery(uuid5(_UNREADABLE_IDS, body), EPOCH, False, body)
