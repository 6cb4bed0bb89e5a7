"""Statistics in SQLite: of what is archived from the roll-up and what changed since, of the rest from its queries."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, TableValuedAlias, bindparam, func

from perdure.backends.cursors import SortKey, read_cursor
from perdure.backends.measuring import measures_of, metrics_page
from perdure.backends.sql.periods import FOREVER
from perdure.backends.sql.reading import fetched, find_in, read_bodies, snapshot
from perdure.backends.sql.rows import read_metrics
from perdure.backends.sql.statements import SQL, text_of
from perdure.backends.sql.summing import Summing, sums_of, user_sums, without_these
from perdure.backends.sql.tables import metadata
from perdure.logs import EventLog
from perdure.models import Measured, Measures, Page, SessionMetrics, SessionSummary, StatsFilter
from perdure.models.measures import counts_of
from perdure.models.times import EPOCH, to_micros

__all__ = ["measure_in", "metrics_in"]

log = EventLog("perdure.sqlite")

_BATCH = 1_000
_IDS_AT_ONCE = 500


def measure_in(
    connection: sqlite3.Connection, *, wanted: StatsFilter, now: datetime, without: Collection[UUID], with_ids: bool
) -> Measures:
    """See `SessionBackend.measure`."""
    left_out = frozenset(without)
    with snapshot(connection):
        active = (each for each in _active(connection, wanted, now) if each.facts.id not in left_out)
        named = frozenset(each.id for each in _kept(connection, wanted)) - left_out if with_ids else frozenset[UUID]()
        return measures_of(active) + Measures(_archived(connection, wanted, left_out), named)


def _active(
    connection: sqlite3.Connection, wanted: StatsFilter, now: datetime, *, below: SortKey | None = None
) -> Iterator[Measured]:
    """What is not archived, newest first, from below a sort key on."""
    for summary in _kept(connection, wanted, archived=False, below=below):
        yield Measured(summary, counts_of(summary, read_bodies(connection, summary.id), now=now))


def _kept(
    connection: sqlite3.Connection,
    wanted: StatsFilter,
    *,
    archived: bool | None = None,
    below: SortKey | None = None,
) -> Iterator[SessionSummary]:
    """What has not been removed, newest first, from below a sort key on."""
    sessions = wanted.sessions(archived=archived)
    while True:
        page = find_in(connection, sessions, below, _BATCH)
        yield from page
        if page.next_cursor is None:
            return
        below = read_cursor(page.next_cursor)


def _archived(connection: sqlite3.Connection, wanted: StatsFilter, left_out: frozenset[UUID]) -> dict[str, int]:
    """What archived and purged sessions count."""
    summing = Summing(wanted)
    kinds = {"typed": summing.typed, "owned": summing.owned}
    rows = [fetched(connection, each, summing.parameters) for each in _sums(**kinds, edges=summing.edges)]
    ids = [known.bytes for known in left_out]
    for start in range(0, len(ids), _IDS_AT_ONCE):
        some = ids[start : start + _IDS_AT_ONCE]
        some += some[-1:] * (_IDS_AT_ONCE - len(some))  # one statement for any number
        numbered = {f"id_{number}": known for number, known in enumerate(some)}
        rows.append(fetched(connection, _without(**kinds), {**summing.parameters, **numbered}))
    return summing.total(*rows)


def _each(counts: ColumnElement[Any]) -> TableValuedAlias:
    return func.json_each(counts).table_valued("key", "value", name="each")


@lru_cache(maxsize=32)
def _sums(*, typed: bool, owned: bool, edges: int) -> list[str]:
    sums = text_of(sums_of(metadata.tables, _each, typed=typed, owned=owned, edges=edges))
    return [sums] if owned else [sums, text_of(user_sums(metadata.tables, typed=typed))]


@lru_cache(maxsize=8)
def _without(*, typed: bool, owned: bool) -> str:
    def among(session_id: Any) -> ColumnElement[bool]:
        found: ColumnElement[bool] = session_id.in_([bindparam(f"id_{number}") for number in range(_IDS_AT_ONCE)])
        return found

    return text_of(without_these(metadata.tables, _each, among, typed=typed, owned=owned))


def metrics_in(
    connection: sqlite3.Connection, *, wanted: StatsFilter, cursor: str | None, limit: int
) -> Page[SessionMetrics]:
    """See `SessionBackend.metrics`: as many of the active and of the archived as the page may have, side by side."""
    below = read_cursor(cursor)
    with snapshot(connection):
        active = list(islice(_active(connection, wanted, EPOCH, below=below), limit + 1))
        archived = _archived_page(connection, wanted, below, limit + 1)
    return metrics_page([*active, *archived], cursor=cursor, limit=limit)


def _archived_page(
    connection: sqlite3.Connection, wanted: StatsFilter, below: SortKey | None, limit: int
) -> list[Measured]:
    """The newest archived and purged ones below a sort key; one that cannot be read is left out, and logged."""
    below_at, below_id = (FOREVER, b"\xff" * 17) if below is None else (to_micros(below[0]), below[1].bytes)
    found = list[Measured]()
    while True:
        keys = {"below_at": below_at, "below_id": below_id, "limit": limit}
        rows = fetched(connection, SQL.select_metrics, {**Summing(wanted).parameters, **keys})
        for row in rows:
            try:
                found.append(read_metrics(row))
            except (ValueError, TypeError, OverflowError) as error:
                log.warning("session.unmeasured", session_id=row[0].hex(), error=str(error))
        if len(rows) < limit or len(found) >= limit:
            return found[:limit]
        below_at, below_id = rows[-1][5], rows[-1][0]
