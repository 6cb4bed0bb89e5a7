"""The schema: made, upgraded, compared with what is expected, dropped."""

from __future__ import annotations

import asyncio

import pytest
from tests.backends.opening import with_one_session
from tests.backends.postgres.living import live_in

from perdure import SessionFilter
from perdure.backends.protocol import SchemaAdmin
from perdure.backends.sql.postgres import PostgresBackend
from perdure.backends.sql.postgres.schema import PostgresSchema
from perdure.backends.sql.revisions import HEAD
from perdure.errors import SchemaError
from perdure.testing.plugin import DATABASE
from perdure.testing.servers import PostgresServer


def schema_of(url: str, name: str | None = None) -> PostgresSchema:
    return PostgresBackend(url, schema=name).schema


@pytest.fixture
async def made(postgres_url: str) -> PostgresSchema:
    """The schema of a database with one session in it."""
    backend = PostgresBackend(postgres_url)
    await with_one_session(backend)
    return backend.schema


def tables_in(server: PostgresServer, schema: str = "perdure") -> set[str]:
    rows = server.execute(f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'", database=DATABASE)
    return {name for (name,) in rows}


# Making and upgrading ------------------------------------------------------------------------------


async def test_making_the_schema_is_repeatable_and_loses_nothing(made: PostgresSchema, postgres_url: str) -> None:
    await made.create()
    assert await made.upgrade() == (HEAD, HEAD)

    backend = PostgresBackend(postgres_url)
    await backend.open()
    page = await backend.find(SessionFilter(), limit=5)
    await backend.aclose()
    assert len(page) == 1
    assert await made.verify() == []


async def test_it_is_made_once_by_whoever_comes_first(postgres_url: str) -> None:
    await asyncio.gather(*(schema_of(postgres_url).create() for _ in range(4)))
    assert await schema_of(postgres_url).verify() == []


async def test_what_does_not_exist_is_not_made_by_asking_about_it(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    missing = schema_of(postgres_url)

    assert await missing.verify() == ["the schema perdure holds nothing of perdure's; run `perdure db create`"]
    await missing.drop()
    with pytest.raises(SchemaError, match="perdure db create"):
        await missing.upgrade()
    with pytest.raises(SchemaError, match="perdure db create"):
        await PostgresBackend(postgres_url, migrate=False).open()

    assert tables_in(postgres_server) == set()


async def test_a_table_of_somebody_else_with_one_of_our_names_is_a_clear_error(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    postgres_server.execute("CREATE TABLE sessions (token text)", database=DATABASE)

    with pytest.raises(SchemaError, match=r"\?schema=name"):
        await PostgresBackend(postgres_url, schema="public").open()

    assert tables_in(postgres_server, "public") == {"sessions"}  # the migration was undone as a whole


async def test_an_older_schema_is_told_and_a_newer_one_refused(
    made: PostgresSchema, postgres_url: str, postgres_server: PostgresServer
) -> None:
    postgres_server.execute("UPDATE perdure.perdure_version SET version_num = '0001'", database=DATABASE)
    assert await made.verify() == [f"revision 0001 instead of {HEAD}; run `perdure db upgrade`"]
    with pytest.raises(SchemaError, match="perdure db upgrade"):
        await PostgresBackend(postgres_url, migrate=False).open()

    postgres_server.execute("UPDATE perdure.perdure_version SET version_num = '9999'", database=DATABASE)
    for verb in (made.create, made.upgrade, made.verify, made.drop, PostgresBackend(postgres_url).open):
        with pytest.raises(SchemaError, match=r"revision 9999, newer than .*; upgrade perdure"):
            await verb()
    assert "session_queries" in tables_in(postgres_server)


def test_the_schema_of_a_database_is_for_operators() -> None:
    assert isinstance(schema_of("postgresql://host"), SchemaAdmin)


async def test_a_whole_life_can_be_lived_in_a_schema_of_any_name(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    await live_in(f"{postgres_url}?schema=of%20my%20%22own%22")

    own = schema_of(postgres_url, 'of my "own"')
    assert await own.verify() == []
    assert tables_in(postgres_server) == tables_in(postgres_server, "public") == set()
    await own.drop()
    assert tables_in(postgres_server, 'of my "own"') == set()


# Verifying -----------------------------------------------------------------------------------------

DAMAGES = {
    "a dropped index": (["DROP INDEX ix_sessions_due"], "index ix_sessions_due on sessions is missing"),
    "an added index": (
        ["CREATE INDEX ix_mine ON sessions (user_id)"],
        "index ix_mine on sessions is not expected",
    ),
    "an index on other columns": (
        ["DROP INDEX ix_sessions_due", "CREATE INDEX ix_sessions_due ON sessions (id) WHERE due_at IS NOT NULL"],
        "index ix_sessions_due on sessions is missing",
    ),
    "a changed partial index": (
        ["DROP INDEX ix_sessions_due", "CREATE INDEX ix_sessions_due ON sessions (due_at, id) WHERE due_at > 7"],
        "index ix_sessions_due has the condition (due_at > 7) instead of sessions.due_at IS NOT NULL",
    ),
    "a partial index that is whole": (
        ["DROP INDEX ix_sessions_archived", "CREATE INDEX ix_sessions_archived ON sessions (archived_at, id)"],
        "index ix_sessions_archived has the condition None instead of sessions.archived_at IS NOT NULL",
    ),
    "an index that was not built to its end": (
        ["UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_sessions_due'::regclass"],
        "index ix_sessions_due was not built to its end; run REINDEX INDEX",
    ),
    "an added column": (["ALTER TABLE sessions ADD mood text"], "column sessions.mood is not expected"),
    "a dropped column": (["ALTER TABLE session_tickets DROP taken_at"], "column session_tickets.taken_at is missing"),
    "a missing table": (["DROP TABLE session_tickets"], "table session_tickets is missing"),
    "text that was shortened": (
        ["ALTER TABLE sessions ALTER user_id TYPE varchar(20)"],
        "column sessions.user_id has type VARCHAR(20) instead of TEXT",
    ),
    "names that cannot be asked for": (
        ["ALTER TABLE sessions ALTER assets TYPE json"],
        "column sessions.assets has type JSON instead of JSONB",
    ),
    "numbers that are too small": (
        ["ALTER TABLE sessions ALTER created_at TYPE integer USING 0"],
        "column sessions.created_at has type INTEGER instead of BIGINT",
    ),
    "a column that may be empty": (
        ["ALTER TABLE sessions ALTER head DROP NOT NULL"],
        "column sessions.head allows NULL",
    ),
    "a column that may not be empty": (
        ["ALTER TABLE sessions ALTER user_id SET NOT NULL"],
        "column sessions.user_id forbids NULL",
    ),
    "keys that the locale compares": (
        ['ALTER TABLE session_labels ALTER label TYPE text COLLATE "default"'],
        "column session_labels.label is compared by the default instead of C",
    ),
    "no primary key": (
        ["ALTER TABLE session_entries DROP CONSTRAINT session_entries_pkey"],
        "the primary key of session_entries is missing instead of (session_id, section, key)",
    ),
    "another primary key": (
        [
            "ALTER TABLE session_entries DROP CONSTRAINT session_entries_pkey",
            "ALTER TABLE session_entries ADD PRIMARY KEY (session_id, key, section)",
        ],
        "the primary key of session_entries is (session_id, key, section) instead of (session_id, section, key)",
    ),
    "a rule that forbids what is allowed": (
        ["ALTER TABLE session_queries ADD CONSTRAINT mine UNIQUE (session_id, body)"],
        "constraint mine on session_queries is not expected",
    ),
    "a key that checks every row": (
        ["ALTER TABLE session_queries ADD CONSTRAINT mine FOREIGN KEY (session_id) REFERENCES sessions (id)"],
        "constraint mine on session_queries is not expected",
    ),
    "changes that nobody numbers": (
        ["ALTER TABLE session_metrics_changes ALTER id DROP DEFAULT"],
        "column session_metrics_changes.id is not numbered: it has no sequence for its default",
    ),
    "a dropped trigger": (
        ["DROP TRIGGER session_metrics_came ON session_metrics"],
        "trigger session_metrics_came on session_metrics is missing",
    ),
    "a trigger that sleeps": (
        ["ALTER TABLE session_metrics DISABLE TRIGGER session_metrics_moved"],
        "trigger session_metrics_moved on session_metrics is missing",
    ),
    "a dropped function": (["DROP FUNCTION weight_of"], "function weight_of(session uuid, named json) is missing"),
    "another function": (
        ["CREATE OR REPLACE FUNCTION weight_of(session uuid, named json) RETURNS bigint LANGUAGE sql AS 'SELECT 1'"],
        "function weight_of is another one than this perdure expects",
    ),
    "stray labels": (
        ["UPDATE session_labels SET session_id = gen_random_uuid()"],
        "5 labels belong to no session",
    ),
    "stray queries": (
        ["UPDATE session_queries SET session_id = gen_random_uuid()"],
        "1 queries belong to no session",
    ),
    "an archived session that does not count": (
        ["UPDATE sessions SET archived_at = 1, due_at = NULL"],
        "1 archived sessions do not count in statistics",
    ),
}


@pytest.mark.parametrize(("statements", "sentence"), DAMAGES.values(), ids=list(DAMAGES))
async def test_every_difference_is_named(
    made: PostgresSchema, postgres_server: PostgresServer, statements: list[str], sentence: str
) -> None:
    damage = "; ".join(statements).replace("'", "''")

    postgres_server.execute(
        f"DO $$ BEGIN SET LOCAL search_path TO perdure; EXECUTE '{damage}'; END $$", database=DATABASE
    )

    assert sentence in await made.verify()


async def test_several_differences_are_named_together_and_those_of_others_not_at_all(
    made: PostgresSchema, postgres_server: PostgresServer
) -> None:
    postgres_server.execute(
        "CREATE TABLE perdure.theirs (id integer)",
        "CREATE INDEX ix_theirs ON perdure.theirs (id)",
        "CREATE FUNCTION perdure.theirs() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        database=DATABASE,
    )
    assert await made.verify() == []

    postgres_server.execute(
        "DROP INDEX perdure.ix_sessions_due",
        "ALTER TABLE perdure.sessions ADD mood text",
        "DROP FUNCTION perdure.weight_of",
        database=DATABASE,
    )
    assert len(await made.verify()) == 3


# Dropping ------------------------------------------------------------------------------------------


async def test_dropping_removes_the_schema_and_it_can_be_made_again(
    made: PostgresSchema, postgres_server: PostgresServer
) -> None:
    await made.drop()

    assert postgres_server.execute("SELECT FROM pg_namespace WHERE nspname = 'perdure'", database=DATABASE) == []
    await made.create()
    assert await made.verify() == []


async def test_dropping_leaves_what_is_of_others_alone(made: PostgresSchema, postgres_server: PostgresServer) -> None:
    postgres_server.execute(
        "CREATE TABLE perdure.theirs AS SELECT 7 AS id",
        "CREATE FUNCTION perdure.theirs() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        database=DATABASE,
    )

    await made.drop()

    assert tables_in(postgres_server) == {"theirs"}
    assert postgres_server.execute("SELECT id, perdure.theirs() FROM perdure.theirs", database=DATABASE) == [(7, 1)]
