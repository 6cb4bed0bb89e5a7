"""Sessions, their entries, queries and labels; tombstones, tickets, sweeps; what archived sessions count."""

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
    create_metrics()


def create_metrics() -> None:
    op.create_table(
        "session_metrics",
        sa.Column("session_id", KEY, primary_key=True),
        sa.Column("user_id", sa.Text),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("assets", NAMES, nullable=False, comment="JSON list"),
        sa.Column("tags", NAMES, nullable=False, comment="JSON list"),
        sa.Column("created_at", NUMBER, nullable=False),
        sa.Column("expires_at", NUMBER, nullable=False),
        sa.Column("last_accessed_at", NUMBER, nullable=False),
        sa.Column("archived_at", NUMBER, nullable=False),
        sa.Column("version", NUMBER, nullable=False),
        sa.Column("total_queries", NUMBER, nullable=False),
        sa.Column("cache_hits", NUMBER, nullable=False),
        sa.Column("day", NUMBER, nullable=False, comment="of its creation: days since 1970-01-01, UTC"),
        sa.Column("counts", NAMES, nullable=False, comment="JSON object: perdure.models.measures"),
        sqlite_strict=True,
    )
    op.create_index("ix_session_metrics_created", "session_metrics", ["created_at", "session_id"])
    op.create_table(
        "session_metrics_changes",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("sign", NUMBER, nullable=False),
        sa.Column("day", NUMBER, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("counts", NAMES, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("ix_session_metrics_changes_day", "session_metrics_changes", ["day", "id"])
    op.create_table(
        "session_metrics_rollup",
        sa.Column("label", WORD, primary_key=True, comment="all, month (all of it), or user:ID"),
        sa.Column("day", NUMBER, primary_key=True, comment="the first of the month where the label is month"),
        sa.Column("type", WORD, primary_key=True),
        sa.Column("sessions", NUMBER, nullable=False),
        sa.Column("counts", NAMES, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("ix_session_metrics_rollup_day", "session_metrics_rollup", ["day", "label", "type", "sessions"])
    if op.get_bind().dialect.name == "sqlite":
        for trigger in SQLITE_TRIGGERS:
            op.execute(trigger)


CHANGE = "INSERT INTO session_metrics_changes (sign, day, type, user_id, counts) VALUES"
GONE = f"{CHANGE} (-1, old.day, old.type, old.user_id, old.counts);"
CAME = f"{CHANGE} (1, new.day, new.type, new.user_id, new.counts);"
DIFFERENT = "(old.day, old.type, old.user_id, old.counts) IS NOT (new.day, new.type, new.user_id, new.counts)"
SQLITE_TRIGGERS = (
    f"CREATE TRIGGER session_metrics_came AFTER INSERT ON session_metrics BEGIN {CAME} END",
    f"CREATE TRIGGER session_metrics_went AFTER DELETE ON session_metrics BEGIN {GONE} END",
    f"CREATE TRIGGER session_metrics_moved AFTER UPDATE ON session_metrics WHEN {DIFFERENT} BEGIN {GONE} {CAME} END",
)
