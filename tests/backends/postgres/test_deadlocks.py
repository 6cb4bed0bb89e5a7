"""Bulk writers in several processes, on the same sessions in any order: nobody waits for anybody in a circle."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.backends.postgres.conftest import KEPT

from perdure.testing.servers import PostgresServer

CHILD = Path(__file__).with_name("bulk_child.py")
PROCESSES = 3
SECONDS = 6.0

DEADLOCKS = f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{KEPT}'"


def test_bulk_writers_never_lock_each_other_out(sessions_url: str, postgres_server: PostgresServer) -> None:
    before = postgres_server.execute(DEADLOCKS)
    command = [sys.executable, str(CHILD), sessions_url]
    children = [
        subprocess.Popen([*command, str(seed), str(SECONDS)], stdout=subprocess.PIPE, text=True)
        for seed in range(PROCESSES)
    ]
    try:
        told = [json.loads(child.communicate(timeout=90)[0]) for child in children]
    finally:
        for child in children:
            child.kill()

    assert [failure for child in told for failure in child["failed"]] == []
    _wait_until_alone(postgres_server)  # a server process tells its statistics when it ends, if not before
    assert postgres_server.execute(DEADLOCKS) == before
    done = {kind for child in told for kind in child["done"]}
    assert done == {"absorb", "apply", "archive", "create", "delete", "evict", "purge", "ticket"}
    _nothing_hangs_in_the_air(postgres_server)


def _wait_until_alone(server: PostgresServer) -> None:
    others = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{KEPT}'"
    deadline = time.monotonic() + 20
    while server.execute(others) != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _nothing_hangs_in_the_air(server: PostgresServer) -> None:
    """Every label, query and entry has its session, whose counters and labels are true."""
    orphans = "SELECT count(*) FROM perdure.{} WHERE session_id NOT IN (SELECT id FROM perdure.sessions)"
    for table in ("session_labels", "session_entries", "session_queries"):
        assert server.execute(orphans.format(table), database=KEPT) == [(0,)]
    untrue = """
        SELECT count(*) FROM perdure.sessions AS s
        WHERE total_queries <> (SELECT count(*) FROM perdure.session_queries WHERE session_id = s.id)
          OR total_queries <> (SELECT coalesce(max(position), 0) FROM perdure.session_queries WHERE session_id = s.id)
          OR history_bytes <> (SELECT coalesce(sum(octet_length(body)), 0)
            FROM perdure.session_queries WHERE session_id = s.id)
          OR state_bytes <> (SELECT coalesce(sum(octet_length(key) + octet_length(value)), 0)
            FROM perdure.session_entries WHERE session_id = s.id)
          OR (SELECT array_agg(l ORDER BY l) FROM perdure.session_labels AS l WHERE session_id = s.id)
            <> (SELECT array_agg(l ORDER BY l) FROM unnest(perdure.label_rows(ARRAY[s.id])) AS l)
    """
    assert server.execute(untrue, database=KEPT) == [(0,)]
    both = "SELECT count(*) FROM perdure.sessions WHERE id IN (SELECT session_id FROM perdure.session_tombstones)"
    assert server.execute(both, database=KEPT) == [(0,)]
