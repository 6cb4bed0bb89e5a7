"""What a backend must do, once more and in other words: plain dicts, written from the contract and nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from perdure.backends import Absorbed, Archived, ArchiveOutcome, Copy, HistoryPage, Purged, Tombstone
from perdure.changes import Applied, SessionChange
from perdure.errors import (
    OutcomeUnknownError,
    QueryLimitExceededError,
    SessionArchivedError,
    SessionExistsError,
    SessionExpiredError,
    SessionNotFoundError,
    StateLimitExceededError,
    VersionConflictError,
)
from perdure.merging import AbsorbOutcome
from perdure.models import SessionFilter, StatsFilter, StoredSession

__all__ = ["ModelSession", "SessionModel"]

UNKNOWN_TICKET = "a ticket whose text nobody was told"
REMEMBERED = 32


@dataclass
class ModelSession:
    """One session: everything that counts is counted when it is asked for."""

    id: UUID
    user: str | None
    type: str
    created: datetime
    expires: datetime
    accessed: datetime
    assets: list[str]
    tags: list[str]
    version: int
    head: str
    archived: datetime | None = None
    bodies: list[str] = field(default_factory=list)
    entries: dict[tuple[str, str], str] = field(default_factory=dict)
    remembered: list[tuple[UUID, int, Applied]] = field(default_factory=list)
    due: datetime | None = None

    @classmethod
    def of(cls, stored: StoredSession) -> ModelSession:
        """The same facts of a session that nobody has written to yet."""
        assert not stored.writers
        return cls(
            stored.id,
            stored.user_id,
            stored.type,
            stored.created_at,
            stored.expires_at,
            stored.last_accessed_at,
            list(stored.assets),
            list(stored.tags),
            stored.version,
            stored.head,
            stored.archived_at,
            list(stored.queries),
            {(name, key): text for name, entries in stored.sections.items() for key, text in entries.items()},
        )

    @property
    def state_bytes(self) -> int:
        return sum(len(key.encode()) + len(text.encode()) for (_, key), text in self.entries.items())

    @property
    def query_ids(self) -> set[str]:
        return {json.loads(body)["id"] for body in self.bodies}

    def labels(self) -> set[str]:
        return (
            {f"user {self.user}", f"type {self.type}"} | {f"a {a}" for a in self.assets} | {f"t {t}" for t in self.tags}
        )

    def as_read(self, history: int | None) -> dict[str, Any]:
        """What `read` gives, by the names of `StoredSession`."""
        queries = [json.loads(body) for body in self.bodies]
        times = [datetime.fromisoformat(query["timestamp"]) for query in queries]
        kept = len(self.bodies) if history is None else min(history, len(self.bodies))
        sections: dict[str, dict[str, str]] = {
            name: {} for name in ("context", "preferences", "intermediate_results", "metadata")
        }
        for (name, key), text in self.entries.items():
            sections[name][key] = text
        return {
            "id": self.id,
            "user_id": self.user,
            "type": self.type,
            "assets": tuple(self.assets),
            "tags": tuple(self.tags),
            "created_at": self.created,
            "expires_at": self.expires,
            "last_accessed_at": self.accessed,
            "archived_at": self.archived,
            "version": self.version,
            "head": self.head,
            "stale": False,
            "total_queries": len(queries),
            "cache_hits": sum(query.get("cache_hit", False) for query in queries),
            "first_query_at": min(times, default=None),
            "last_query_at": max(times, default=None),
            "state_bytes": self.state_bytes,
            "history_bytes": sum(len(body.encode()) for body in self.bodies),
            "sections": sections,
            "queries": self.bodies[len(self.bodies) - kept :],
            "first_position": len(self.bodies) - kept + 1,
        }


class SessionModel:
    """All sessions of a backend. Methods are those of the contract; they answer, or raise what it says."""

    def __init__(self) -> None:
        self.sessions: dict[UUID, ModelSession] = {}
        self.purged: dict[UUID, ModelSession] = {}
        self.tombstones: dict[UUID, datetime] = {}
        self.tickets: dict[UUID, tuple[str, datetime]] = {}
        self.void: set[str] = set()
        self.swept: datetime | None = None

    def create(self, session: ModelSession) -> None:
        if session.id in self.sessions or session.id in self.tombstones:
            raise SessionExistsError(session.id)
        self._keep(session)

    def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        session = self.sessions.get(session_id)
        if session is None:
            raise SessionNotFoundError(session_id)
        known = {writer: (number, answer) for writer, number, answer in session.remembered}
        if change.writer in known:
            number, answer = known[change.writer]
            if number == change.change_id:
                return answer
            if number > change.change_id:
                raise OutcomeUnknownError(session_id)
        elif change.attempt > 1 and len(known) == REMEMBERED:
            raise OutcomeUnknownError(session_id)
        revives = self._refuse(session, change)

        session.version, session.head = session.version + 1, change.head
        session.accessed = max(session.accessed, change.at)
        session.entries = _entries_after(session, change)
        session.bodies = [*session.bodies, *(query.body for query in change.queries)]
        session.assets = _labels_after(session.assets, change.add_assets, change.remove_assets)
        session.tags = _labels_after(session.tags, change.add_tags, change.remove_tags)
        if change.expires_at is not None and change.expires_at > session.expires:
            session.expires = change.expires_at
            session.due = session.due if change.archive else session.expires
        if revives and session.archived is not None:
            session.archived, session.due = None, session.expires
        if change.archive:
            session.archived = change.at
        answer = Applied(session.version, len(session.bodies))
        others = [entry for entry in session.remembered if entry[0] != change.writer]
        session.remembered = [(change.writer, change.change_id, answer), *others][:REMEMBERED]
        return answer

    def _refuse(self, session: ModelSession, change: SessionChange) -> bool:
        """Raise what speaks against the change; gives whether it revives the session."""
        if change.owner not in (None, session.user):
            raise SessionNotFoundError(session.id)
        later = change.expires_at
        revives = later is not None and later >= session.expires and later > change.at
        if session.archived is not None and (change.archive or not revives):
            raise SessionArchivedError(session.id, archived_at=session.archived)
        if change.at >= session.expires and not revives and not change.archive:
            raise SessionExpiredError(session.id, expired_at=session.expires)
        if change.if_version not in (None, session.version):
            raise VersionConflictError(session.id, expected=change.if_version or 0, found=session.version)
        count, adding = len(session.bodies), len(change.queries)
        if adding and change.max_queries is not None and count + adding > change.max_queries:
            raise QueryLimitExceededError(session.id, limit=change.max_queries, count=count, adding=adding)
        if any(change.set_entries.values()) and change.max_state_bytes is not None:
            after = copy.copy(session)
            after.entries = _entries_after(session, change)
            if after.state_bytes > change.max_state_bytes:
                limit = change.max_state_bytes
                raise StateLimitExceededError(session.id, limit_bytes=limit, size_bytes=after.state_bytes)
        return revives

    def queries(
        self, session_id: UUID, *, after: int, before: int | None, limit: int, owner: str | None
    ) -> HistoryPage | None:
        session = self.sessions.get(session_id)
        if session is None or owner not in (None, session.user):
            return None
        positions = [
            position
            for position in range(1, len(session.bodies) + 1)
            if position > after and (before is None or position < before)
        ]
        backwards = before is not None and after == 0
        chosen = positions[-limit:] if backwards else positions[:limit]
        return HistoryPage(
            [session.bodies[position - 1] for position in chosen],
            chosen[0] if chosen else after + 1,
            len(session.bodies),
        )

    def matching(self, wanted: SessionFilter) -> list[ModelSession]:
        """What a filter is about, newest first."""
        needed = {f"a {asset}" for asset in wanted.assets} | {f"t {tag}" for tag in wanted.tags}
        needed |= set() if wanted.user_id is None else {f"user {wanted.user_id}"}
        needed |= set() if wanted.session_type is None else {f"type {wanted.session_type}"}
        found = [
            session
            for session in self.sessions.values()
            if needed <= session.labels()
            and wanted.archived in (None, session.archived is not None)
            and (wanted.created_after is None or session.created >= wanted.created_after)
            and (wanted.created_before is None or session.created < wanted.created_before)
        ]
        return sorted(found, key=lambda session: (session.created, session.id), reverse=True)

    def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None) -> bool:
        session = self.sessions.get(session_id)
        if session is not None and owner not in (None, session.user):
            return False
        self._forget(session_id)
        purged = self.purged.get(session_id)
        if purged is not None and (session is not None or owner in (None, purged.user)):
            del self.purged[session_id]
        self.tombstones[session_id] = max(forget_at, self.tombstones.get(session_id, forget_at))
        return session is not None

    def claim_expired(self, *, now: datetime, lease: timedelta, limit: int, max_bytes: int) -> list[UUID]:
        due = [s for s in self.sessions.values() if s.due is not None and s.due <= now]
        taken: list[ModelSession] = []
        weight = 0
        for session in sorted(due, key=lambda session: (session.due, session.id)):
            weight += session.state_bytes + sum(len(body.encode()) for body in session.bodies)
            if len(taken) == limit or (taken and weight > max_bytes):
                break
            taken.append(session)
        for session in taken:
            session.due = now + lease
        return [session.id for session in taken]

    def absorb(self, sessions: Iterable[ModelSession], tickets: Mapping[UUID, str] | None) -> list[Absorbed]:
        return [Absorbed(session.id, self._absorb(session, tickets)) for session in sessions]

    def _absorb(self, session: ModelSession, tickets: Mapping[UUID, str] | None) -> AbsorbOutcome:
        kept = self.sessions.get(session.id)
        if session.id in self.tombstones:
            return AbsorbOutcome.DELETED
        if tickets is not None:
            ticket, _ = self.tickets.get(session.id, (None, None))
            if kept is not None or ticket is None or ticket != tickets.get(session.id):
                return AbsorbOutcome.REFUSED
        if kept is None:
            self._keep(session)
            return AbsorbOutcome.STORED
        self._void(session.id)
        if (kept.version, kept.head) == (session.version, session.head):
            if kept.archived is not None or session.archived is None:
                return AbsorbOutcome.UNCHANGED
            kept.archived, kept.due = session.archived, None
            return AbsorbOutcome.MERGED
        for outcome, whole, part in (
            (AbsorbOutcome.MERGED, session, kept),
            (AbsorbOutcome.UNCHANGED, kept, session),
        ):
            later = whole.version > part.version and whole.expires >= part.expires
            in_order = whole is kept or whole.bodies[: len(part.bodies)] == part.bodies
            if later and part.query_ids <= whole.query_ids and in_order:
                if whole is session:
                    self._keep(session)
                return outcome
        self._keep(_fork(kept, session))
        return AbsorbOutcome.FORKED

    def ticket(self, session_id: UUID, *, given: str, now: datetime) -> str:
        """`given` is what the backend gave: right if it was given before, or if there was none."""
        ticket, taken_at = self.tickets.setdefault(session_id, (given, now))
        if ticket == UNKNOWN_TICKET:
            self.tickets[session_id] = given, taken_at
            return given
        return ticket

    def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        session = self.sessions.get(session_id)
        self._void(session_id)
        if session is None or (session.version, session.head) != (version, head):
            return False
        self._forget(session_id)
        self.purged.pop(session_id, None)
        return True

    def archive(self, sessions: Iterable[StoredSession], *, at: datetime) -> list[Archived]:
        """What `archive` does before it delivers."""
        report = []
        for session in sessions:
            kept = self.sessions.get(session.id)
            outcome = ArchiveOutcome.DELETED if session.id in self.tombstones else ArchiveOutcome.CHANGED
            if kept is not None and (kept.version, kept.head) == (session.version, session.head):
                kept.archived = at if kept.archived is None else kept.archived
                outcome = ArchiveOutcome.ARCHIVED
            report.append(Archived(session.id, outcome))
        return report

    def settle(self, report: Iterable[Archived]) -> None:
        """What `archive` does when it has delivered."""
        for done in report:
            if done.outcome is ArchiveOutcome.ARCHIVED:
                self.sessions[done.session_id].due = None

    def copies(self, session_ids: Iterable[UUID]) -> dict[UUID, Copy | Tombstone]:
        found: dict[UUID, Copy | Tombstone] = {known: Tombstone(at) for known, at in self.tombstones.items()}
        for known, session in self.sessions.items():
            found[known] = Copy(session.version, session.head, session.archived is not None)
        return {known: found[known] for known in session_ids if known in found}

    def purge(
        self,
        *,
        archived_before: datetime,
        now: datetime,
        limit: int,
        dry_run: bool,
        among: Collection[UUID] | None = None,
    ) -> Purged:
        old = [
            s
            for s in self.sessions.values()
            if s.archived is not None and s.archived < archived_before and (among is None or s.id in among)
        ]
        chosen = sorted(old, key=lambda session: (session.archived, session.id))[:limit]
        if not dry_run:
            for session in chosen:
                self._forget(session.id)
                self.purged[session.id] = session
            self.tombstones = {known: at for known, at in self.tombstones.items() if not at <= now}
            hour = timedelta(hours=1)
            self.tickets = {known: given for known, given in self.tickets.items() if not given[1] + hour <= now}
        return Purged([session.id for session in chosen], more=len(old) > limit)

    def counted(self, wanted: StatsFilter, without: Collection[UUID]) -> list[ModelSession]:
        """What statistics are about, newest first."""
        found = [
            session
            for session in {**self.purged, **self.sessions}.values()
            if wanted.user_id in (None, session.user)
            and wanted.session_type in (None, session.type)
            and (wanted.since is None or session.created >= wanted.since)
            and (wanted.until is None or session.created < wanted.until)
            and session.id not in without
        ]
        return sorted(found, key=lambda session: (session.created, session.id), reverse=True)

    def record(self, sessions: Iterable[ModelSession], *, at: datetime) -> list[bool]:
        return [self._record(session, at) for session in sessions]

    def _record(self, session: ModelSession, at: datetime) -> bool:
        known = self.purged.get(session.id)
        fresh = known is None or known.version < session.version
        if fresh and session.id not in self.sessions and session.id not in self.tombstones:
            self.purged[session.id] = copy.deepcopy(session)
            self.purged[session.id].archived = session.archived or at
        return session.id not in self.tombstones

    def start_sweep(self, *, now: datetime, interval: timedelta) -> bool:
        recent = self.swept is not None and timedelta(0) <= now - self.swept < interval
        if not recent:
            self.swept = now
        return not recent

    def _void(self, session_id: UUID) -> None:
        ticket, _ = self.tickets.pop(session_id, (UNKNOWN_TICKET, None))
        self.void.add(ticket)

    def _keep(self, session: ModelSession) -> None:
        self._forget(session.id)
        self.sessions[session.id] = copy.deepcopy(session)
        self.sessions[session.id].due = session.expires if session.archived is None else None

    def _forget(self, session_id: UUID) -> None:
        self.sessions.pop(session_id, None)
        self._void(session_id)


def _fork(kept: ModelSession, other: ModelSession) -> ModelSession:
    """One session with what both have."""
    low, high = sorted((kept, other), key=lambda session: (session.version, session.accessed, session.head))
    merged = copy.deepcopy(high)
    if kept.version == other.version:
        merged.entries = {**low.entries, **high.entries}
    merged.version, merged.head = high.version + 1, "whatever the backend calls it"
    merged.expires = max(kept.expires, other.expires)
    merged.accessed = max(kept.accessed, other.accessed)
    if kept.archived is not None and other.archived is not None:
        merged.archived = max(kept.archived, other.archived)
    added = [body for body in other.bodies if json.loads(body)["id"] not in kept.query_ids]
    merged.bodies = [*kept.bodies, *added]
    united: dict[UUID, tuple[UUID, int, Applied]] = {}
    for entry in (*high.remembered, *low.remembered):
        united[entry[0]] = max(united.get(entry[0], entry), entry, key=lambda each: each[1])
    merged.remembered = list(united.values())[:REMEMBERED]
    return merged


def _entries_after(session: ModelSession, change: SessionChange) -> dict[tuple[str, str], str]:
    gone = {(name, key) for name, keys in change.unset_entries.items() for key in keys}
    new: dict[tuple[str, str], str] = {
        (name, key): text for name, entries in change.set_entries.items() for key, text in entries.items()
    }
    return {**{at: text for at, text in session.entries.items() if at not in gone}, **new}


def _labels_after(present: list[str], added: tuple[str, ...], removed: tuple[str, ...]) -> list[str]:
    after = [label for label in present if label not in removed]
    return after + [label for label in dict.fromkeys(added) if label not in removed and label not in after]
