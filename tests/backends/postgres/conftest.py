"""The contract is tested on each Postgres that this machine has, everything else on one; in a soak all on each."""

from __future__ import annotations

import pytest
from tests.backends.servers import EMPTY, with_schema
from tests.effort import LONG

from perdure.testing.plugin import running
from perdure.testing.servers import PostgresBinaries, PostgresServer, available_postgres_binaries

KEPT = "perdure_kept"


@pytest.fixture(
    scope="session", params=available_postgres_binaries()[: None if LONG else 1], ids=lambda binaries: binaries.name
)
def postgres_binaries(request: pytest.FixtureRequest) -> PostgresBinaries:
    assert isinstance(request.param, PostgresBinaries)
    return request.param


@pytest.fixture(scope="session")
def made_url(postgres_server: PostgresServer) -> str:
    """A database with the schema in it, made once: making it takes longer than most tests."""
    return with_schema(postgres_server, KEPT)


@pytest.fixture
def sessions_url(postgres_server: PostgresServer, made_url: str) -> str:
    """The URL of a database with the schema and no session in it."""
    running(postgres_server).execute(EMPTY, database=KEPT)
    return made_url
