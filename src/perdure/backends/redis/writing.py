"""Writing: one script for each promise, and what its answers mean."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from perdure.backends.redis.codec import Stored, field_of, instant_of, names_text, score_of, stored_form, written
from perdure.backends.redis.keys import Layout
from perdure.backends.redis.meanings import NAME
from perdure.backends.redis.scripting import script
from perdure.backends.redis.sending import Call, Wire, Word
from perdure.changes import Applied, SessionChange
from perdure.errors import (
    BackendUnavailableError,
    CorruptDataError,
    InvalidInputError,
    OutcomeUnknownError,
    PerdureError,
    QueryLimitExceededError,
    SessionArchivedError,
    SessionExistsError,
    SessionExpiredError,
    SessionNotFoundError,
    StateLimitExceededError,
    VersionConflictError,
)
from perdure.models import StoredSession

__all__ = ["UNSTORABLE", "Writing", "damaged", "store_call"]

UNSTORABLE = (ValueError, TypeError, AttributeError, OverflowError)
"""What encoding a session raises where something in it is not of its type."""


class Writing:
    """`create`, `apply`, `delete`, `evict`, `ticket`, `start_sweep`."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        self._wire = wire
        self._layout = layout

    async def create(self, session: StoredSession) -> None:
        """See `SessionBackend.create`."""
        self._wire.require_open()
        try:
            form = stored_form(session)
        except UNSTORABLE as error:
            raise InvalidInputError(f"session {session.id} cannot be kept: {error}") from error
        call = store_call(self._layout, session.id, form, purpose="create")
        outcome, *facts = await self._wire.send(call)
        if outcome == b"stored":
            return
        if call.attempt > 1 and facts and facts[0].isdigit() and int(facts[0]) > session.version:
            raise BackendUnavailableError(NAME, f"whether this call created session {session.id} is not known")
        raise SessionExistsError(session.id)

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        """See `SessionBackend.apply`."""
        reply = await self._wire.send(_ChangeCall(self._layout, session_id, change))
        if type(reply[0]) is int:
            return Applied(reply[0], reply[1])
        raise _refusal(session_id, change, *reply)

    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        """See `SessionBackend.delete`."""
        arguments = (session_id.bytes, _owner(owner), score_of(forget_at))
        return await self._about(session_id, "delete", arguments) == 1

    async def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        """See `SessionBackend.evict`."""
        return await self._about(session_id, "evict", (session_id.bytes, version, head)) == 1

    async def ticket(self, session_id: UUID, *, now: datetime) -> str:
        """See `SessionBackend.ticket`."""
        bucket = self._layout.bucket_of(session_id)
        arguments: tuple[Word, ...] = (session_id.bytes, uuid7().hex, score_of(now))
        call = Call(script("ticket"), bucket, self._layout.tickets(bucket), arguments)
        return (await self._wire.send(call)).decode()  # type: ignore[no-any-return]

    async def start_sweep(self, *, now: datetime, interval: timedelta) -> bool:
        """See `SessionBackend.start_sweep`."""
        ago = written(now - interval) if interval else ""
        call = Call(script("sweep"), 0, (self._layout.sweep,), (written(now), ago, uuid7().hex), writes=True)
        return await self._wire.send(call) == 1  # type: ignore[no-any-return]

    async def _about(self, session_id: UUID, name: str, arguments: Iterable[Word]) -> int:
        bucket, (key, _) = self._layout.place(session_id)
        call = Call(script(name), bucket, (key,), arguments, writes=True)
        reply: int = await self._wire.send(call)
        return reply


def store_call(
    layout: Layout,
    session_id: UUID,
    form: Stored,
    *,
    purpose: str,
    ticket: str = "",
    over: tuple[int, str] | None = None,
) -> Call:
    """Keep a whole session where nothing is, or in place of the copy that has version and head of `over`."""
    version, head = ("", "") if over is None else over
    arguments: list[Word] = [
        session_id.bytes,
        purpose,
        ticket,
        version,
        head,
        form.version,
        form.head,
        "1" if form.is_archived else "",
        form.facts,
        form.labels,
        form.writers,
        len(form.entries),
        *form.entries,
        *form.bodies,
    ]
    bucket, keys = layout.place(session_id)
    return Call(script("store"), bucket, keys, arguments, writes=True)


