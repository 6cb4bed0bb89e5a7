"""Every statement, built by SQLAlchemy once and kept as text; the driver runs it with named parameters."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ClauseElement,
    Select,
    Update,
    bindparam,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement

from perdure.backends.sql.rows import COLUMNS, COUNTERS, FACTS
from perdure.backends.sql.tables import (
    session_entries,
    session_labels,
    session_metrics,
    session_queries,
    session_tickets,
    session_tombstones,
    sessions,
    sweeps,
)

__all__ = ["SQL", "find_page", "text_of"]

STANDING = ("assets", "tags", "expires_at", "archived_at")
"""Columns that few changes touch."""


def text_of(statement: ClauseElement) -> str:
    """The text of a statement, with `:name` for each parameter and every constant written out."""
    compiled = statement.compile(dialect=sqlite.dialect(paramstyle="named"))
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    return re.sub(r":(\w+)", lambda found: _literal(constants, found), str(compiled))


def positional(statement: ClauseElement, names: tuple[str, ...]) -> str:
    """The text of a statement with `?` for each parameter, which are these in this order.

    For what every tracked query runs: looking parameters up by name takes as long as the statement does.
    """
    compiled = statement.compile(dialect=sqlite.dialect(paramstyle="qmark"))
    assert isinstance(compiled, SQLCompiler)
    assert compiled.positiontup == list(names), compiled.positiontup
    return str(compiled)


def _literal(constants: dict[str, object], found: re.Match[str]) -> str:
    value = constants.get(found[1])
    assert value is None or isinstance(value, int), "constants in statements are numbers"
    return found[0] if value is None else str(value)


def _is(column: ColumnElement[object], name: str | None = None) -> ColumnElement[bool]:
    return column == bindparam(name or column.key)


class _Statements:
    """The statements of a backend, by what they do."""

    def __init__(self) -> None:
        s, e, q = sessions.c, session_entries.c, session_queries.c
        entry = (_is(e.session_id), _is(e.section), _is(e.key))
        label = session_labels.c

        self.select_session = text_of(select(*COLUMNS).where(_is(s.id)))
        self.select_counters = text_of(select(*COUNTERS).where(_is(s.id)))
        self.insert_session = text_of(insert(sessions))
        self.update_facts = positional(_update(FACTS), (*FACTS, "id"))
        self.update_all = text_of(_update((*FACTS, *STANDING)))
        self.update_due = text_of(update(sessions).where(_is(s.id)).values(due_at=bindparam("due_at")))
        self.delete_session = text_of(delete(sessions).where(_is(s.id)))

        self.select_entries = text_of(select(e.section, e.key, e.value).where(_is(e.session_id)))
        self.select_entry = text_of(select(e.value).where(*entry))
        self.delete_entry = text_of(delete(session_entries).where(*entry))
        put = sqlite.insert(session_entries)
        self.put_entry = text_of(
            put.on_conflict_do_update(
                index_elements=["session_id", "section", "key"], set_={"value": put.excluded.value}
            )
        )

        within = (_is(q.session_id), q.position > bindparam("after"), q.position <= bindparam("upto"))
        self.select_queries = text_of(select(q.body).where(*within).order_by(q.position))
        self.select_bodies = text_of(select(q.body).where(_is(q.session_id)).order_by(q.position))
        self.insert_query = positional(insert(session_queries), ("session_id", "position", "body"))

        at = (_is(label.label), _is(label.archived), _is(label.created_at), _is(label.session_id))
        self.insert_label = text_of(insert(session_labels))
        self.delete_label = text_of(delete(session_labels).where(*at))
        some = select(literal(1)).where(_is(label.label)).limit(bindparam("most")).subquery()
        self.count_label = text_of(select(func.count()).select_from(some))

        self.select_due = text_of(
            select(s.id, (s.state_bytes + s.history_bytes).label("size"))
            .where(s.due_at <= bindparam("now"))
            .order_by(s.due_at, s.id)
            .limit(bindparam("limit"))
        )
        due = (
            select(s.due_at).where(s.due_at <= bindparam("now")).order_by(s.due_at).limit(bindparam("most")).subquery()
        )
        self.count_due = text_of(select(func.count(), func.min(due.c.due_at)))
        this = (_is(s.id), _is(s.version), _is(s.head))
        self.archive_session = text_of(
            update(sessions).where(*this, s.archived_at.is_(None)).values(archived_at=bindparam("at"))
        )
        self.select_copy = text_of(select(s.version, s.head, s.archived_at).where(_is(s.id)))
        self.settle_due = text_of(update(sessions).where(*this, s.archived_at.is_not(None)).values(due_at=null()))
        self.select_archived = text_of(
            select(*COLUMNS)
            .where(s.archived_at.is_not(None), s.archived_at < bindparam("before"))
            .order_by(s.archived_at, s.id)
            .limit(bindparam("limit"))
        )

        stone, ticket = session_tombstones, session_tickets
        self.select_tombstone = text_of(select(stone.c.forget_at).where(_is(stone.c.session_id)))
        bury = sqlite.insert(stone)
        self.put_tombstone = text_of(
            bury.on_conflict_do_update(
                index_elements=["session_id"],
                set_={"forget_at": func.max(stone.c.forget_at, bury.excluded.forget_at)},
            )
        )
        self.forget_tombstones = text_of(delete(stone).where(stone.c.forget_at <= bindparam("now")))
        self.select_ticket = text_of(select(ticket.c.ticket).where(_is(ticket.c.session_id)))
        self.insert_ticket = text_of(insert(ticket))
        self.delete_ticket = text_of(delete(ticket).where(_is(ticket.c.session_id)))
        self.forget_tickets = text_of(delete(ticket).where(ticket.c.taken_at <= bindparam("abandoned")))

        metrics = session_metrics.c
        put = sqlite.insert(session_metrics)
        replaced: dict[str, Any] = {column.name: put.excluded[column.name] for column in metrics}
        newer = metrics.version < put.excluded.version
        self.put_metrics = text_of(put.on_conflict_do_update(index_elements=["session_id"], set_=replaced))
        self.put_newer_metrics = text_of(
            put.on_conflict_do_update(index_elements=["session_id"], set_=replaced, where=newer)
        )
        active = select(literal(1)).where(s.id == metrics.session_id, s.archived_at.is_(None)).exists()
        below = tuple_(metrics.created_at, metrics.session_id) < tuple_(bindparam("below_at"), bindparam("below_id"))
        self.select_metrics = text_of(
            select(*metrics)
            .where(
                below,
                metrics.created_at >= bindparam("since"),
                metrics.created_at < bindparam("until"),
                bindparam("type").is_(None) | (metrics.type == bindparam("type")),
                bindparam("user").is_(None) | (metrics.user_id == bindparam("user")),
                ~active,
            )
            .order_by(metrics.created_at.desc(), metrics.session_id.desc())
            .limit(bindparam("limit"))
        )
        anybody = bindparam("owner").is_(None)
        self.forget_metrics = text_of(
            delete(session_metrics).where(_is(metrics.session_id), anybody | (metrics.user_id == bindparam("owner")))
        )

        self.select_sweep = text_of(select(sweeps.c.started_at).where(_is(sweeps.c.name)))
        noted = sqlite.insert(sweeps)
        self.put_sweep = text_of(
            noted.on_conflict_do_update(index_elements=["name"], set_={"started_at": noted.excluded.started_at})
        )


def _update(columns: tuple[str, ...]) -> Update:
    values: dict[str, BindParameter[Any]] = {name: bindparam(name) for name in columns}
    return update(sessions).where(_is(sessions.c.id)).values(**values)


SQL = _Statements()
"""All statements but those of listings, which `find_page` makes to measure."""


@lru_cache(maxsize=64)
def find_page(*, others: int, archived: bool | None) -> str:
    """One page of rows: of `:label`, and of `:other_1` … as many as `others` says; last in each, its label's instant.

    Each archived flag is one descent into the primary key of the labels, in the order of the page; SQLite merges the
    two as it goes, so that nothing but the page is read.
    """
    flags = (0, 1) if archived is None else (int(archived),)
    branches = [_find_branch(flag, others) for flag in flags]
    page = branches[0] if len(branches) == 1 else union_all(branches[0], branches[1])
    ordered = page.order_by(*(column.desc() for column in page.selected_columns)).limit(bindparam("limit")).subquery()
    return text_of(
        select(*COLUMNS, ordered.c.created_at)
        .join(ordered, ordered.c.session_id == sessions.c.id)
        .order_by(ordered.c.created_at.desc(), ordered.c.session_id.desc())
    )


def _find_branch(flag: int, others: int) -> Select[Any]:
    label = session_labels.alias(f"l{flag}")
    key = tuple_(label.c.created_at, label.c.session_id)
    found = select(label.c.created_at, label.c.session_id).where(
        label.c.label == bindparam("label"),
        label.c.archived == literal(flag),
        key < tuple_(bindparam("below_at"), bindparam("below_id")),
        label.c.created_at >= bindparam("created_after"),
    )
    for number in range(1, others + 1):
        other = session_labels.alias(f"o{flag}_{number}")
        found = found.where(
            select(literal(1))
            .where(
                other.c.label == bindparam(f"other_{number}"),
                other.c.archived == label.c.archived,
                other.c.created_at == label.c.created_at,
                other.c.session_id == label.c.session_id,
            )
            .exists()
        )
    return found
