"""How a Postgres server is, and what an operator should know of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from perdure.backends.protocol import DUE_COUNTED
from perdure.backends.sql.postgres.connections import Connection
from perdure.backends.sql.postgres.statements import quoted
from perdure.backends.sql.postgres.writing import SWEEP
from perdure.backends.sql.tables import metadata
from perdure.models.times import from_micros, to_micros

__all__ = ["HealthFacts", "health_of"]

_CROWDED = 0.9


class HealthFacts(NamedTuple):
    """What a health check asks the server."""

    last_swept_at: datetime | None
    due: int
    due_since: datetime | None
    details: dict[str, Any]
    warnings: tuple[str, ...]


async def health_of(connection: Connection, schema: str, *, now: datetime) -> HealthFacts:
    """The facts of `BackendHealth`, in one round trip, at a cost that does not depend on the number of sessions."""
    tables = sorted(metadata.tables)
    row = await connection.fetchrow(_statement(schema), to_micros(now), SWEEP, schema, tables, DUE_COUNTED)
    assert row is not None
    facts = dict(row)
    swept, due, since = (facts.pop(name) for name in ("started_at", "due", "due_since"))
    details = {name: value for name, value in facts.items() if name not in _RISKS and value is not None}
    return HealthFacts(
        last_swept_at=None if swept is None else from_micros(swept),
        due=due,
        due_since=None if since is None else from_micros(since),
        details=details,
        warnings=tuple(_warnings(facts)),
    )


_RISKS = ("fsync", "full_page_writes", "synchronous_commit")


def _warnings(facts: Mapping[str, Any]) -> list[str]:
    """What works, and yet should not stay as it is."""
    said = {
        "fsync is off: a crash of the server's machine can lose or damage everything; set it to on": (
            facts["fsync"] == "off"
        ),
        "full_page_writes is off: a crash of the server's machine can damage pages for good; set it to on": (
            facts["full_page_writes"] == "off"
        ),
        "synchronous_commit is off: a crash of the server loses what was acknowledged in the last moments before it": (
            facts["synchronous_commit"] == "off"
        ),
        "synchronous_commit is local: a fail-over to a standby can lose what was acknowledged last": (
            facts["synchronous_commit"] == "local" and facts["standbys"] > 0
        ),
        "the server takes no writes: it is a standby, or set to read only": facts["read_only"],
        f"{facts['connections']} of the server's {facts['max_connections']} connections are in use": (
            facts["connections"] > _CROWDED * facts["max_connections"]
        ),
    }
    return [sentence for sentence, holds in said.items() if holds]


# What connections are for is shown to their own role alone, so they are told by having a role and a database.
@lru_cache(maxsize=32)
def _statement(schema: str) -> str:
    name = quoted(schema)
    return f"""
        SELECT
            current_setting('server_version') AS server_version,
            current_database()::text AS database,
            current_user::text AS role,
            $3::text AS schema,
            (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
             WHERE n.nspname = $3 AND c.relname = ANY ($4::text[]) AND c.relkind = 'r') AS size_bytes,
            (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL AND usesysid IS NOT NULL) AS connections,
            current_setting('max_connections')::integer AS max_connections,
            (SELECT count(*) FROM pg_stat_replication) AS standbys,
            pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only,
            CASE WHEN pg_is_in_recovery()
                THEN extract(epoch FROM now() - pg_last_xact_replay_timestamp())::float8 END AS replay_lag_seconds,
            current_setting('fsync') AS fsync,
            current_setting('full_page_writes') AS full_page_writes,
            current_setting('synchronous_commit') AS synchronous_commit,
            (SELECT count(*) FROM (SELECT FROM {name}.sessions WHERE due_at <= $1 LIMIT $5::bigint) AS d) AS due,
            (SELECT min(due_at) FROM {name}.sessions WHERE due_at <= $1) AS due_since,
            (SELECT started_at FROM {name}.sweeps WHERE name = $2) AS started_at
    """
