"""Counting in SQLite, without loading sessions."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import ClauseElement, Select, Subquery, Text, bindparam, case, cast, column, func, literal, select, text

from perdure.backends.labels import wanted_labels
from perdure.backends.protocol import DUE_COUNTED
from perdure.backends.sql.reading import fetched, snapshot
from perdure.backends.sql.statements import SQL, text_of
from perdure.backends.sql.tables import session_labels, session_queries, sessions
from perdure.backends.sql.writing import SWEEP
from perdure.backends.totals import ranked
from perdure.models import SessionFilter, SessionTotals
from perdure.models.query import UNREADABLE
from perdure.models.times import from_micros, to_micros

__all__ = ["HealthFacts", "health_of", "totals_in"]


class HealthFacts(NamedTuple):
    """What a health check asks the database."""

    last_swept_at: datetime | None
    due: int
    due_since: datetime | None
    details: dict[str, Any]


def health_of(connection: sqlite3.Connection, *, now: datetime) -> HealthFacts:
    """The facts of `BackendHealth`, at a cost that does not depend on how many sessions there are."""
    swept = connection.execute(SQL.select_sweep, {"name": SWEEP}).fetchone()
    due, since = connection.execute(SQL.count_due, {"now": to_micros(now), "most": DUE_COUNTED}).fetchone()
    pages, page_bytes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    details = {
        "sqlite_version": sqlite3.sqlite_version,
        "journal_mode": connection.execute("PRAGMA journal_mode").fetchone()[0],
        "size_bytes": pages * page_bytes,
    }
    return HealthFacts(
        last_swept_at=None if swept is None else from_micros(swept[0]),
        due=due,
        due_since=None if since is None else from_micros(since),
        details=details,
    )


def totals_in(connection: sqlite3.Connection, *, wanted: SessionFilter, without: Collection[UUID]) -> SessionTotals:
    """See `SessionBackend.aggregate`; all numbers are of one instant."""
    labels = wanted_labels(wanted)
    matching = _matching(wanted, len(labels))
    parameters: dict[str, Any] = {f"label_{number}": label for number, label in enumerate(labels)}
    parameters["without"] = to_json([known.hex.upper() for known in without]).decode()
    if wanted.created_after is not None:
        parameters["created_after"] = to_micros(wanted.created_after)
    if wanted.created_before is not None:
        parameters["created_before"] = to_micros(wanted.created_before)

    def run(statement: ClauseElement) -> list[Any]:
        return fetched(connection, text_of(statement), parameters)

    with snapshot(connection):
        (numbers,) = run(_session_numbers(matching))
        (query_numbers,) = run(_query_numbers(matching))
        return SessionTotals(
            sessions=numbers[0],
            archived_sessions=numbers[1],
            total_queries=numbers[2],
            cache_hits=numbers[3],
            longest_session=numbers[4],
            errors=query_numbers[0],
            timed_queries=query_numbers[1],
            execution_time_ms=query_numbers[2],
            assets=ranked(dict(run(_labels(matching, "asset:")))),
            tags=ranked(dict(run(_labels(matching, "tag:")))),
            session_types=ranked(dict(run(_labels(matching, "type:")))),
            query_types=ranked(dict(run(_query_types(matching)))),
        )


def _matching(wanted: SessionFilter, labels: int) -> Subquery:
    """Ids of the sessions that have all labels `:label_0` …"""
    first = session_labels.alias("first")
    found = select(first.c.session_id).where(first.c.label == bindparam("label_0"))
    if wanted.archived is not None:
        found = found.where(first.c.archived == literal(int(wanted.archived)))
    if wanted.created_after is not None:
        found = found.where(first.c.created_at >= bindparam("created_after"))
    if wanted.created_before is not None:
        found = found.where(first.c.created_at < bindparam("created_before"))
    excluded = func.json_each(bindparam("without")).table_valued(column("value"), name="excluded")
    found = found.where(func.hex(first.c.session_id).not_in(select(excluded.c.value)))
    for number in range(1, labels):
        other = session_labels.alias(f"other_{number}")
        found = found.join(
            other,
            (other.c.label == bindparam(f"label_{number}"))
            & (other.c.archived == first.c.archived)
            & (other.c.created_at == first.c.created_at)
            & (other.c.session_id == first.c.session_id),
        )
    return found.subquery("matching")


def _session_numbers(matching: Subquery) -> Select[Any]:
    s = sessions.c
    return select(
        func.count(),
        func.count(s.archived_at),
        func.coalesce(func.sum(s.total_queries), 0),
        func.coalesce(func.sum(s.cache_hits), 0),
        func.coalesce(func.max(s.total_queries), 0),
    ).select_from(matching.join(sessions, s.id == matching.c.session_id))


def _fact(path: str) -> Any:
    """A field of a query's text; nothing where the text cannot be read."""
    body = session_queries.c.body
    return case((func.json_valid(body) == text("1"), func.json_extract(body, text(f"'$.{path}'"))))


def _query_numbers(matching: Subquery) -> Select[int, int, Any]:
    readable = func.json_valid(session_queries.c.body)
    return select(
        func.count(case((readable == text("0"), text("1")), else_=_fact("error"))),
        func.count(_fact("execution_time_ms")),
        func.total(_fact("execution_time_ms")),
    ).select_from(_their_queries(matching))


def _query_types(matching: Subquery) -> Select[str, int]:
    kind = func.coalesce(cast(_fact("query_type"), Text), text(f"'{UNREADABLE}'"))
    return select(kind, func.count()).select_from(_their_queries(matching)).group_by(text("1"))


def _their_queries(matching: Subquery) -> Any:
    return matching.join(session_queries, session_queries.c.session_id == matching.c.session_id)


def _labels(matching: Subquery, kind: str) -> Select[str, int]:
    """Sessions by label of one kind, without the kind's prefix."""
    source = {"asset:": sessions.c.assets, "tag:": sessions.c.tags}.get(kind)
    sessions_there = matching.join(sessions, sessions.c.id == matching.c.session_id)
    if source is None:
        return select(sessions.c.type, func.count()).select_from(sessions_there).group_by(sessions.c.type)
    readable = case((func.json_valid(source) == text("1"), source), else_=text("'[]'"))
    each = func.json_each(readable).table_valued(column("value"), name="each")
    name = cast(each.c.value, Text)
    named = select(name, func.count()).select_from(sessions_there.join(each, each.c.value.is_not(None)))
    return named.group_by(name)
