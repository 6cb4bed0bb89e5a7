"""The statements that sum what archived sessions count; SQLite and Postgres differ in how they open a JSON object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    CompoundSelect,
    Select,
    Table,
    TableValuedAlias,
    Text,
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    null,
    select,
    union_all,
)

from perdure.backends.labels import wanted_labels
from perdure.backends.sql.periods import FOREVER, Days
from perdure.models import SessionFilter, StatsFilter
from perdure.models.measures import added
from perdure.models.times import to_micros

__all__ = ["EachCount", "Summing", "sums_of", "user_sums", "without_these"]

EachCount = Callable[[ColumnElement[Any]], TableValuedAlias]
"""Makes of the column `counts` a table of columns `key` and `value`."""

_USER = literal_column("'user:'", Text)


class Summing:
    """What a filter asks of the statements below."""

    def __init__(self, wanted: StatsFilter) -> None:
        days = Days.of(wanted)
        months = (days.end, days.end) if wanted.user_id is not None else days.months
        self.typed = wanted.session_type is not None
        self.owned = wanted.user_id is not None
        self.edges = len(days.edges)
        self.parameters: dict[str, Any] = {
            "label": wanted_labels(SessionFilter(user_id=wanted.user_id))[0],
            "user": wanted.user_id,
            "type": wanted.session_type,
            "first": days.first,
            "end": days.end,
            "first_month": months[0],
            "end_month": months[1],
            "since": -FOREVER if wanted.since is None else to_micros(wanted.since),
            "until": FOREVER if wanted.until is None else to_micros(wanted.until),
        }
        for number, (start, stop) in enumerate(days.edges):
            self.parameters |= {f"from_{number}": start, f"to_{number}": stop}

    def total(self, *rows: Any) -> dict[str, int]:
        """The sum of what the statements gave, users counted."""
        sums = added(*map(dict, rows))
        return added(sums, {self.parameters["label"]: sums.get("sessions", 0)}) if self.owned else sums


class _Wanted:
    """The conditions of a filter on tables that have `type` and `user_id`; its parameters are `:type` and `:user`."""

    def __init__(self, *, typed: bool, owned: bool) -> None:
        self.typed = typed
        self.owned = owned

    def of(self, table: Any) -> list[ColumnElement[bool]]:
        conditions = [table.c.type == _param("type", Text)] if self.typed else []
        return conditions + ([table.c.user_id == _param("user", Text)] if self.owned else [])


def sums_of(
    tables: Mapping[str, Table], each: EachCount, *, typed: bool, owned: bool, edges: int
) -> Select[Any] | CompoundSelect[Any]:
    """Rows of key and sum: of the days from `:first` to before `:end`, and of `edges` parts of days.

    Days of whole months, from `:first_month` to before `:end_month`, are taken by the month. Left out is what sessions
    count that are active again. `:label` is that of all, or of the user. Users are not
    counted in what the roll-up has: `user_sums` gives them, or there is but one.
    """
    wanted = _Wanted(typed=typed, owned=owned)
    rollup, changes, metrics = (tables[f"session_metrics{part}"] for part in ("_rollup", "_changes", ""))
    labels = tables["session_labels"]
    label, first, end = _param("label", Text), _param("first", BigInteger), _param("end", BigInteger)
    first_month, end_month = _param("first_month", BigInteger), _param("end_month", BigInteger)
    whole = [
        select(_number(1).label("sign"), cast(null(), Text).label("user_id"), rollup.c.counts).where(
            rollup.c.label == labelled,
            rollup.c.day >= start,
            rollup.c.day < stop,
            *([rollup.c.type == _param("type", Text)] if typed else []),
        )
        for labelled, start, stop in (
            (label, first, first_month),
            (literal_column("'month'", Text), first_month, end_month),
            (label, end_month, end),
        )
    ]
    since = select(changes.c.sign, changes.c.user_id, changes.c.counts).where(
        changes.c.day >= first, changes.c.day < end, *wanted.of(changes)
    )
    ends = [
        select(_number(1), metrics.c.user_id, metrics.c.counts).where(
            metrics.c.created_at >= _param(f"from_{number}", BigInteger),
            metrics.c.created_at < _param(f"to_{number}", BigInteger),
            *wanted.of(metrics),
        )
        for number in range(edges)
    ]
    active = select(labels.c.session_id).where(labels.c.label == label, labels.c.archived == _number(0))
    again = _withdrawn(metrics, wanted).where(metrics.c.session_id.in_(active))
    return _summed(union_all(*whole, since, *ends, again), each, wanted)


def without_these(
    tables: Mapping[str, Table],
    each: EachCount,
    among: Callable[[Column[Any]], ColumnElement[bool]],
    *,
    typed: bool,
    owned: bool,
) -> Select[Any] | CompoundSelect[Any]:
    """Rows of key and sum, below 0, of sessions whose id is `among` some, but for those that `sums_of` leaves out."""
    metrics, sessions = tables["session_metrics"], tables["sessions"]
    active = exists().where(sessions.c.id == metrics.c.session_id, sessions.c.archived_at.is_(None))
    wanted = _Wanted(typed=typed, owned=owned)
    return _summed(_withdrawn(metrics, wanted).where(among(metrics.c.session_id), ~active), each, wanted)


def user_sums(tables: Mapping[str, Table], *, typed: bool) -> Select[Any]:
    """Rows of user and number of sessions, in the roll-up alone, from `:first` to before `:end`."""
    rollup = tables["session_metrics_rollup"]
    found = select(rollup.c.label, _sum(rollup.c.sessions)).where(
        rollup.c.day >= _param("first", BigInteger),
        rollup.c.day < _param("end", BigInteger),
        rollup.c.label > _USER,
        rollup.c.label < literal_column("'user;'", Text),
    )
    if typed:
        found = found.where(rollup.c.type == _param("type", Text))
    return found.group_by(rollup.c.label)


def _withdrawn(metrics: Table, wanted: _Wanted) -> Select[Any]:
    """What counts no longer, of sessions created from `:since` to before `:until`."""
    return select(_number(-1).label("sign"), metrics.c.user_id, metrics.c.counts).where(
        metrics.c.created_at >= _param("since", BigInteger),
        metrics.c.created_at < _param("until", BigInteger),
        *wanted.of(metrics),
    )


def _summed(rows: Any, each: EachCount, wanted: _Wanted) -> Select[Any] | CompoundSelect[Any]:
    """Rows of key and sum, of rows of sign, user and counts."""
    part = rows.cte("part")
    entry = each(part.c.counts)
    by_key = (
        select(entry.c.key, _sum(part.c.sign * cast(entry.c.value, BigInteger)))
        .select_from(part.join(entry, literal_column("1 = 1")))
        .group_by(entry.c.key)
    )
    if wanted.owned:
        return by_key
    named = select(_USER.concat(part.c.user_id), _sum(part.c.sign)).where(part.c.user_id.is_not(None))
    return union_all(by_key, named.group_by(part.c.user_id))


def _sum(column: Any) -> ColumnElement[int]:
    return cast(func.sum(column), BigInteger)


def _number(value: int) -> ColumnElement[int]:
    return literal_column(str(value), BigInteger)


def _param(name: str, kind: Any) -> Any:
    return bindparam(name, type_=kind)
