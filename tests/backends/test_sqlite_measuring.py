"""What of statistics is SQLite's own: the roll-up, its triggers, and what they cost."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from perdure.backends.sql import rolling
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.backends.sql.tables import TRIGGERS
from perdure.errors import SchemaError
from perdure.models import StatsFilter
from perdure.testing import START
from perdure.testing.conformance.steps import EXPIRY, FOREVER, HOUR, created, measured, numbered, rolled_up


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[SqliteBackend]:
    backend = SqliteBackend(tmp_path / "sessions.db")
    await backend.open()
    yield backend
    await backend.aclose()


def run(backend: SqliteBackend, statement: str, *parameters: Any) -> list[Any]:
    with closing(sqlite3.connect(backend.path, isolation_level=None)) as connection:
        return connection.execute(statement, parameters).fetchall()


async def archived_sessions(backend: SqliteBackend, count: int) -> None:
    for number in range(count):
        at = START + number * HOUR
        user = ("ann", "bob", None)[number % 3]
        await created(backend, user_id=user, created_at=at, archived_at=EXPIRY, queries=numbered(number % 4))


async def test_what_is_rolled_up_is_all_that_counts_by_day_type_and_user(backend: SqliteBackend) -> None:
    await archived_sessions(backend, 30)
    before = await measured(backend)
    await rolled_up(backend)

    assert START.day == 1
    cells = run(backend, "SELECT label, day, type, sessions FROM session_metrics_rollup ORDER BY label, day")
    day = (START.date().toordinal()) - 719_163
    assert cells == [
        ("all", day, "equity", 24),
        ("all", day + 1, "equity", 6),
        ("month", day, "equity", 30),
        ("user:ann", day, "equity", 8),
        ("user:ann", day + 1, "equity", 2),
        ("user:bob", day, "equity", 8),
        ("user:bob", day + 1, "equity", 2),
    ]
    assert run(backend, "SELECT count(*) FROM session_metrics_changes") == [(0,)]
    assert await measured(backend) == before


async def test_nothing_is_left_of_who_was_deleted(backend: SqliteBackend) -> None:
    await archived_sessions(backend, 6)
    await rolled_up(backend)
    for session in await backend.metrics(StatsFilter(user_id="ann"), limit=100):
        await backend.delete(session.session_id, forget_at=FOREVER)
    await rolled_up(backend)

    assert run(backend, "SELECT label FROM session_metrics_rollup WHERE label LIKE '%ann%'") == []
    assert run(backend, "SELECT counts FROM session_metrics WHERE user_id = 'ann'") == []


async def test_a_gathering_that_fails_changes_nothing(backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    await archived_sessions(backend, 6)
    await backend.roll_up(limit=3)
    before = await measured(backend)
    monkeypatch.setattr(rolling, "_DONE", "DELETE FROM nowhere WHERE id IN (:ids)")

    with pytest.raises(SchemaError):
        await backend.roll_up(limit=3)

    assert await measured(backend) == before
    monkeypatch.undo()
    await rolled_up(backend)
    assert await measured(backend) == before


async def test_whoever_writes_rows_the_statistics_are_right(backend: SqliteBackend) -> None:
    await archived_sessions(backend, 6)
    await rolled_up(backend)
    run(backend, "UPDATE session_metrics SET user_id = 'eve' WHERE user_id = 'ann'")
    run(backend, "DELETE FROM session_metrics WHERE user_id = 'bob'")

    for _ in range(2):
        counts = await measured(backend)
        assert (counts["sessions"], counts["user:eve"], "user:bob" in counts) == (4, 2, False)
        await rolled_up(backend)


@pytest.mark.parametrize("trigger", TRIGGERS)
async def test_a_missing_trigger_is_told(backend: SqliteBackend, trigger: str) -> None:
    assert await backend.schema.verify() == []
    run(backend, f"DROP TRIGGER {trigger}")
    assert await backend.schema.verify() == [f"trigger {trigger} on session_metrics is missing"]


async def test_archived_sessions_that_do_not_count_are_told(backend: SqliteBackend) -> None:
    await archived_sessions(backend, 2)
    run(backend, "DELETE FROM session_metrics")
    assert await backend.schema.verify() == ["2 archived sessions do not count in statistics"]


async def test_a_row_that_nobody_can_read_hides_no_other(
    backend: SqliteBackend, caplog: pytest.LogCaptureFixture
) -> None:
    await archived_sessions(backend, 5)
    run(
        backend,
        "UPDATE session_metrics SET assets = 'nonsense' WHERE created_at = (SELECT max(created_at) FROM sessions)",
    )

    first = await backend.metrics(StatsFilter(), limit=2)
    rest = await backend.metrics(StatsFilter(), cursor=first.next_cursor, limit=9)

    assert [metrics.created_at for metrics in [*first, *rest]] == [START + number * HOUR for number in (3, 2, 1, 0)]
    assert "session.unmeasured" in caplog.text


async def test_no_page_of_metrics_reads_the_whole_table(backend: SqliteBackend) -> None:
    await archived_sessions(backend, 3)
    seen: list[str] = []
    with closing(sqlite3.connect(backend.path)) as connection:
        from perdure.backends.sql.measuring import metrics_in

        connection.isolation_level = None
        connection.set_trace_callback(seen.append)
        metrics_in(connection, wanted=StatsFilter(user_id="ann"), cursor=None, limit=2)
        connection.set_trace_callback(None)
        asked = [statement for statement in seen if "session_metrics" in statement]
        plans = [str(connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()) for statement in asked]

    assert len(plans) == 1
    assert "USING INDEX ix_session_metrics_created" in plans[0]
    assert "USE TEMP B-TREE" not in plans[0]
