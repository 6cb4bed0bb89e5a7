"""The backends that need no server against the model of the contract; see `tests/backends/machine`."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest
from tests.backends.machine.machine import BackendMachine, case

from perdure.backends import MemoryBackend, MemoryData, SessionBackend
from perdure.backends.sql.sqlite import SqliteBackend


class MemoryMachine(BackendMachine):
    """The reference implementation."""

    def fresh(self) -> SessionBackend:
        self.data = getattr(self, "data", MemoryData())
        return MemoryBackend(self.data)


class SqliteMachine(BackendMachine):
    """One file; its schema is copied, as making it takes longer than a whole run."""

    template: ClassVar[Path]

    def fresh(self) -> SessionBackend:
        if not hasattr(self, "folder"):
            self.folder = tempfile.TemporaryDirectory()
            shutil.copy(self.template, self.path)
        return SqliteBackend(self.path)

    @property
    def path(self) -> Path:
        return Path(self.folder.name) / "sessions.db"

    def teardown(self) -> None:
        with self.folder:
            super().teardown()
            with closing(sqlite3.connect(self.path)) as connection:
                stray = "SELECT count(*) FROM session_labels WHERE session_id NOT IN (SELECT id FROM sessions)"
                assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
                assert connection.execute(stray).fetchone() == (0,)


TestMemory = case(MemoryMachine, 100)
TestSqlite = case(SqliteMachine, 40)


@pytest.fixture(scope="module", autouse=True)
def template(empty_database: Path) -> None:
    SqliteMachine.template = empty_database
