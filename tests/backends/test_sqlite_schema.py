"""The schema: made, upgraded, compared with what is expected, dropped."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from importlib import metadata as distributions
from importlib import resources
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from tests.backends.opening import with_one_session

from perdure import SessionFilter
from perdure.backends.protocol import SchemaAdmin
from perdure.backends.sql import tables
from perdure.backends.sql.revisions import HEAD, KNOWN
from perdure.backends.sql.schema import SqliteSchema
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.errors import SchemaError
from perdure.testing import START, stored_session

MIGRATIONS = resources.files("perdure.backends.sql") / "migrations"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
async def made(path: Path) -> SqliteSchema:
    """The schema of a database with one session in it."""
    backend = SqliteBackend(path)
    await with_one_session(backend)
    return backend.schema


def run(path: Path, *statements: str) -> None:
    """Change the file behind everybody's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        for statement in statements:
            connection.execute(statement)


def names_in(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


# Migrations and metadata ---------------------------------------------------------------------------


def test_the_newest_revision_is_the_one_that_opening_a_file_asks_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [HEAD]
    assert {script.revision for script in scripts.walk_revisions()} == set(KNOWN)


async def test_the_migrations_make_what_the_tables_say(made: SqliteSchema) -> None:
    engine = create_engine(f"sqlite:///{made.path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "version_table": tables.VERSION_TABLE}
        )
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


async def test_the_migrations_make_the_very_tables_that_the_metadata_would(made: SqliteSchema, tmp_path: Path) -> None:
    """Word for word: Alembic compares neither STRICT nor WITHOUT ROWID nor the condition of an index."""
    other = tmp_path / "other.db"
    engine = create_engine(f"sqlite:///{other}")
    tables.metadata.create_all(engine)
    engine.dispose()

    def words(path: Path) -> dict[str, str]:
        with closing(sqlite3.connect(path)) as connection:
            words_of = "SELECT name, sql FROM sqlite_schema WHERE type <> 'trigger' AND sql IS NOT NULL"
            rows = connection.execute(words_of).fetchall()
        return {
            name: " ".join(sql.replace("sessions.", "").split()) for name, sql in rows if name != tables.VERSION_TABLE
        }

    assert words(made.path) == words(other)


def test_the_migrations_are_in_what_is_installed() -> None:
    assert (MIGRATIONS / "env.py").is_file()
    assert (MIGRATIONS / "versions" / "0001_sessions.py").is_file()
    try:
        files = distributions.files("perdure") or []
    except distributions.PackageNotFoundError:
        pytest.skip("perdure is not installed, but on the path")
    if any(str(file).endswith("perdure/__init__.py") for file in files):  # else an editable install, which has no files
        installed = {str(file) for file in files}
        assert any(name.endswith("migrations/env.py") for name in installed)
        assert any(name.endswith("migrations/versions/0001_sessions.py") for name in installed)


# Making and upgrading ------------------------------------------------------------------------------


async def test_making_the_schema_is_repeatable_and_loses_nothing(made: SqliteSchema, path: Path) -> None:
    await made.create()
    await made.create()

    backend = SqliteBackend(path)
    await backend.open()
    await backend.open()
    page = await backend.find(SessionFilter(), limit=5)
    await backend.aclose()
    await backend.aclose()
    assert len(page) == 1


async def test_it_is_made_once_by_whoever_comes_first(path: Path) -> None:
    await asyncio.gather(*(SqliteSchema(path).create() for _ in range(4)))
    assert await SqliteSchema(path).verify() == []


async def test_upgrading_what_is_up_to_date_changes_nothing(made: SqliteSchema) -> None:
    assert await made.upgrade() == (HEAD, HEAD)
    assert await made.upgrade() == (HEAD, HEAD)


@pytest.mark.parametrize("verb", ["upgrade", "verify", "drop"])
async def test_what_does_not_exist_is_not_made_by_asking_about_it(path: Path, verb: str) -> None:
    with pytest.raises(SchemaError, match="perdure db create"):
        await getattr(SqliteSchema(path), verb)()
    assert not path.exists()


async def test_a_database_of_somebody_else_is_told_from_an_older_one(path: Path) -> None:
    run(path, "CREATE TABLE theirs (id)")
    found = SqliteSchema(path)

    assert await found.verify() == [f"{path} holds nothing of perdure's; run `perdure db create`"]
    with pytest.raises(SchemaError, match="nothing of perdure's"):
        await found.upgrade()

    await found.create()
    assert await found.verify() == []
    assert "theirs" in names_in(path)


async def test_a_table_of_somebody_else_with_one_of_our_names_is_a_clear_error(path: Path) -> None:
    run(path, "CREATE TABLE sessions (id INTEGER PRIMARY KEY, token TEXT)", "INSERT INTO sessions VALUES (1, 'a')")

    with pytest.raises(SchemaError, match="sessions"):
        await SqliteBackend(path).open()

    assert names_in(path) == {"sessions"}  # the migration was undone as a whole
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM sessions").fetchall() == [(1, "a")]


async def test_the_revision_is_noted_apart_from_that_of_the_application(path: Path) -> None:
    run(path, "CREATE TABLE alembic_version (version_num)", "INSERT INTO alembic_version VALUES ('app-7')")
    await SqliteSchema(path).create()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("app-7",)]
    assert await SqliteSchema(path).verify() == []


def test_the_schema_of_a_file_is_for_operators() -> None:
    assert isinstance(SqliteBackend(Path("any.db")).schema, SchemaAdmin)


