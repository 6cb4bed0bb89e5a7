"""The schema. Migrations make it; `perdure db verify` compares a database with it.

Instants are microseconds since 1970-01-01T00:00:00Z, values are JSON text exactly as it was encoded.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

__all__ = [
    "TRIGGERS",
    "VERSION_TABLE",
    "metadata",
    "session_entries",
    "session_labels",
    "session_metrics",
    "session_metrics_changes",
    "session_metrics_rollup",
    "session_queries",
    "session_tickets",
    "session_tombstones",
    "sessions",
    "sweeps",
]

VERSION_TABLE = "perdure_version"
"""Where Alembic notes the revision, apart from any `alembic_version` of the application's own."""

TRIGGERS = ("session_metrics_came", "session_metrics_moved", "session_metrics_went")
"""On `session_metrics`: they write `session_metrics_changes`."""

_KEY = Uuid().with_variant(LargeBinary(16), "sqlite")
_NUMBER = BigInteger().with_variant(Integer(), "sqlite")
_NAMES = Text().with_variant(JSONB(), "postgresql")
"""A list of names: Postgres is asked questions about it, and names look the same however JSON is written."""
_COUNTS = _NAMES
"""Whole numbers by name, which Postgres is asked to sum."""
_WORD = Text().with_variant(Text(collation="C"), "postgresql")
"""Text in a key. Compared byte by byte, so that no upgrade of the system's locales can spoil an index."""

metadata = MetaData()


def _of_a_session() -> ForeignKeyConstraint:
    """Rows go with their session. In Postgres the functions that remove sessions see to that: a check of every row that
    is written would cost a third of what taking sessions in bulk does.
    """
    return ForeignKeyConstraint(["session_id"], ["sessions.id"], ondelete="CASCADE").ddl_if(dialect="sqlite")


sessions = Table(
    "sessions",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("user_id", Text),
    Column("type", Text, nullable=False),
    Column("assets", _NAMES, nullable=False, comment="JSON list"),
    Column("tags", _NAMES, nullable=False, comment="JSON list"),
    Column("created_at", _NUMBER, nullable=False),
    Column("expires_at", _NUMBER, nullable=False),
    Column("due_at", _NUMBER, comment="when it may be claimed: its expiry, or the end of a lease; NULL once archived"),
    Column("last_accessed_at", _NUMBER, nullable=False),
    Column("archived_at", _NUMBER),
    Column("version", _NUMBER, nullable=False),
    Column("head", Text, nullable=False),
    Column("total_queries", _NUMBER, nullable=False),
    Column("cache_hits", _NUMBER, nullable=False),
    Column("first_query_at", _NUMBER),
    Column("last_query_at", _NUMBER),
    Column("state_bytes", _NUMBER, nullable=False),
    Column("history_bytes", _NUMBER, nullable=False),
    Column("writers", LargeBinary, nullable=False, comment="the last change of each of the last 32 writers"),
    sqlite_strict=True,
)
Index(
    "ix_sessions_due",
    sessions.c.due_at,
    sessions.c.id,
    sqlite_where=sessions.c.due_at.is_not(None),
    postgresql_where=sessions.c.due_at.is_not(None),
)
Index(
    "ix_sessions_archived",
    sessions.c.archived_at,
    sessions.c.id,
    sqlite_where=sessions.c.archived_at.is_not(None),
    postgresql_where=sessions.c.archived_at.is_not(None),
)

session_entries = Table(
    "session_entries",
    metadata,
    Column("session_id", _KEY, primary_key=True),
    Column("section", _WORD, primary_key=True),
    Column("key", _WORD, primary_key=True),
    Column("value", Text, nullable=False),
    _of_a_session(),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

session_queries = Table(
    "session_queries",
    metadata,
    Column("session_id", _KEY, primary_key=True),
    Column("position", _NUMBER, primary_key=True),
    Column("body", Text, nullable=False),
    _of_a_session(),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# No foreign key: the primary key begins with the label, so that cascading a delete would scan the table. Whoever
# deletes a session knows its labels and deletes them by key.
session_labels = Table(
    "session_labels",
    metadata,
    Column("label", _WORD, primary_key=True),
    Column("archived", _NUMBER, primary_key=True, comment="0 or 1"),
    Column("created_at", _NUMBER, primary_key=True),
    Column("session_id", _KEY, primary_key=True),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

session_tombstones = Table(
    "session_tombstones",
    metadata,
    Column("session_id", _KEY, primary_key=True),
    Column("forget_at", _NUMBER, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

session_tickets = Table(
    "session_tickets",
    metadata,
    Column("session_id", _KEY, primary_key=True),
    Column("ticket", Text, nullable=False),
    Column("taken_at", _NUMBER, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# What archived sessions count, which outlives them. A row of an active session is one that it left when it was archived
# before, and does not count.
session_metrics = Table(
    "session_metrics",
    metadata,
    Column("session_id", _KEY, primary_key=True),
    Column("user_id", Text),
    Column("type", Text, nullable=False),
    Column("assets", _NAMES, nullable=False, comment="JSON list"),
    Column("tags", _NAMES, nullable=False, comment="JSON list"),
    Column("created_at", _NUMBER, nullable=False),
    Column("expires_at", _NUMBER, nullable=False),
    Column("last_accessed_at", _NUMBER, nullable=False),
    Column("archived_at", _NUMBER, nullable=False),
    Column("version", _NUMBER, nullable=False),
    Column("total_queries", _NUMBER, nullable=False),
    Column("cache_hits", _NUMBER, nullable=False),
    Column("day", _NUMBER, nullable=False, comment="of its creation: days since 1970-01-01, UTC"),
    Column("counts", _COUNTS, nullable=False, comment="JSON object: perdure.models.measures"),
    sqlite_strict=True,
)
Index("ix_session_metrics_created", session_metrics.c.created_at, session_metrics.c.session_id)

# Rows of session_metrics that came (sign 1) and went (sign -1) since the roll-up was made; triggers write them.
session_metrics_changes = Table(
    "session_metrics_changes",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("sign", _NUMBER, nullable=False),
    Column("day", _NUMBER, nullable=False),
    Column("type", Text, nullable=False),
    Column("user_id", Text),
    Column("counts", _COUNTS, nullable=False),
    sqlite_strict=True,
)

Index("ix_session_metrics_changes_day", session_metrics_changes.c.day, session_metrics_changes.c.id)

# The sums of session_metrics, but for those changes.
session_metrics_rollup = Table(
    "session_metrics_rollup",
    metadata,
    Column("label", _WORD, primary_key=True, comment="all, month (all of it), or user:ID"),
    Column("day", _NUMBER, primary_key=True, comment="the first of the month where the label is month"),
    Column("type", _WORD, primary_key=True),
    Column("sessions", _NUMBER, nullable=False),
    Column("counts", _COUNTS, nullable=False),
    sqlite_strict=True,
)
Index(
    "ix_session_metrics_rollup_day",
    session_metrics_rollup.c.day,
    session_metrics_rollup.c.label,
    session_metrics_rollup.c.type,
    session_metrics_rollup.c.sessions,
)

sweeps = Table(
    "sweeps",
    metadata,
    Column("name", _WORD, primary_key=True),
    Column("started_at", _NUMBER, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
