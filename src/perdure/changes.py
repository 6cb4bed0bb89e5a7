"""One write: what it carries, when it is refused, what it does to a session's facts; repeats and merges.

Everything here is pure, and shared by the backends, so that they cannot differ in it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Required, TypedDict
from uuid import UUID

from perdure.errors import (
    OutcomeUnknownError,
    QueryLimitExceededError,
    SessionArchivedError,
    SessionExpiredError,
    SessionNotFoundError,
    StateLimitExceededError,
    VersionConflictError,
)
from perdure.models.query import StoredQuery
from perdure.models.state import SectionName
from perdure.models.stored import StoredSession

__all__ = [
    "REMEMBERED_WRITERS",
    "Applied",
    "Draft",
    "SessionChange",
    "advance",
    "apply_whole",
    "check",
    "count_queries",
    "entry_bytes",
    "recall",
    "relabelled",
]

REMEMBERED_WRITERS = 32
"""How many of its last writers a session remembers the last change of."""

_REMEMBERED = struct.Struct(">16sQQQ")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChange:
    """What one write carries. Applied whole or not at all.

    `writer` is a store, `change_id` grows with each of its changes; together they tell a repeat (`attempt` above 1, or
    `resends` by a backend) from a new change. `at` is the writer's clock: backends read none. `expires_at` only takes
    effect where it is not earlier than the present expiry; on a session that is expired or archived at `at`, it is what
    revives it. `archive` moves the session to the archive as of `at`, active or not.

    Conditions: `if_version`; `owner` (the session's `user_id` must be this); `max_queries` and `max_state_bytes`
    (what the session may hold afterwards).
    """

    writer: UUID
    change_id: int
    at: datetime
    attempt: int = 1
    resends: int = 0
    if_version: int | None = None
    owner: str | None = None
    max_queries: int | None = None
    max_state_bytes: int | None = None
    queries: tuple[StoredQuery, ...] = ()
    set_entries: Mapping[SectionName, Mapping[str, str]] = field(default_factory=dict)
    unset_entries: Mapping[SectionName, Sequence[str]] = field(default_factory=dict)
    add_assets: tuple[str, ...] = ()
    remove_assets: tuple[str, ...] = ()
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    expires_at: datetime | None = None
    archive: bool = False

    @property
    def head(self) -> str:
        """What the session is called after this change: two copies with equal version and head are the same.

        Each attempt has its own, and each time that a backend sends one again by itself: where the first was lost and
        others wrote before the second, what comes of it is not the same.
        """
        if not self.is_repeat:
            return self._first_head
        attempt = "" if self.attempt == 1 else f".{self.attempt}"
        return f"{self._first_head}{attempt}" + (f".r{self.resends}" if self.resends else "")

    @property
    def is_repeat(self) -> bool:
        """Whether it may have been applied before."""
        return self.attempt > 1 or self.resends > 0

    def made(self, head: str) -> bool:
        """Whether `head` is that of this change, whichever attempt of it was applied."""
        return head == self._first_head or head.startswith(f"{self._first_head}.")

    @property
    def _first_head(self) -> str:
        return f"{self.writer.hex}.{self.change_id}"

    def repeated(self) -> SessionChange:
        """The same change, sent once more by whoever sent it before."""
        return replace(self, attempt=self.attempt + 1)

    def resent(self) -> SessionChange:
        """The same attempt, sent once more by a backend that got no answer to it."""
        return replace(self, resends=self.resends + 1)


class Draft(TypedDict, total=False):
    """What a caller wants of a `SessionChange`, before it is given its writer and id."""

    at: Required[datetime]
    if_version: int | None
    owner: str | None
    max_queries: int | None
    max_state_bytes: int | None
    queries: tuple[StoredQuery, ...]
    set_entries: Mapping[SectionName, Mapping[str, str]]
    unset_entries: Mapping[SectionName, Sequence[str]]
    add_assets: tuple[str, ...]
    remove_assets: tuple[str, ...]
    add_tags: tuple[str, ...]
    remove_tags: tuple[str, ...]
    expires_at: datetime | None
    archive: bool


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a change.

    Its queries have the positions `total_queries - len(change.queries) + 1` to `total_queries`. A repeat gets the
    answer that the first attempt got.
    """

    version: int
    total_queries: int


def entry_bytes(key: str, value: str) -> int:
    """What one entry counts towards `state_bytes`."""
    return _utf8(key) + _utf8(value)


def _utf8(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


# Repeats --------------------------------------------------------------------------------------------


def recall(session: StoredSession, change: SessionChange) -> Applied | None:
    """The answer that this very change got before, or None where it was certainly never applied.

    Raises:
        OutcomeUnknownError: a repeat of which the session may have forgotten the first attempt: its writer has written
            since, or so many others have that the writer is remembered no longer.
    """
    memory = session.writers
    offset = _offset_of(change.writer, memory)
    if offset is not None:
        _, change_id, version, total = _REMEMBERED.unpack_from(memory, offset)
        if change_id > change.change_id:
            raise OutcomeUnknownError(session.id)
        return Applied(version, total) if change_id == change.change_id else None
    if change.is_repeat and len(memory) >= REMEMBERED_WRITERS * _REMEMBERED.size:
        raise OutcomeUnknownError(session.id)
    return None


def _remember(memory: bytes, change: SessionChange, applied: Applied) -> bytes:
    """The memory with this change in front, in place of the writer's earlier one, or of the oldest writer's."""
    size = _REMEMBERED.size
    entry = _REMEMBERED.pack(change.writer.bytes, change.change_id, applied.version, applied.total_queries)
    offset = _offset_of(change.writer, memory)
    if offset is None:
        return entry + memory[: (REMEMBERED_WRITERS - 1) * size]
    return entry + memory[:offset] + memory[offset + size :]


def _offset_of(writer: UUID, memory: bytes) -> int | None:
    """Where the writer's last change is remembered; the one that wrote last is in front."""
    key = writer.bytes
    for offset in range(0, len(memory), _REMEMBERED.size):
        if memory.startswith(key, offset):
            return offset
    return None


# Applying -------------------------------------------------------------------------------------------


def check(session: StoredSession, change: SessionChange, *, freed_bytes: int) -> None:
    """Refuse a change that must not be applied; to be asked after `recall`, before anything is written.

    `freed_bytes` is what the entries that the change sets or removes weigh at present.

    Raises: in this order
        SessionNotFoundError: the session is not `change.owner`'s.
        SessionArchivedError, SessionExpiredError: at `change.at`, and the change does not revive it.
        VersionConflictError, QueryLimitExceededError, StateLimitExceededError: a condition does not hold.
    """
    if change.owner is not None and session.user_id != change.owner:
        raise SessionNotFoundError(session.id)
    revives = change.expires_at is not None and change.at < change.expires_at >= session.expires_at
    if not revives:
        check_active(session, at=change.at, archiving=change.archive)
    elif change.archive and session.archived_at is not None:
        raise SessionArchivedError(session.id, archived_at=session.archived_at)
    if change.if_version is not None and session.version != change.if_version:
        raise VersionConflictError(session.id, expected=change.if_version, found=session.version)
    check_room(session, adding=len(change.queries), limit=change.max_queries)
    if change.max_state_bytes is not None and any(change.set_entries.values()):
        size = session.state_bytes - freed_bytes + _set_bytes(change)
        if size > change.max_state_bytes:
            raise StateLimitExceededError(session.id, limit_bytes=change.max_state_bytes, size_bytes=size)


def check_active(session: StoredSession, *, at: datetime, archiving: bool = False) -> None:
    """Refuse a session that is archived, or expired at that instant; an expired one may still be archived.

    Raises:
        SessionArchivedError, SessionExpiredError: in this order.
    """
    if session.archived_at is not None:
        raise SessionArchivedError(session.id, archived_at=session.archived_at)
    if session.expires_at <= at and not archiving:
        raise SessionExpiredError(session.id, expired_at=session.expires_at)


def check_room(session: StoredSession, *, adding: int, limit: int | None) -> None:
    """Refuse to add so many queries to a session that would then hold more than `limit`.

    Raises:
        QueryLimitExceededError: it would.
    """
    count = session.total_queries
    if adding and limit is not None and count + adding > limit:
        raise QueryLimitExceededError(session.id, limit=limit, count=count, adding=adding)


def advance(session: StoredSession, change: SessionChange, *, freed_bytes: int) -> Applied:
    """Bring the facts of `session` (everything but its sections and queries) up to date with a checked change."""
    session.version += 1
    session.head = change.head
    session.last_accessed_at = max(session.last_accessed_at, change.at)
    session.assets = relabelled(session.assets, change.add_assets, change.remove_assets)
    session.tags = relabelled(session.tags, change.add_tags, change.remove_tags)
    session.state_bytes += _set_bytes(change) - freed_bytes
    if change.expires_at is not None and change.expires_at >= session.expires_at:
        session.expires_at = change.expires_at
        session.archived_at = None
    if change.archive:
        session.archived_at = change.at
    count_queries(session, change.queries)
    applied = Applied(session.version, session.total_queries)
    session.writers = _remember(session.writers, change, applied)
    return applied


def apply_whole(session: StoredSession, change: SessionChange) -> Applied:
    """Apply a change to a whole session in memory: `recall`, `check`, `advance`, then the entries and the queries.

    Raises: what `recall` and `check` raise; the session is as it was.
    """
    if (before := recall(session, change)) is not None:
        return before
    freed = _freed_bytes(session, change)
    check(session, change, freed_bytes=freed)
    applied = advance(session, change, freed_bytes=freed)
    for section, keys in change.unset_entries.items():
        for key in keys:
            session.sections[section].pop(key, None)
    for section, entries in change.set_entries.items():
        session.sections[section].update(entries)
    session.queries.extend(query.body for query in change.queries)
    return applied


def _freed_bytes(session: StoredSession, change: SessionChange) -> int:
    """What the entries that the change sets or removes weigh at present."""
    touched = {(section, key) for section, keys in change.unset_entries.items() for key in keys}
    touched |= {(section, key) for section, entries in change.set_entries.items() for key in entries}
    return sum(
        entry_bytes(key, session.sections[section][key]) for section, key in touched if key in session.sections[section]
    )


def count_queries(session: StoredSession, queries: Iterable[StoredQuery]) -> None:
    """Let the counters of `session` know of more queries."""
    for query in queries:
        at = query.timestamp
        session.total_queries += 1
        session.cache_hits += query.cache_hit
        session.history_bytes += query.size_bytes
        session.first_query_at = at if session.first_query_at is None else min(session.first_query_at, at)
        session.last_query_at = at if session.last_query_at is None else max(session.last_query_at, at)


def _set_bytes(change: SessionChange) -> int:
    return sum(entry_bytes(key, text) for entries in change.set_entries.values() for key, text in entries.items())


def relabelled(present: tuple[str, ...], added: tuple[str, ...], removed: tuple[str, ...]) -> tuple[str, ...]:
    """The labels with some added at the end and some removed."""
    if not added and not removed:
        return present
    return tuple(dict.fromkeys(label for label in (*present, *added) if label not in removed))
