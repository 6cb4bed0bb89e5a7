"""Between the rows of `sessions` and `StoredSession`, and those of `session_metrics` and `Measured`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json

from perdure.backends.sql.periods import day_of
from perdure.backends.sql.tables import sessions
from perdure.models import Measured, StoredSession
from perdure.models.names import checked_type
from perdure.models.times import EPOCH, from_micros, to_micros

__all__ = [
    "ARCHIVED_AT",
    "COLUMNS",
    "COUNTERS",
    "FACTS",
    "facts_of",
    "metrics_row",
    "read_counters",
    "read_metrics",
    "read_row",
    "row_of",
]

COLUMNS = [column for column in sessions.columns if column.name != "due_at"]
"""What is selected of a session, in the order that `read_row` takes."""


ARCHIVED_AT = [column.name for column in COLUMNS].index("archived_at")
"""Its place there."""


def read_row(row: Sequence[Any]) -> StoredSession:
    """The facts in a row of `COLUMNS`, without sections and queries. The id is 16 bytes, or a
    UUID; lists of names are JSON, or read from it already.

    Raises:
        ValueError, OverflowError: something in it is not what `row_of` can have written.
    """
    first, last = row[13], row[14]
    return StoredSession(
        _id_of(row[0]),
        row[1],
        str(checked_type(row[2])),
        _names(row[3]),
        _names(row[4]),
        from_micros(row[5]),
        from_micros(row[6]),
        from_micros(row[7]),
        None if row[8] is None else from_micros(row[8]),
        row[9],
        row[10],
        row[11],
        row[12],
        None if first is None else from_micros(first),
        None if last is None else from_micros(last),
        row[15],
        row[16],
        row[17],
    )


COUNTERS = [
    sessions.c[name]
    for name in (
        "user_id",
        "expires_at",
        "last_accessed_at",
        "archived_at",
        "version",
        "total_queries",
        "cache_hits",
        "first_query_at",
        "last_query_at",
        "state_bytes",
        "history_bytes",
        "writers",
    )
]
"""What is selected of a session for a change that moves no label."""


def read_counters(session_id: UUID, row: Sequence[Any]) -> StoredSession:
    """What such a change looks at and advances, from a row of `COUNTERS`; the rest is left empty.

    Tracking a query comes by here: what it does not need is not decoded.

    Raises:
        ValueError, OverflowError: as `read_row`.
    """
    archived, first, last = row[3], row[7], row[8]
    return StoredSession(
        id=session_id,
        user_id=row[0],
        type="",
        assets=(),
        tags=(),
        created_at=EPOCH,
        expires_at=from_micros(row[1]),
        last_accessed_at=from_micros(row[2]),
        archived_at=None if archived is None else from_micros(archived),
        version=row[4],
        total_queries=row[5],
        cache_hits=row[6],
        first_query_at=None if first is None else from_micros(first),
        last_query_at=None if last is None else from_micros(last),
        state_bytes=row[9],
        history_bytes=row[10],
        writers=row[11],
        sections={},
    )


def _id_of(key: Any) -> UUID:
    return UUID(bytes=key if isinstance(key, bytes) else key.bytes)


def _names(stored: Any) -> tuple[str, ...]:
    names = from_json(stored) if isinstance(stored, str) else stored
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"not a list of texts: {str(stored)[:80]}")
    return tuple(names)


def row_of(session: StoredSession) -> dict[str, Any]:
    """Every column but `due_at`, by name."""
    archived = session.archived_at
    return {
        "user_id": session.user_id,
        "type": session.type,
        "assets": to_json(session.assets).decode(),
        "tags": to_json(session.tags).decode(),
        "created_at": to_micros(session.created_at),
        "expires_at": to_micros(session.expires_at),
        "archived_at": None if archived is None else to_micros(archived),
        **dict(zip((*FACTS, "id"), facts_of(session), strict=True)),
    }


FACTS = (
    "last_accessed_at",
    "version",
    "head",
    "total_queries",
    "cache_hits",
    "first_query_at",
    "last_query_at",
    "state_bytes",
    "history_bytes",
    "writers",
)
"""Columns that every change may touch; none is indexed, so that a tracked query writes one page of `sessions`."""


def facts_of(session: StoredSession) -> tuple[Any, ...]:
    """The values of `FACTS`, then the id."""
    first, last = session.first_query_at, session.last_query_at
    return (
        to_micros(session.last_accessed_at),
        session.version,
        session.head,
        session.total_queries,
        session.cache_hits,
        None if first is None else to_micros(first),
        None if last is None else to_micros(last),
        session.state_bytes,
        session.history_bytes,
        session.writers,
        session.id.bytes,
    )


def metrics_row(measured: Measured) -> dict[str, Any]:
    """What a row of `session_metrics` says of an archived session, by column; lists and counts as they are."""
    session = measured.facts
    assert session.archived_at is not None
    return {
        "session_id": session.id,
        "user_id": session.user_id,
        "type": session.type,
        "assets": session.assets,
        "tags": session.tags,
        "created_at": to_micros(session.created_at),
        "expires_at": to_micros(session.expires_at),
        "last_accessed_at": to_micros(session.last_accessed_at),
        "archived_at": to_micros(session.archived_at),
        "version": session.version,
        "total_queries": session.total_queries,
        "cache_hits": session.cache_hits,
        "day": day_of(session.created_at),
        "counts": measured.counts,
    }


def read_metrics(row: Sequence[Any]) -> Measured:
    """The inverse: of a row in the order of the table's columns.

    Raises:
        ValueError, TypeError, OverflowError: something in it is not what `metrics_row` can have written.
    """
    facts = StoredSession(
        id=_id_of(row[0]),
        user_id=row[1],
        type=row[2],
        assets=_names(row[3]),
        tags=_names(row[4]),
        created_at=from_micros(row[5]),
        expires_at=from_micros(row[6]),
        last_accessed_at=from_micros(row[7]),
        archived_at=from_micros(row[8]),
        version=row[9],
        total_queries=row[10],
        cache_hits=row[11],
        sections={},
    )
    return Measured(facts, from_json(row[13]))
