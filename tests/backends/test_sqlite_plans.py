"""How SQLite goes about every statement: no scan of a table, no sort of more than a page."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from perdure import SessionFilter
from perdure.backends.sql import reading, writing
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.backends.sql.statements import SQL, find_page
from perdure.models import StoredSession
from perdure.testing import START, ChangeMaker, stored_query, stored_session

# Sweeps of retention: both tables hold what was deleted, or read, of late, and nothing asks for them by anything else.
WHOLE_TABLES = {"forget_tombstones", "forget_tickets"}

STATEMENTS = {name: text for name, text in vars(SQL).items() if isinstance(text, str)}
PAGES = {
    f"find_page others={others} archived={archived}": find_page(others=others, archived=archived)
    for others in (0, 1, 2)
    for archived in (None, True, False)
}


def fill(path: Path, number: int) -> None:
    """Make a database with that many sessions, of ten users; every third of them is archived."""

    async def absorb() -> None:
        backend = SqliteBackend(path)
        await backend.open()
        await backend.absorb([_session(index) for index in range(number)])
        await backend.aclose()

    asyncio.run(absorb())


def _session(index: int) -> StoredSession:
    return stored_session(
        id=UUID(int=index + 1),
        user_id=f"user {index % 10}",
        type="equity" if index % 2 else "macro",
        assets=("AAPL", f"asset {index % 50}"),
        tags=("tech",) if index % 4 else (),
        created_at=START + timedelta(seconds=index),
        expires_at=START + timedelta(hours=1, seconds=index),
        archived_at=START + timedelta(hours=2) if index % 3 == 0 else None,
        queries=(stored_query(), stored_query("news")),
        sections={"context": {"k": 1}},
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / "sessions.db"
    fill(path, 400)
    return path


@pytest.fixture(params=["as it is", "analysed"])
def connection(path: Path, request: pytest.FixtureRequest) -> Iterator[sqlite3.Connection]:
    """Without statistics, as perdure leaves it, and with those that somebody else may have gathered."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        if request.param == "analysed":
            connection.execute("ANALYZE")
            connection.execute("ANALYZE sqlite_schema")
        yield connection
        connection.execute("ROLLBACK")


def plan_of(connection: sqlite3.Connection, statement: str) -> list[str]:
    named = dict.fromkeys(re.findall(r":(\w+)", statement), 1)
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", named or [1] * statement.count("?")).fetchall()
    return [str(row[3]) for row in rows]


def scans(plan: list[str]) -> list[str]:
    """Steps that go through a whole table or index; through rows that the statement itself has made they may."""
    made_here = {"anon_1", "CONSTANT ROW", *re.findall(r"(?:CO-ROUTINE|MATERIALIZE) (\S+)", "\n".join(plan))}
    return [step for step in plan if step.startswith("SCAN") and step.removeprefix("SCAN ").split()[0] not in made_here]


@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - WHOLE_TABLES))
def test_no_statement_goes_through_a_whole_table(connection: sqlite3.Connection, name: str) -> None:
    plan = plan_of(connection, STATEMENTS[name])
    assert scans(plan) == []
    assert [step for step in plan if "TEMP B-TREE" in step] == []


@pytest.mark.parametrize("name", sorted(WHOLE_TABLES))
def test_what_retention_sweeps_is_nothing_but_tombstones_and_tickets(connection: sqlite3.Connection, name: str) -> None:
    assert plan_of(connection, STATEMENTS[name]) in (["SCAN session_tombstones"], ["SCAN session_tickets"])


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_is_read_off_the_labels_and_only_the_page_is_sorted(connection: sqlite3.Connection, name: str) -> None:
    plan = plan_of(connection, PAGES[name])

    assert scans(plan) == []
    sorts = [number for number, step in enumerate(plan) if "TEMP B-TREE" in step]
    assert len(sorts) <= 1  # the page, which its inner query has limited
    assert all(number == len(plan) - 1 for number in sorts)
    label_steps = [step for step in plan if re.match(r"SEARCH l[01] ", step)]
    assert label_steps
    assert all("USING PRIMARY KEY (label=? AND archived=?" in step for step in label_steps)
    assert any(step.startswith("SEARCH sessions USING INDEX") for step in plan)


def test_the_page_itself_is_not_sorted_to_find_it() -> None:
    """The limit stands within, on rows that come in order; the sort outside sees no more than those."""
    for statement in PAGES.values():
        inner = statement[statement.index("JOIN (") : statement.rindex(")")]
        assert "LIMIT :limit" in inner


# By counting ---------------------------------------------------------------------------------------

STEPS = 10
"""Instructions of SQLite's machine between two counts."""