# Verifying -----------------------------------------------------------------------------------------

DAMAGES = {
    "a dropped index": (["DROP INDEX ix_sessions_due"], ["index ix_sessions_due on sessions is missing"]),
    "an added column": (
        ["ALTER TABLE sessions ADD COLUMN mood TEXT"],
        ["column sessions.mood is not expected"],
    ),
    "a dropped column": (
        ["ALTER TABLE session_tickets DROP COLUMN taken_at"],
        ["column session_tickets.taken_at is missing"],
    ),
    "a missing table": (["DROP TABLE session_tickets"], ["table session_tickets is missing"]),
    "a changed partial index": (
        [
            "DROP INDEX ix_sessions_due",
            "CREATE INDEX ix_sessions_due ON sessions (due_at, id) WHERE archived_at IS NOT NULL",
        ],
        ["index ix_sessions_due has the condition archived_at IS NOT NULL instead of"],
    ),
    "a partial index that is whole": (
        ["DROP INDEX ix_sessions_archived", "CREATE INDEX ix_sessions_archived ON sessions (archived_at, id)"],
        ["index ix_sessions_archived has the condition None instead of"],
    ),
    "an index on other columns": (
        [
            "DROP INDEX ix_sessions_due",
            "CREATE INDEX ix_sessions_due ON sessions (id) WHERE archived_at IS NULL",
        ],
        ["ix_sessions_due"],
    ),
    "an added index": (
        ["CREATE INDEX ix_mine ON sessions (user_id)"],
        ["index ix_mine on sessions is not expected"],
    ),
    "another type": (
        ["DROP TABLE sweeps", "CREATE TABLE sweeps (name TEXT NOT NULL PRIMARY KEY, started_at TEXT NOT NULL)"],
        ["column sweeps.started_at has type TEXT instead of"],
    ),
    "a column that may be empty": (
        ["DROP TABLE sweeps", "CREATE TABLE sweeps (name TEXT NOT NULL PRIMARY KEY, started_at INTEGER)"],
        ["column sweeps.started_at allows NULL"],
    ),
    "stray labels": (
        ["INSERT INTO session_labels VALUES ('tag:x', 0, 1, x'00'), ('tag:y', 0, 1, x'00')"],
        ["2 labels belong to no session"],
    ),
    "orphans": (
        ["INSERT INTO session_queries VALUES (x'00112233445566778899aabbccddeeff', 1, '{}')"],
        ["1 rows belong to no session, the first in session_queries"],
    ),
}


@pytest.mark.parametrize(("statements", "sentences"), DAMAGES.values(), ids=list(DAMAGES))
async def test_every_difference_is_named(made: SqliteSchema, statements: list[str], sentences: list[str]) -> None:
    assert await made.verify() == []

    run(made.path, *statements)

    found = await made.verify()
    assert len(found) >= len(sentences)
    for sentence in sentences:
        assert any(sentence in line for line in found), found


async def test_several_differences_are_named_together(made: SqliteSchema) -> None:
    for statements, _ in (DAMAGES["a dropped index"], DAMAGES["stray labels"], DAMAGES["an added column"]):
        run(made.path, *statements)
    assert len(await made.verify()) == 3


async def test_tables_of_others_are_none_of_our_business(made: SqliteSchema) -> None:
    run(made.path, "CREATE TABLE theirs (id)", "CREATE INDEX ix_theirs ON theirs (id)", "CREATE VIEW view AS SELECT 1")
    assert await made.verify() == []


async def test_a_version_table_that_holds_nothing_is_named(made: SqliteSchema) -> None:
    run(made.path, f"DELETE FROM {tables.VERSION_TABLE}")
    with pytest.raises(SchemaError):
        await SqliteBackend(made.path).open()


# Dropping ------------------------------------------------------------------------------------------


async def test_dropping_removes_the_file_and_what_lies_beside_it(made: SqliteSchema) -> None:
    backend = SqliteBackend(made.path)
    await backend.open()
    await backend.create(stored_session())
    await backend.aclose()

    await made.drop()

    assert list(made.path.parent.iterdir()) == []
    await made.create()
    assert await made.verify() == []


async def test_dropping_leaves_the_tables_of_others_alone(made: SqliteSchema) -> None:
    run(made.path, "CREATE TABLE theirs (id)", "INSERT INTO theirs VALUES (7)")

    await made.drop()

    assert names_in(made.path) == {"theirs"}
    with closing(sqlite3.connect(made.path)) as connection:
        assert connection.execute("SELECT id FROM theirs").fetchall() == [(7,)]


async def test_a_file_in_which_nothing_is_ours_is_not_dropped(path: Path) -> None:
    run(path, "CREATE TABLE sessions (theirs)")
    await SqliteSchema(path).drop()
    assert names_in(path) == {"sessions"}


async def test_a_database_of_a_newer_perdure_is_not_dropped(made: SqliteSchema) -> None:
    run(made.path, f"UPDATE {tables.VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(SchemaError, match="9999"):
        await made.drop()
    assert "session_queries" in names_in(made.path)


async def test_a_dropped_database_is_no_longer_there_for_whoever_has_it_open(made: SqliteSchema) -> None:
    backend = SqliteBackend(made.path)
    await backend.open()
    run(made.path, "CREATE TABLE theirs (id)")  # so that the file stays
    await made.drop()
    with pytest.raises(SchemaError, match="perdure db create"):
        await backend.read(stored_session(created_at=START).id)
    await backend.aclose()
