from __future__ import annotations

import pytest

from perdure.backends import SessionBackend
from perdure.backends.sql.postgres import PostgresBackend, applying
from perdure.testing import BackendConformance, OpenBackend


class TestPostgresBackend(BackendConformance):
    @pytest.fixture
    def open_backend(self, sessions_url: str) -> OpenBackend:
        async def open_backend() -> SessionBackend:
            backend = PostgresBackend(sessions_url)
            await backend.open()
            return backend

        return open_backend


class TestEveryChangeAsOneOfMany(TestPostgresBackend):
    """What only appends has a statement of its own where it comes alone; here it goes the way of all others."""

    @pytest.fixture(autouse=True)
    def _no_short_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(applying, "_only_appends", lambda change: False)