def steps_of(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]) -> int:
    """How many instructions the work takes, to within `STEPS` for each statement."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += STEPS
        return 0

    work(connection)  # the first time also reads the schema
    connection.set_progress_handler(count, STEPS)
    work(connection)
    connection.set_progress_handler(None, 0)
    return counted


@pytest.fixture(scope="module")
def small_and_large(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("counting")
    fill(folder / "small.db", 500)
    fill(folder / "large.db", 5_000)
    return [folder / "small.db", folder / "large.db"]


def _page(**wanted: Any) -> Callable[[sqlite3.Connection], Any]:
    def work(connection: sqlite3.Connection) -> Any:
        page = reading.find_in(connection, SessionFilter(**wanted), None, 10)
        assert len(page) == 10
        assert page.next_cursor is not None
        return page

    return work


def _oldest(connection: sqlite3.Connection) -> None:
    """The last pages of the listing: those before are not gone through to come there."""
    below = (START + timedelta(seconds=100), UUID(int=101))
    page = reading.find_in(connection, SessionFilter(), below, 10)
    assert [summary.id.int for summary in page] == list(range(100, 90, -1))


def _claim(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    later, lease = START + timedelta(hours=3), timedelta(minutes=1)
    claimed = writing.claim_from(connection, now=later, lease=lease, limit=10, max_bytes=2**20)
    assert len(claimed) == 10
    connection.execute("ROLLBACK")


def _purge(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    later = START + timedelta(hours=3)
    purged = writing.purge_from(connection, archived_before=later, now=later, limit=10, among=None, dry_run=False)
    assert len(purged.session_ids) == 10
    connection.execute("ROLLBACK")


def _delete(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    assert writing.delete_from(connection, UUID(int=200), forget_at=START, owner=None)
    connection.execute("ROLLBACK")


def _apply(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    change = ChangeMaker().query(add_tags=("new",), set_entries={"context": {"k": "2"}})
    writing.apply_to(connection, UUID(int=200), change)
    connection.execute("ROLLBACK")


def _nothing(connection: sqlite3.Connection) -> None:
    pass


def _count(*labels: str) -> Callable[[sqlite3.Connection], Any]:
    """Finding the rarest of some labels, which looks at a thousand rows of each at most."""
    return lambda connection: reading._rarest_first(connection, list(labels))


COUNTS = {
    "a page of a user and an asset": _count("user:user 3", "asset:AAPL"),
    "a page of an asset, a tag and a type": _count("type:equity", "asset:AAPL", "tag:tech"),
}

WORK = {
    "a page of all": _page(),
    "a page of the archived": _page(archived=True),
    "a page of the active": _page(archived=False),
    "a page of one user": _page(user_id="user 3"),
    "a page of a user and an asset": _page(user_id="user 3", assets=("AAPL",)),
    "a page of an asset, a tag and a type": _page(assets=("AAPL",), tags=("tech",), session_type="equity"),
    "a page of a while ago": _page(created_before=START + timedelta(seconds=400)),
    "a page far down": _oldest,
    "ten claimed": _claim,
    "ten purged": _purge,
    "one deleted": _delete,
    "one changed": _apply,
}


@pytest.mark.parametrize("name", WORK)
def test_the_cost_is_that_of_the_page_and_not_of_the_store(small_and_large: list[Path], name: str) -> None:
    costs = []
    for path in small_and_large:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA foreign_keys=ON")
            costs.append(steps_of(connection, WORK[name]) - steps_of(connection, COUNTS.get(name, _nothing)))

    small, large = costs
    assert 0 < large <= small * 1.3 + 50 * STEPS


async def test_the_cost_of_a_change_is_not_that_of_the_history(tmp_path: Path) -> None:
    costs = []
    for length in (1, 1_000):
        backend = SqliteBackend(tmp_path / f"{length}.db")
        await backend.open()
        session = stored_session(queries=(stored_query(),) * length)
        await backend.create(session)
        await backend.aclose()

        def append(connection: sqlite3.Connection, session: StoredSession = session) -> None:
            connection.execute("BEGIN")
            writing.apply_to(connection, session.id, ChangeMaker().query())
            connection.execute("ROLLBACK")

        def newest(connection: sqlite3.Connection, session: StoredSession = session) -> None:
            found = reading.read_snapshot(connection, session.id, history=1)
            assert found is not None
            assert len(found.queries) == 1

        with closing(sqlite3.connect(backend.path, isolation_level=None)) as connection:
            costs.append([steps_of(connection, append), steps_of(connection, newest)])

    short, long = costs
    assert all(after <= before * 1.3 + 2 * STEPS for before, after in zip(short, long, strict=True))


def test_a_scan_would_be_noticed(small_and_large: list[Path]) -> None:
    """The counting itself: what goes through the table costs ten times as much in the larger one."""
    costs = []
    for path in small_and_large:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            statement = "SELECT count(*) FROM sessions WHERE user_id = 'user 3'"
            assert scans(plan_of(connection, statement)) == ["SCAN sessions"]
            costs.append(steps_of(connection, lambda connection: connection.execute(statement).fetchall()))  # noqa: B023
    assert costs[1] > costs[0] * 5
