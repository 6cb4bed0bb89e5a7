"""Statistics in Postgres: of what is archived from the roll-up and what changed since, of the rest from its queries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from pydantic_core import from_json
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    Table,
    TableValuedAlias,
    Text,
    Uuid,
    any_,
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    select,
    tuple_,
)

from perdure.backends.cursors import SortKey, read_cursor
from perdure.backends.measuring import metrics_page
from perdure.backends.sql.periods import FOREVER
from perdure.backends.sql.postgres.connections import Connection
from perdure.backends.sql.postgres.counting import WHOLE_TABLES
from perdure.backends.sql.postgres.reading import HIGHEST_ID, find_in
from perdure.backends.sql.postgres.records import as_json, ids_of
from perdure.backends.sql.postgres.statements import Statement, Statements, quoted, tables_in
from perdure.backends.sql.rows import metrics_row, read_metrics
from perdure.backends.sql.summing import Summing, sums_of, user_sums, without_these
from perdure.logs import EventLog
from perdure.models import Measured, Measures, Page, SessionMetrics, StatsFilter
from perdure.models.times import to_micros

__all__ = ["measure_in", "metrics_in", "record_in", "roll_up_in"]

log = EventLog("perdure.postgres")

AT_ONCE = 5_000
"""Changes that are gathered in one transaction."""


async def measure_in(
    connection: Connection,
    schema: str,
    *,
    wanted: StatsFilter,
    now: datetime,
    without: Collection[UUID],
    with_ids: bool,
) -> Measures:
    """See `SessionBackend.measure`; all numbers are of one instant."""
    summing = Summing(wanted)
    kept, *others = _measuring(schema, summing.typed, summing.owned, summing.edges, bool(without))
    values = {**summing.parameters, "now": to_micros(now), "without": ids_of(list(without))}
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(WHOLE_TABLES)
        ids = await connection.fetch(kept.text, *kept.arguments(**values)) if with_ids else []
        active, *archived = [await connection.fetch(each.text, *each.arguments(**values)) for each in others]
    named = frozenset(UUID(bytes=session_id.bytes) for (session_id,) in ids)
    return Measures(dict(active), named) + Measures(summing.total(*archived))


@lru_cache(maxsize=128)
def _measuring(schema: str, typed: bool, owned: bool, edges: int, without: bool) -> list[Statement]:
    """What is to be asked: which sessions are kept, what active ones count, then the parts of what the others do."""
    tables = {table.name: table for table in tables_in(schema).sorted_tables}
    kinds = {"typed": typed, "owned": owned}
    kept, active = (_ids_of(tables, typed=typed, without=without, archived=which) for which in ((0, 1), (0,)))
    statements: list[Any] = [kept, _active_sums(active, schema)]
    statements.append(sums_of(tables, _each, **kinds, edges=edges))
    if not owned:
        statements.append(user_sums(tables, typed=typed))
    if without:
        statements.append(without_these(tables, _each, _is_left_out, **kinds))
    return list(map(Statement.of, statements))


def _each(counts: ColumnElement[Any]) -> TableValuedAlias:
    return func.jsonb_each_text(counts).table_valued("key", "value", name="each")


def _is_left_out(session_id: Any) -> ColumnElement[bool]:
    found: ColumnElement[bool] = session_id == any_(_ids("without"))
    return found


def _ids(name: str) -> Any:
    return cast(bindparam(name, type_=ARRAY(Text)), ARRAY(Uuid))


def _ids_of(tables: dict[str, Table], *, typed: bool, without: bool, archived: Sequence[int]) -> Select[UUID]:
    """The sessions with `:label`, active ones (0), archived ones (1), or both."""
    labels, sessions = tables["session_labels"].alias("l"), tables["sessions"].alias("s")
    ids = select(labels.c.session_id).where(
        labels.c.label == bindparam("label", type_=Text),
        labels.c.archived.in_([literal_column(str(each), BigInteger) for each in archived]),
        labels.c.created_at >= bindparam("since", type_=BigInteger),
        labels.c.created_at < bindparam("until", type_=BigInteger),
    )
    if typed:
        theirs = (sessions.c.id == labels.c.session_id) & (sessions.c.type == bindparam("type", type_=Text))
        ids = ids.where(exists().where(theirs))
    if without:
        left_out = func.unnest(bindparam("without", type_=ARRAY(Text))).table_valued("id", name="w").render_derived()
        ids = ids.where(~exists().where(cast(left_out.c.id, Uuid) == labels.c.session_id))
    return ids


def _active_sums(active: Select[UUID], schema: str) -> Select[str, int]:
    """Rows of key and sum: what those sessions count."""
    measured = getattr(func, schema).measured(func.array(active.scalar_subquery()), bindparam("now", type_=BigInteger))
    counted = measured.table_valued("session_id", "key", "number", name="m")
    return select(counted.c.key, cast(func.sum(counted.c.number), BigInteger)).group_by(counted.c.key)


async def metrics_in(
    connection: Connection, schema: str, sql: Statements, *, wanted: StatsFilter, cursor: str | None, limit: int
) -> Page[SessionMetrics]:
    """See `SessionBackend.metrics`: as many of the active and of the archived as the page may have, side by side."""
    below = read_cursor(cursor)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        active = await _active_page(connection, schema, sql, wanted, below, limit + 1)
        archived = await _archived_page(connection, schema, wanted, below, limit + 1)
    return metrics_page([*active, *archived], cursor=cursor, limit=limit)


async def _active_page(
    connection: Connection, schema: str, sql: Statements, wanted: StatsFilter, below: SortKey | None, limit: int
) -> list[Measured]:
    sessions = wanted.sessions(archived=False)
    found: list[Any] = []
    while True:
        page = await find_in(connection, sql, sessions, below, limit - len(found))
        found += page.items
        if page.next_cursor is None or len(found) == limit:
            break
        below = read_cursor(page.next_cursor)
    statement = f"SELECT session_id, jsonb_object_agg(key, number) FROM {quoted(schema)}.measured($1, 0) GROUP BY 1"
    rows = await connection.fetch(statement.replace("$1", "$1::text[]::uuid[]"), ids_of([each.id for each in found]))
    counts = {UUID(bytes=key.bytes): from_json(text) for key, text in rows}
    return [Measured(summary, counts[summary.id]) for summary in found]


async def _archived_page(
    connection: Connection, schema: str, wanted: StatsFilter, below: SortKey | None, limit: int
) -> list[Measured]:
    """The newest archived and purged ones below a sort key; one that cannot be read is left out, and logged."""
    statement = _metrics_page(schema)
    below_at, below_id = (FOREVER, HIGHEST_ID) if below is None else (to_micros(below[0]), below[1])
    found: list[Measured] = []
    while True:
        keys = {"below_at": below_at, "below_id": below_id, "limit": limit}
        rows = await connection.fetch(statement.text, *statement.arguments(**Summing(wanted).parameters, **keys))
        for row in rows:
            try:
                found.append(read_metrics(row))
            except (ValueError, TypeError, OverflowError) as error:
                log.warning("session.unmeasured", session_id=str(row[0]), error=str(error))
        if len(rows) < limit or len(found) >= limit:
            return found[:limit]
        below_at, below_id = rows[-1][5], rows[-1][0]


@lru_cache(maxsize=32)
def _metrics_page(schema: str) -> Statement:
    tables = {table.name: table for table in tables_in(schema).sorted_tables}
    metrics, sessions = tables["session_metrics"].alias("m"), tables["sessions"].alias("s")
    kind, user = bindparam("type", type_=Text), bindparam("user", type_=Text)
    below = tuple_(bindparam("below_at", type_=BigInteger), bindparam("below_id", type_=Uuid))
    return Statement.of(
        select(*metrics.c)
        .where(
            tuple_(metrics.c.created_at, metrics.c.session_id) < below,
            metrics.c.created_at >= bindparam("since", type_=BigInteger),
            metrics.c.created_at < bindparam("until", type_=BigInteger),
            kind.is_(None) | (metrics.c.type == kind),
            user.is_(None) | (metrics.c.user_id == user),
            ~exists().where(sessions.c.id == metrics.c.session_id, sessions.c.archived_at.is_(None)),
        )
        .order_by(metrics.c.created_at.desc(), metrics.c.session_id.desc())
        .limit(bindparam("limit", type_=BigInteger))
    )


async def record_in(connection: Connection, schema: str, *, measured: Sequence[Measured]) -> dict[UUID, bool]:
    """Whether each session counts now, by its id; see `SessionBackend.record`."""
    rows = as_json([metrics_row(each) for each in measured])
    found = await connection.fetch(f"SELECT * FROM {quoted(schema)}.record_metrics($1)", rows)
    return {UUID(bytes=key.bytes): counted for key, counted in found}


async def roll_up_in(connection: Connection, schema: str, *, limit: int) -> int:
    """See `SessionBackend.roll_up`; `AT_ONCE` at most."""
    return int(await connection.fetchval(f"SELECT {quoted(schema)}.roll_up($1)", min(limit, AT_ONCE)))
