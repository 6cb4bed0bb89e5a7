"""Bringing the roll-up of SQLite up to date: what archived sessions count, by day and type, of all and by user."""

from __future__ import annotations

import sqlite3

__all__ = ["roll_up_in"]

AT_ONCE = 250
"""Changes that are gathered in one transaction, so that other writers need not wait for long."""

_NEXT = """
SELECT json_group_array(id), count(*) FROM (SELECT id FROM session_metrics_changes ORDER BY day, id LIMIT :limit)
"""
"""Day by day, so that a batch is about few cells."""

_THESE = "id IN (SELECT value FROM json_each(:ids))"

_MONTH = "CAST(strftime('%s', day * 86400, 'unixepoch', 'start of month') AS INTEGER) / 86400"
"""The day with which the month of a day begins."""

_CELLS = f"""
WITH gathered AS (
    SELECT 'all' AS label, day, type, sign, counts FROM session_metrics_changes WHERE {_THESE}
    UNION ALL
    SELECT 'month', {_MONTH}, type, sign, counts FROM session_metrics_changes WHERE {_THESE}
    UNION ALL
    SELECT 'user:' || user_id, day, type, sign, counts FROM session_metrics_changes
    WHERE {_THESE} AND user_id IS NOT NULL
), cells AS (
    SELECT DISTINCT label, day, type FROM gathered
), parts AS (
    SELECT g.label, g.day, g.type, e.key, g.sign * e.value AS number FROM gathered AS g, json_each(g.counts) AS e
    UNION ALL
    SELECT c.label, c.day, c.type, e.key, e.value
    FROM cells AS c
    JOIN session_metrics_rollup AS r ON (r.label, r.day, r.type) = (c.label, c.day, c.type), json_each(r.counts) AS e
), sums AS (
    SELECT label, day, type, key, sum(number) AS number FROM parts GROUP BY label, day, type, key
)
INSERT INTO session_metrics_rollup (label, day, type, sessions, counts)
SELECT label, day, type,
    coalesce(sum(number) FILTER (WHERE key = 'sessions'), 0),
    json_group_object(key, number) FILTER (WHERE number <> 0)
FROM sums WHERE true GROUP BY label, day, type
ON CONFLICT (label, day, type) DO UPDATE SET sessions = excluded.sessions, counts = excluded.counts
"""

_EMPTY = f"""
DELETE FROM session_metrics_rollup WHERE sessions = 0 AND (label, day, type) IN (
    SELECT 'all', day, type FROM session_metrics_changes WHERE {_THESE} AND sign < 0
    UNION SELECT 'month', {_MONTH}, type FROM session_metrics_changes WHERE {_THESE} AND sign < 0
    UNION SELECT 'user:' || user_id, day, type FROM session_metrics_changes WHERE {_THESE} AND sign < 0
)
"""

_DONE = f"DELETE FROM session_metrics_changes WHERE {_THESE}"


def roll_up_in(connection: sqlite3.Connection, *, limit: int) -> int:
    """See `SessionBackend.roll_up`; `AT_ONCE` at most."""
    ids, changes = connection.execute(_NEXT, {"limit": min(limit, AT_ONCE)}).fetchone()
    if changes:
        for statement in (_CELLS, _EMPTY, _DONE):
            connection.execute(statement, {"ids": ids})
    return int(changes)
