"""Every test here runs on each Postgres that this machine has."""

from __future__ import annotations

import asyncio

import pytest

from perdure.backends.sql.postgres import PostgresBackend
from perdure.backends.sql.tables import metadata
from perdure.testing.servers import PostgresBinaries, PostgresServer, available_postgres_binaries

KEPT = "perdure_kept"
TABLES = ", ".join(f"perdure.{name}" for name in metadata.tables)


@pytest.fixture(scope="session", params=available_postgres_binaries(), ids=lambda binaries: binaries.name)
def postgres_binaries(request: pytest.FixtureRequest) -> PostgresBinaries:
    assert isinstance(request.param, PostgresBinaries)
    return request.param


@pytest.fixture(scope="session")
def made_url(postgres_server: PostgresServer) -> str:
    """A database with the schema in it, made once: making it takes longer than most tests."""
    url = postgres_server.clear(KEPT)
    asyncio.run(PostgresBackend(url).schema.create())
    return url


@pytest.fixture
def sessions_url(postgres_server: PostgresServer, made_url: str) -> str:
    """The URL of a database with the schema and no session in it."""
    if postgres_server.stopped:
        postgres_server.resume()
    postgres_server.start().execute(f"TRUNCATE {TABLES}", database=KEPT)
    return made_url
