from __future__ import annotations

from pathlib import Path

import pytest

from perdure.backends import SessionBackend
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.testing import BackendConformance, OpenBackend


class TestSqliteBackend(BackendConformance):
    @pytest.fixture
    def open_backend(self, database: Path) -> OpenBackend:
        async def open_backend() -> SessionBackend:
            backend = SqliteBackend(database)
            await backend.open()
            return backend

        return open_backend
