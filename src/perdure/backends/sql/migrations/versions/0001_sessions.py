"""Sessions, their entries, queries and labels; tombstones, tickets, sweeps."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.Uuid().with_variant(sa.LargeBinary(16), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAMES = sa.Text().with_variant(JSONB(), "postgresql")
WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def of_a_session() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], ondelete="CASCADE").ddl_if(dialect="sqlite")


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("user_id", sa.Text),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("assets", NAMES, nullable=False, comment="JSON list"),
        sa.Column("tags", NAMES, nullable=False, comment="JSON list"),
        sa.Column("created_at", NUMBER, nullable=False),
        sa.Column("expires_at", NUMBER, nullable=False),
        sa.Column(
            "due_at",
            NUMBER,
            comment="when it may be claimed: its expiry, or the end of a lease; NULL once archived",
        ),
        sa.Column("last_accessed_at", NUMBER, nullable=False),
        sa.Column("archived_at", NUMBER),
        sa.Column("version", NUMBER, nullable=False),
        sa.Column("head", sa.Text, nullable=False),
        sa.Column("total_queries", NUMBER, nullable=False),
        sa.Column("cache_hits", NUMBER, nullable=False),
        sa.Column("first_query_at", NUMBER),
        sa.Column("last_query_at", NUMBER),
        sa.Column("state_bytes", NUMBER, nullable=False),
        sa.Column("history_bytes", NUMBER, nullable=False),
        sa.Column(
            "writers",
            sa.LargeBinary,
            nullable=False,
            comment="the last change of each of the last 32 writers",
        ),
        sqlite_strict=True,
    )
    for name, column, condition in (
        ("ix_sessions_due", "due_at", "due_at IS NOT NULL"),
        ("ix_sessions_archived", "archived_at", "archived_at IS NOT NULL"),
    ):
        where = sa.text(condition)
        op.create_index(name, "sessions", [column, "id"], sqlite_where=where, postgresql_where=where)
    op.create_table(
        "session_entries",
        sa.Column("session_id", KEY, primary_key=True),
        sa.Column("section", WORD, primary_key=True),
        sa.Column("key", WORD, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        of_a_session(),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "session_queries",
        sa.Column("session_id", KEY, primary_key=True),
        sa.Column("position", NUMBER, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
        of_a_session(),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "session_labels",
        sa.Column("label", WORD, primary_key=True),
        sa.Column("archived", NUMBER, primary_key=True, comment="0 or 1"),
        sa.Column("created_at", NUMBER, primary_key=True),
        sa.Column("session_id", KEY, primary_key=True),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "session_tombstones",
        sa.Column("session_id", KEY, primary_key=True),
        sa.Column("forget_at", NUMBER, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "session_tickets",
        sa.Column("session_id", KEY, primary_key=True),
        sa.Column("ticket", sa.Text, nullable=False),
        sa.Column("taken_at", NUMBER, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sweeps",
        sa.Column("name", WORD, primary_key=True),
        sa.Column("started_at", NUMBER, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
