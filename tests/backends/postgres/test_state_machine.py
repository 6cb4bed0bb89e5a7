"""Postgres against a small model of the contract: random work of several writers, with lost answers and restarts."""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis.stateful import run_state_machine_as_test
from tests.backends.machine.machine import BackendMachine, effort
from tests.backends.postgres.conftest import KEPT
from tests.backends.servers import EMPTY
from tests.effort import LONG

from perdure.backends import SessionBackend
from perdure.backends.sql.postgres import PostgresBackend
from perdure.testing.servers import PostgresServer


class PostgresMachine(BackendMachine):
    """One schema, emptied for each run."""

    server: ClassVar[PostgresServer]

    def fresh(self) -> SessionBackend:
        if not hasattr(self, "begun"):
            self.begun = True
            self.server.execute(EMPTY, database=KEPT)
        return PostgresBackend(self.server.url_of(KEPT))

    def teardown(self) -> None:
        super().teardown()
        stray = "SELECT count(*) FROM perdure.{} WHERE session_id NOT IN (SELECT id FROM perdure.sessions)"
        for table in ("session_labels", "session_entries", "session_queries"):
            assert self.server.execute(stray.format(table), database=KEPT) == [(0,)]


@pytest.mark.timeout(3_600 if LONG else 300)
def test_postgres_does_what_the_model_does(postgres_server: PostgresServer, made_url: str) -> None:
    PostgresMachine.server = postgres_server
    run_state_machine_as_test(PostgresMachine, settings=effort(15, in_soak=300))
