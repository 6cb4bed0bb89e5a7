from __future__ import annotations

import pytest

from perdure.backends import SessionBackend
from perdure.backends.sql.postgres import PostgresBackend
from perdure.testing import BackendConformance, OpenBackend


class TestPostgresBackend(BackendConformance):
    @pytest.fixture
    def open_backend(self, sessions_url: str) -> OpenBackend:
        async def open_backend() -> SessionBackend:
            backend = PostgresBackend(sessions_url)
            await backend.open()
            return backend

        return open_backend
