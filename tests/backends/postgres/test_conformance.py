from __future__ import annotations

import pytest

from perdure.backends import SessionBackend
from perdure.backends.sql.postgres import PostgresBackend, applying
from perdure.testing import BackendConformance, OpenBackend
from perdure.testing.conformance.applying import ApplyingPromises
from perdure.testing.conformance.concurrency import ConcurrencyPromises
from perdure.testing.conformance.conditions import ConditionPromises
from perdure.testing.conformance.repeats import RepeatPromises
from perdure.testing.conformance.standing import StandingPromises
from perdure.testing.servers import available_postgres_binaries


class _OnPostgres:
    @pytest.fixture
    def open_backend(self, sessions_url: str) -> OpenBackend:
        async def open_backend() -> SessionBackend:
            backend = PostgresBackend(sessions_url)
            await backend.open()
            return backend

        return open_backend


@pytest.mark.parametrize(
    "postgres_binaries",
    available_postgres_binaries(),
    ids=lambda binaries: binaries.name,
    indirect=True,
    scope="session",
)
class TestPostgresBackend(_OnPostgres, BackendConformance):
    """All of the contract."""


class TestEveryChangeAsOneOfMany(
    _OnPostgres, ApplyingPromises, StandingPromises, ConditionPromises, RepeatPromises, ConcurrencyPromises
):
    """A change that only appends has a statement of its own where it comes alone; here it goes as all others do."""

    backend = BackendConformance.backend
    other = BackendConformance.other

    @pytest.fixture(autouse=True)
    def _no_short_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(applying, "_only_appends", lambda change: False)
