"""The statements for one schema, built by SQLAlchemy once and kept as text; the driver runs it.

Parameters are scalars and `text[]`, which the driver can send as they are: for any other array it first asks the server
about its type, with a query that changes settings of the connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ClauseElement,
    ColumnElement,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import array, asyncpg, insert
from sqlalchemy.sql.compiler import SQLCompiler

from perdure.backends.sql.rows import COLUMNS
from perdure.backends.sql.tables import metadata

__all__ = ["Statement", "Statements", "quoted", "statements_in", "tables_in"]

_DIALECT = asyncpg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own is not typed

_APPEND = """
WITH moved AS (
  UPDATE {schema}.sessions AS s SET
    version = s.version + 1,
    head = $4::text,
    last_accessed_at = greatest(s.last_accessed_at, $5::bigint),
    total_queries = s.total_queries + 1,
    cache_hits = s.cache_hits + $9::integer,
    first_query_at = least(s.first_query_at, $10::bigint),
    last_query_at = greatest(s.last_query_at, $10::bigint),
    history_bytes = s.history_bytes + $11::integer,
    writers = $2::bytea || $3::bytea || int8send(s.version + 1) || int8send(s.total_queries + 1)
      || CASE position($2::bytea IN s.writers)
        WHEN 0 THEN substring(s.writers FROM 1 FOR 31 * 40)
        ELSE overlay(s.writers PLACING '' FROM position($2::bytea IN s.writers) FOR 40)
      END
  WHERE s.id = $1::uuid AND CASE WHEN
    CASE position($2::bytea IN s.writers) % 40
      WHEN 0 THEN position($2::bytea IN s.writers) = 0
      WHEN 1 THEN $3::bytea > substring(s.writers FROM position($2::bytea IN s.writers) + 16 FOR 8)
    END
    AND ($7::text IS NULL OR s.user_id = $7::text)
    AND s.archived_at IS NULL AND s.expires_at > $5::bigint
    AND ($6::bigint IS NULL OR s.version = $6::bigint)
    AND ($8::bigint IS NULL OR s.total_queries < $8::bigint)
  THEN true END
  RETURNING s.id, s.version, s.total_queries
), added AS (
  INSERT INTO {schema}.session_queries (session_id, position, body)
  SELECT m.id, m.total_queries, $12::text FROM moved AS m
)
SELECT version, total_queries FROM moved
"""
"""What `apply_changes` does with a single change that has one query and nothing else, in half the time.

