"""Changes as `apply_changes` takes them, and what its answers mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from perdure.backends.sql.postgres.connections import Connection
from perdure.backends.sql.postgres.meanings import NAME
from perdure.backends.sql.postgres.records import as_json, ids_of
from perdure.backends.sql.postgres.statements import Statements
from perdure.backends.sql.rows import read_counters
from perdure.changes import Applied, SessionChange, check, entry_bytes, recall
from perdure.errors import BackendError, CorruptDataError, PerdureError, SessionNotFoundError
from perdure.models.times import to_micros

__all__ = ["apply_all"]

Change = tuple[UUID, SessionChange]


async def apply_all(connection: Connection, sql: Statements, changes: Sequence[Change]) -> list[Applied | PerdureError]:
    """What becomes of each change, all in one transaction; no two may be of one session.

    One round trip; a single change that is refused takes a second one.

    Raises: driver errors; then none of them was applied.
    """
    if len(changes) == 1 and _only_appends(changes[0][1]):
        applied = await _append(connection, sql, *changes[0])
        if applied is not None:
            return [applied]
    places = sorted(range(len(changes)), key=lambda place: changes[place][0])  # the order in which all take locks
    records: list[dict[str, Any]] = []
    bodies: list[str] = []
    for place in places:
        session_id, change = changes[place]
        records.append(_record(place, session_id, change, first=len(bodies)))
        bodies += [query.body for query in change.queries]
    rows = await connection.fetch(
        sql.apply_changes,
        ids_of([changes[place][0] for place in places]),
        as_json(records),
        bodies,
        any("touched" in record for record in records),
        any("archive" in record for record in records),
    )
    outcomes: dict[int, Applied | PerdureError] = {}
    for row in rows:
        session_id, change = changes[row[0]]
        outcomes[row[0]] = Applied(row[6], row[7]) if row[1] is None else _answer(session_id, change, row)
    return [outcomes[place] for place in range(len(changes))]


def _only_appends(change: SessionChange) -> bool:
    """Whether it has one query and nothing else, and is no repeat: what tracking sends."""
    entries = change.set_entries or change.unset_entries
    return len(change.queries) == 1 and not entries and not change.is_repeat and not _moves(change)


async def _append(connection: Connection, sql: Statements, session_id: UUID, change: SessionChange) -> Applied | None:
    """What became of a change that only appends; None where it is not plainly applicable."""
    query = change.queries[0]
    row = await connection.fetchrow(
        sql.append_query,
        session_id,
        change.writer.bytes,
        change.change_id.to_bytes(8),
        change.head,
        to_micros(change.at),
        change.if_version,
        change.owner,
        change.max_queries,
        int(query.cache_hit),
        to_micros(query.timestamp),
        query.size_bytes,
        query.body,
    )
    return None if row is None else Applied(row[0], row[1])


def _record(place: int, session_id: UUID, change: SessionChange, *, first: int) -> dict[str, Any]:
    """The change, as far as it says something; what is left out is NULL there."""
    record: dict[str, Any] = {
        "place": place,
        "id": session_id,
        "writer": change.writer,
        "number": change.change_id,
        "head": change.head,
        "at": to_micros(change.at),
        "first": first,
        "queries": len(change.queries),
        "cache_hits": 0,
        "history_bytes": 0,
    }
    if change.is_repeat:
        record["again"] = True
    if change.if_version is not None:
        record["if_version"] = change.if_version
    if change.owner is not None:
        record["owner"] = change.owner
    if change.max_queries is not None:
        record["max_queries"] = change.max_queries
    if change.max_state_bytes is not None:
        record["max_state_bytes"] = change.max_state_bytes
    if change.queries:
        record["cache_hits"] = sum(query.cache_hit for query in change.queries)
        record["history_bytes"] = sum(query.size_bytes for query in change.queries)
        instants = [query.timestamp for query in change.queries]
        record["first_at"] = to_micros(min(instants))
        record["last_at"] = to_micros(max(instants))
    if change.set_entries or change.unset_entries:
        record |= _entries(change)
    if _moves(change):
        record |= _moved(change)
    return record


def _entries(change: SessionChange) -> dict[str, Any]:
    sets = [(section, key, text) for section, entries in change.set_entries.items() for key, text in entries.items()]
    names = dict.fromkeys((section, key) for section, key, _ in sets)
    unset = dict.fromkeys((section, key) for section, keys in change.unset_entries.items() for key in keys)
    return {
        "touched": [*names, *(name for name in unset if name not in names)],
        "sets": any(change.set_entries.values()),
        "set_bytes": sum(entry_bytes(key, text) for _, key, text in sets),
        "set_entries": sets,
        "unset_entries": [name for name in unset if name not in names],
    }


def _moves(change: SessionChange) -> bool:
    """Whether the change may touch what sessions are found by: labels, expiry, archived or not."""
    labels = change.add_assets or change.remove_assets or change.add_tags or change.remove_tags
    return bool(labels) or change.expires_at is not None or change.archive


def _moved(change: SessionChange) -> dict[str, Any]:
    record: dict[str, Any] = {"archive": change.archive}
    if change.expires_at is not None:
        record["expires_at"] = to_micros(change.expires_at)
    for name in ("add_assets", "remove_assets", "add_tags", "remove_tags"):
        if names := getattr(change, name):
            record[name] = names
    return record


def _answer(session_id: UUID, change: SessionChange, row: Sequence[Any]) -> Applied | PerdureError:
    """Why a change was not applied, told by the functions that all backends share, of what the server looked at."""
    if row[6] is None:
        return SessionNotFoundError(session_id)
    try:
        session = read_counters(session_id, row[2:14])
    except (ValueError, TypeError, OverflowError) as error:
        return CorruptDataError(NAME, f"the row of session {session_id} cannot be read: {error}")
    try:
        before = recall(session, change)
        if before is not None:
            return before
        check(session, change, freed_bytes=row[1])
    except PerdureError as refusal:
        return refusal
    return BackendError(NAME, f"a change of session {session_id} was refused although nothing speaks against it")
