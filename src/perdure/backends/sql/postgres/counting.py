"""Counting in Postgres, without loading sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnClause,
    Float,
    Select,
    Subquery,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    column,
    exists,
    func,
    literal_column,
    select,
    text,
)

from perdure.backends.labels import wanted_labels
from perdure.backends.sql.postgres.connections import Connection
from perdure.backends.sql.postgres.records import ids_of
from perdure.backends.sql.postgres.statements import Statement, quoted, tables_in
from perdure.backends.totals import ranked
from perdure.models import SessionFilter, SessionTotals
from perdure.models.query import UNREADABLE
from perdure.models.times import to_micros

__all__ = ["WHOLE_TABLES", "totals_in"]

WHOLE_TABLES = """
SET LOCAL enable_seqscan TO on;
SET LOCAL plan_cache_mode TO force_custom_plan
"""
"""Counting is the one thing here that may have to read all there is."""


async def totals_in(
    connection: Connection, schema: str, *, wanted: SessionFilter, without: Collection[UUID]
) -> SessionTotals:
    """See `SessionBackend.aggregate`; all numbers are of one instant."""
    labels = wanted_labels(wanted)
    values: dict[str, Any] = {f"label_{number}": label for number, label in enumerate(labels)}
    if wanted.created_after is not None:
        values["created_after"] = to_micros(wanted.created_after)
    if wanted.created_before is not None:
        values["created_before"] = to_micros(wanted.created_before)
    if without:
        values["without"] = ids_of(list(without))
    counting = _counting(schema, tuple(sorted(values)), wanted.archived)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(WHOLE_TABLES)
        rows = [await connection.fetch(each.text, *each.arguments(**values)) for each in counting]
    sessions, queries, assets, tags = rows
    return SessionTotals(
        sessions=sum(row[1] for row in sessions),
        archived_sessions=sum(row[2] for row in sessions),
        total_queries=sum(row[3] for row in sessions),
        cache_hits=sum(row[4] for row in sessions),
        longest_session=max((row[5] for row in sessions), default=0),
        errors=sum(row[2] for row in queries),
        timed_queries=sum(row[3] for row in queries),
        execution_time_ms=sum(row[4] for row in queries),
        assets=ranked(dict(assets)),
        tags=ranked(dict(tags)),
        session_types=ranked(Counter({row[0]: row[1] for row in sessions})),
        query_types=ranked({row[0]: row[1] for row in queries}),
    )


class _Counting(NamedTuple):
    sessions: Statement
    queries: Statement
    assets: Statement
    tags: Statement


@lru_cache(maxsize=128)
def _counting(schema: str, names: tuple[str, ...], archived: bool | None) -> _Counting:
    """The statements for a filter whose parameters have these names."""
    tables = {table.name: table for table in tables_in(schema).sorted_tables}
    matching = _matching(tables["session_labels"], names, archived)
    sessions = tables["sessions"].alias("s")
    theirs = matching.join(sessions, sessions.c.id == matching.c.session_id)
    s = sessions.c
    by_type = select(
        s.type,
        func.count(),
        func.count(s.archived_at),
        cast(func.sum(s.total_queries), BigInteger),
        cast(func.sum(s.cache_hits), BigInteger),
        func.max(s.total_queries),
    )
    return _Counting(
        Statement.of(by_type.select_from(theirs).group_by(s.type)),
        Statement.of(_by_query_type(schema, matching, tables["session_queries"].alias("q"))),
        Statement.of(_by_name(theirs, s.assets)),
        Statement.of(_by_name(theirs, s.tags)),
    )


def _matching(labels: Any, names: tuple[str, ...], archived: bool | None) -> Subquery:
    """Ids of the sessions that have all labels `:label_0` …"""
    first = labels.alias("l0")
    found = select(first.c.session_id).where(first.c.label == bindparam("label_0", type_=Text))
    if archived is not None:
        found = found.where(first.c.archived == literal_column(str(int(archived))))
    if "created_after" in names:
        found = found.where(first.c.created_at >= bindparam("created_after", type_=BigInteger))
    if "created_before" in names:
        found = found.where(first.c.created_at < bindparam("created_before", type_=BigInteger))
    for name in (name for name in names if name.startswith("label_") and name != "label_0"):
        other = labels.alias(f"l{name.removeprefix('label_')}")
        same = [other.c[column] == first.c[column] for column in ("archived", "created_at", "session_id")]
        found = found.where(exists().where(other.c.label == bindparam(name, type_=Text), *same))
    if "without" in names:
        ids = func.unnest(bindparam("without", type_=ARRAY(Text))).table_valued("id").render_derived(name="w")
        found = found.where(~exists().where(cast(ids.c.id, Uuid) == first.c.session_id))
    return found.subquery("matching")


def _by_query_type(schema: str, matching: Subquery, queries: Any) -> Select[Any]:
    """Queries, errors among them, those that say how long they took, and how long, by type."""
    # Once for each query: the offset keeps the look into the text from being done for each use of it.
    facts: ColumnClause[Any] = literal_column(f"{quoted(schema)}.query_facts(q.body)")
    looked = (
        select(facts.label("facts"))
        .select_from(matching.join(queries, queries.c.session_id == matching.c.session_id))
        .offset(literal_column("0"))
        .subquery("looked")
    )
    error, kind = text("looked.facts ->> 'error'"), text("looked.facts ->> 'query_type'")
    unreadable = text("looked.facts IS NULL")
    took = cast(
        case(
            (
                text("json_typeof(looked.facts -> 'execution_time_ms') = 'number'"),
                text("looked.facts ->> 'execution_time_ms'"),
            )
        ),
        Float(53),
    )
    named = func.coalesce(kind, text(f"'{UNREADABLE}'"))
    wrong = func.count(case((unreadable, text("'unreadable'")), else_=error))
    return (
        select(
            named, func.count(), wrong, func.count(took), func.coalesce(func.sum(took), literal_column("0.0::float8"))
        )
        .select_from(looked)
        .group_by(text("1"))
    )


def _by_name(theirs: Any, names: Column[Any]) -> Select[Any]:
    """Sessions by the names in a list of theirs."""
    readable = case((func.jsonb_typeof(names) == text("'array'"), names), else_=text("'[]'::jsonb"))
    each = func.jsonb_array_elements_text(readable).table_valued(column("name"), name="each").lateral()
    named = select(each.c.name, func.count()).select_from(theirs.join(each, each.c.name.is_not(None)))
    return named.group_by(each.c.name)