No row comes back where it is not plainly applicable. It needs no lock beforehand: it touches one row, and sees that as
it is when its turn comes.
"""
_ZERO: ColumnElement[int] = literal_column("0", Integer)


@dataclass(frozen=True, slots=True)
class Statement:
    """Text with `$1` …, and the names of what these stand for, in order."""

    text: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, statement: ClauseElement) -> Statement:
        """The statement, compiled."""
        compiled = statement.compile(dialect=_DIALECT)
        assert isinstance(compiled, SQLCompiler)
        return cls(str(compiled), tuple(compiled.positiontup or ()))

    def arguments(self, **values: Any) -> tuple[Any, ...]:
        """What to run it with, in the order of its parameters; every one must be given."""
        return tuple(values[name] for name in self.names)


def quoted(schema: str) -> str:
    """The name of a schema as an identifier."""
    return _DIALECT.identifier_preparer.quote(schema)


def tables_in(schema: str) -> MetaData:
    """All tables, in a schema."""
    there = MetaData()
    for table in metadata.sorted_tables:
        table.to_metadata(there, schema=schema)
    return there


class Statements:
    """The statements of a backend, by what they do."""

    def __init__(self, schema: str) -> None:
        tables = {table.name: table for table in tables_in(schema).sorted_tables}
        self._sessions = tables["sessions"].alias("s")
        self._counted = tables["sessions"].alias("counted")
        self._queries = tables["session_queries"].alias("q")
        self._entries = tables["session_entries"].alias("e")
        s = self._sessions.c
        ids = cast(_param("ids", ARRAY(Text)), ARRAY(Uuid))

        self.read = Statement.of(self._one_whole())
        self.read_many = Statement.of(self._whole().where(s.id == any_(ids)))
        self.lock_many = Statement.of(select(s.id).where(s.id == any_(ids)).order_by(s.id).with_for_update())
        self.history_page = Statement.of(self._history_page())
        self.copies = Statement.of(_copies(tables, ids))
        self.select_archived = Statement.of(self._archived(among=None))
        self.select_archived_among = Statement.of(self._archived(among=ids))

        ticket = insert(tables["session_tickets"]).values(
            session_id=_param("session_id", Uuid),
            ticket=_param("ticket", Text),
            taken_at=_param("taken_at", BigInteger),
        )
        kept = tables["session_tickets"].c.ticket
        self.put_ticket = Statement.of(
            ticket.on_conflict_do_update(index_elements=["session_id"], set_={"ticket": kept}).returning(kept)
        )
        self.start_sweep = Statement.of(_start_sweep(tables["sweeps"]))

        name = quoted(schema)
        self.append_query = _APPEND.format(schema=name)
        self.apply_changes = _call(name, "apply_changes", 5)
        self.store_sessions = _call(name, "store_sessions", 10)
        self.rewrite_sessions = _call(name, "rewrite_sessions", 11)
        self.delete_session = _call(name, "delete_session", 3)
        self.evict_session = _call(name, "evict_session", 3)
        self.claim_sessions = _call(name, "claim_sessions", 4)
        self.archive_sessions = _call(name, "archive_sessions", 2)
        self.settle_sessions = _call(name, "settle_sessions", 1)
        self.purge_sessions = _call(name, "purge_sessions", 5)
        self.find_sessions = _call(name, "find_sessions", 7)

    def _one_whole(self) -> Any:
        """Rows of section, key, text and position, as of one instant: the facts, all entries, the newest queries.

        The facts are `rows.COLUMNS` as a JSON list, the bytes among them in hexadecimal (no section, position 0);
        entries have the position 0; of the queries there are `:history`.

        A row for each query, as putting many together takes the server longer than sending them.
        """
        s, e, q = self._sessions.c, self._entries.c, self._queries.c
        session_id = _param("id", Uuid)
        facts = [
            func.encode(each, literal_column("'hex'")) if each.key == "writers" else each for each in self._columns()
        ]
        nothing = cast(null(), Text)
        session = select(
            nothing.label("section"),
            nothing.label("key"),
            cast(func.json_build_array(*facts), Text).label("text"),
            cast(_ZERO, BigInteger).label("position"),
        ).where(s.id == session_id)
        entries = select(e.section, e.key, e.value, cast(_ZERO, BigInteger)).where(e.session_id == session_id)
        total = select(self._counted.c.total_queries).where(self._counted.c.id == session_id).scalar_subquery()
        newest = select(nothing, nothing, q.body, q.position).where(
            q.session_id == session_id, q.position > total - _param("history", BigInteger)
        )
        return union_all(session, entries, newest)

    def _whole(self) -> Any:
        """Rows of `rows.COLUMNS`, then all entries and all queries, as of one instant."""
        s, e, q = self._sessions.c, self._entries.c, self._queries.c
        entries = select(func.array_agg(array([e.section, e.key, e.value]))).where(e.session_id == s.id)
        queries = select(q.body).where(q.session_id == s.id).order_by(q.position)
        return select(*self._columns(), entries.scalar_subquery(), func.array(queries.scalar_subquery()))

    def _columns(self) -> list[ColumnElement[Any]]:
        return [self._sessions.c[column.name] for column in COLUMNS]

    def _history_page(self) -> Any:
        """The owner, the total, the position before the page, and the page: see `SessionBackend.queries`."""
        s, q = self._sessions.c, self._queries.c
        after, before, limit = (_param(name, BigInteger) for name in ("after", "before", "limit"))
        last = func.least(s.total_queries, before - literal_column("1"))
        backwards = before.is_not(None) & (after == _ZERO)
        bounds = (
            select(
                s.id,
                s.user_id,
                s.total_queries,
                last.label("last"),
                case((backwards, func.greatest(_ZERO, last - limit)), else_=after).label("after"),
            )
            .where(s.id == _param("id", Uuid))
            .subquery("bounds")
        )
        page = (
            select(q.body)
            .where(
                q.session_id == bounds.c.id,
                q.position > bounds.c.after,
                q.position <= func.least(bounds.c.last, bounds.c.after + limit),
            )
            .order_by(q.position)
        )
        return select(bounds.c.user_id, bounds.c.total_queries, bounds.c.after, func.array(page.scalar_subquery()))

    def _archived(self, *, among: Any) -> Any:
        """Ids of what was archived before `:before`, the longest archived first."""
        s = self._sessions.c
        found = select(s.id).where(s.archived_at < _param("before", BigInteger))
        if among is not None:
            found = found.where(s.id == any_(among))
        return found.order_by(s.archived_at, s.id).limit(_param("limit", BigInteger))


def _param(name: str, kind: Any) -> Any:
    return bindparam(name, type_=kind)


def _copies(tables: dict[str, Table], ids: Any) -> Any:
    """Id, version, head and whether it is archived, of sessions; id and until when, of tombstones."""
    s, t = tables["sessions"].c, tables["session_tombstones"].c
    no_version, no_head, no_flag = cast(null(), BigInteger), cast(null(), Text), cast(null(), Boolean)
    return union_all(
        select(s.id, s.version, s.head, s.archived_at.is_not(None), cast(null(), BigInteger)).where(s.id == any_(ids)),
        select(t.session_id, no_version, no_head, no_flag, t.forget_at).where(t.session_id == any_(ids)),
    )


def _start_sweep(sweeps: Table) -> Any:
    """Note a start, if one is due; no row comes back where none is."""
    interval = _param("interval", BigInteger)
    noted = insert(sweeps).values(name=_param("name", Text), started_at=_param("now", BigInteger))
    last, now = sweeps.c.started_at, noted.excluded.started_at
    due = or_(interval == _ZERO, last > now, now >= last + interval)
    return noted.on_conflict_do_update(index_elements=["name"], set_={"started_at": now}, where=due).returning(
        literal_column("1", Integer)
    )


def _call(schema: str, name: str, parameters: int) -> str:
    places = ", ".join(f"${number}" for number in range(1, parameters + 1))
    return f"SELECT * FROM {schema}.{name}({places})"


@lru_cache(maxsize=32)
def statements_in(schema: str) -> Statements:
    """The statements for a schema."""
    return Statements(schema)
