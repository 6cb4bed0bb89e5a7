"""Empty tiers on real servers; the schema of the database is made once, which takes longer than most tests."""

from __future__ import annotations

import pytest
from tests.backends.servers import EMPTY, with_schema

from perdure.testing.plugin import running
from perdure.testing.servers import PostgresServer

KEPT = "perdure_tiers"


@pytest.fixture(scope="session")
def made_url(postgres_server: PostgresServer) -> str:
    """A database with the schema in it."""
    return with_schema(postgres_server, KEPT)


@pytest.fixture
def archive_url(postgres_server: PostgresServer, made_url: str) -> str:
    """The URL of a database with the schema and no session in it, on a Postgres that runs."""
    running(postgres_server).execute(EMPTY, database=KEPT)
    return made_url