class _ChangeCall(Call):
    """A change on its way. Its next attempt is the change repeated."""

    __slots__ = ("change",)

    def __init__(self, layout: Layout, session_id: UUID, change: SessionChange) -> None:
        bucket, keys = layout.place(session_id)
        super().__init__(script("apply"), bucket, keys, _change_arguments(session_id, change), writes=True)
        self.change = change
        self.arguments[0] = change.attempt + change.resends

    def repeat(self) -> None:
        """See `Call.repeat`."""
        self.attempt += 1
        self.change = self.change.resent()
        self.arguments[0] = self.change.attempt + self.change.resends
        self.arguments[3] = _head_tail(self.change)


def _change_arguments(session_id: UUID, change: SessionChange) -> list[Word]:
    """What `scripts/apply.lua` takes, after the attempt."""
    queries = change.queries
    first = last = ""
    if queries:
        times = [query.timestamp for query in queries]
        first = last = written(times[0])
        if len(times) > 1:
            first, last = written(min(times)), written(max(times))
    sets, unsets = _entries(change) if change.set_entries or change.unset_entries else ({}, ())
    arguments: list[Word] = [
        change.writer.hex,
        change.change_id,
        _head_tail(change),
        written(change.at),
        _or_none(change.if_version),
        _owner(change.owner),
        _or_none(change.max_queries),
        _or_none(change.max_state_bytes),
        "" if change.expires_at is None else written(change.expires_at),
        sum([query.cache_hit for query in queries]),
        first,
        last,
        len(queries),
        len(sets),
        len(unsets),
        *[query.body for query in queries],
    ]
    for field, text in sets.items():
        arguments += (field, text)
    arguments += unsets
    labels = (change.add_assets, change.remove_assets, change.add_tags, change.remove_tags)
    if change.archive or change.expires_at is not None or any(labels):
        arguments += (session_id.bytes, "1" if change.archive else "", *map(names_text, labels))
    return arguments


def _entries(change: SessionChange) -> tuple[dict[bytes, str], Collection[bytes]]:
    """The fields that are set, and those that are unset and not set."""
    sets = {
        field_of(section, key): text for section, entries in change.set_entries.items() for key, text in entries.items()
    }
    unsets = dict.fromkeys(
        field
        for section, keys in change.unset_entries.items()
        for field in (field_of(section, key) for key in keys)
        if field not in sets
    )
    return sets, unsets


def _head_tail(change: SessionChange) -> str:
    """What follows writer and change id in the head; the script puts it together again."""
    return "" if not change.is_repeat else change.head.removeprefix(f"{change.writer.hex}.{change.change_id}")


def _or_none(number: int | None) -> Word:
    return "" if number is None else number


def _owner(owner: str | None) -> str:
    return "" if owner is None else f"={owner}"


def _refusal(session_id: UUID, change: SessionChange, why: bytes, fact: bytes = b"") -> PerdureError:
    """The error for what the script says stands in the way."""
    match why:
        case b"gone":
            return SessionNotFoundError(session_id)
        case b"unknown":
            return OutcomeUnknownError(session_id)
        case b"archived":
            return SessionArchivedError(session_id, archived_at=instant_of(fact))
        case b"expired":
            return SessionExpiredError(session_id, expired_at=instant_of(fact))
        case b"version":
            return VersionConflictError(session_id, expected=change.if_version or 0, found=int(fact))
        case b"queries":
            limit, adding = change.max_queries or 0, len(change.queries)
            return QueryLimitExceededError(session_id, limit=limit, count=int(fact), adding=adding)
        case b"state":
            return StateLimitExceededError(session_id, limit_bytes=change.max_state_bytes or 0, size_bytes=int(fact))
        case _:
            return damaged(session_id, fact.decode())


def damaged(session_id: UUID, why: object) -> CorruptDataError:
    """The error for a session that cannot be read."""
    return CorruptDataError(NAME, f"session {session_id} cannot be read: {why}; run `perdure db verify`")
