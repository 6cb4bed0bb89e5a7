"""Servers, databases and roles as operators find them: refused with a reason, or warned of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress

import asyncpg
import pytest
from tests.backends.opening import health_once_open
from tests.backends.servers import with_schema
from tests.cli.running import CommandLine

from perdure.backends import BackendHealth
from perdure.backends.sql.postgres import PostgresBackend, schema
from perdure.errors import BackendUnavailableError, ConfigurationError, SchemaError
from perdure.testing import START
from perdure.testing.plugin import DATABASE
from perdure.testing.servers import PostgresBinaries, PostgresServer

# Refused --------------------------------------------------------------------------------------------


async def test_nobody_at_the_address_is_a_clear_error() -> None:
    backend = PostgresBackend("postgresql://127.0.0.1:1/db")

    with pytest.raises(BackendUnavailableError, match="postgres: the server cannot be reached"):
        await backend.open()


async def test_a_database_that_is_not_there_is_named(postgres_server: PostgresServer) -> None:
    with pytest.raises(SchemaError, match='database "nowhere" does not exist; create it with `createdb`'):
        await PostgresBackend(postgres_server.url_of("nowhere")).open()


async def test_a_url_that_the_driver_cannot_read_does_not_show_its_password() -> None:
    with pytest.raises(ConfigurationError, match="cannot be") as caught:
        await PostgresBackend("postgresql://ann:swordfish@host:port/db").open()
    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_cannot_keep_every_character_is_refused(
    postgres_server: PostgresServer, encoding: str
) -> None:
    name = f"in_{encoding}"
    with suppress(asyncpg.DuplicateDatabaseError):
        postgres_server.execute(f"CREATE DATABASE \"{name}\" ENCODING '{encoding}' LC_COLLATE 'C' TEMPLATE template0")

    with pytest.raises(SchemaError, match=f"must have the encoding UTF8, not {encoding}; create it anew"):
        await PostgresBackend(postgres_server.url_of(name)).open()


async def test_behind_a_pooler_transactions_that_see_the_past_are_refused(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    """Elsewhere each connection says what it needs."""
    postgres_server.execute(
        f"ALTER DATABASE {DATABASE} SET default_transaction_isolation TO 'repeatable read'", database=DATABASE
    )
    try:
        with pytest.raises(SchemaError, match="must be read committed, not repeatable read: ALTER ROLE"):
            await PostgresBackend(postgres_url, prepared=False).open()
        backend = PostgresBackend(postgres_url)
        await backend.open()
        await backend.aclose()
    finally:
        postgres_server.execute(f"ALTER DATABASE {DATABASE} RESET ALL", database=DATABASE)


async def test_a_server_that_is_too_old_is_told(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "OLDEST_SERVER", 990_000)

    with pytest.raises(SchemaError, match=r"or newer is needed; this server is \d+"):
        await PostgresBackend(postgres_url).open()


async def test_a_role_that_may_not_make_the_schema_is_told_who_may(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    postgres_server.execute("DROP ROLE IF EXISTS maker", "CREATE ROLE maker LOGIN")

    with pytest.raises(SchemaError, match="the role may not make or upgrade the schema perdure; run `perdure db"):
        await PostgresBackend(postgres_url.replace("perdure@", "maker@")).open()


async def test_a_socket_of_the_machine_is_served(careless: PostgresServer) -> None:
    assert (await health_at(careless.socket_url)).ok


# Warned of ------------------------------------------------------------------------------------------


async def health_at(url: str) -> BackendHealth:
    return await health_once_open(PostgresBackend(url))


@pytest.fixture
def made(postgres_url: str, postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database with the schema, whose settings are reset in the end."""
    yield with_schema(postgres_server, DATABASE)
    postgres_server.execute(f"ALTER DATABASE {DATABASE} RESET ALL", "ALTER ROLE perdure RESET ALL")


async def test_a_server_that_is_set_up_well_gives_no_warning(made: str) -> None:
    assert (await health_at(made)).warnings == ()


@pytest.mark.parametrize("whose", [f"DATABASE {DATABASE}", "ROLE perdure"])
async def test_commits_that_do_not_wait_for_the_disk_are_warned_of(
    made: str, postgres_server: PostgresServer, whose: str
) -> None:
    postgres_server.execute(f"ALTER {whose} SET synchronous_commit TO off")

    (warning,) = (await health_at(made)).warnings

    assert warning.startswith("synchronous_commit is off: a crash of the server loses what was acknowledged")


async def test_commits_that_wait_for_this_disk_alone_are_enough_where_there_is_no_standby(
    made: str, postgres_server: PostgresServer
) -> None:
    postgres_server.execute(f"ALTER DATABASE {DATABASE} SET synchronous_commit TO local")
    assert (await health_at(made)).warnings == ()


async def test_a_database_that_takes_no_writes_is_warned_of(made: str, postgres_server: PostgresServer) -> None:
    postgres_server.execute(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only TO on")

    (warning,) = (await health_at(made)).warnings

    assert warning.startswith("the server takes no writes")


@pytest.fixture(scope="module")
def careless(postgres_binaries: PostgresBinaries) -> Iterator[PostgresServer]:
    """A server that trusts its machine, and is small."""
    config = {"fsync": "off", "full_page_writes": "off", "superuser_reserved_connections": "0"}
    with PostgresServer(binaries=postgres_binaries, max_connections=10, unix_socket=True, config=config) as server:
        yield server


@pytest.fixture
def in_an_empty_folder(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))


async def test_what_a_crash_would_damage_and_what_runs_out_is_warned_of(careless: PostgresServer) -> None:
    await PostgresBackend(careless.url).schema.create()
    async with AsyncExitStack() as stack:
        for _ in range(9):
            others = await asyncpg.connect(careless.url, ssl=False)
            stack.push_async_callback(others.close)
        backend = PostgresBackend(careless.url, migrate=False)
        backend._connections.open()  # opening would need a connection more
        warnings = (await backend.health(now=START)).warnings
        await backend.aclose()

    assert [warning.partition(":")[0] for warning in warnings] == [
        "fsync is off",
        "full_page_writes is off",
        "10 of the server's 10 connections are in use",
    ]


@pytest.mark.usefixtures("in_an_empty_folder")
def test_the_doctor_says_where_the_server_differs(made: str, postgres_server: PostgresServer) -> None:
    postgres_server.execute(f"ALTER DATABASE {DATABASE} SET synchronous_commit TO off")

    examination = CommandLine(made).json("doctor")

    (finding,) = [found for found in examination["findings"] if found["level"] == "warning"]
    assert "synchronous_commit is off" in finding["what"]
