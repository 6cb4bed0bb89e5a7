"""Every test of the store runs on memory and on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.store.stores import Stores

from perdure import Session, SessionStore
from perdure.backends import MemoryBackend, MemoryData, SessionBackend
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.testing import ManualClock


@pytest.fixture(autouse=True)
def _a_home_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


@pytest.fixture(params=["memory", "sqlite"])
async def stores(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Stores]:
    if request.param == "sqlite":
        path: Path = request.getfixturevalue("database")

        def backend() -> SessionBackend:
            return SqliteBackend(path)
    else:
        data = MemoryData()

        def backend() -> SessionBackend:
            return MemoryBackend(data)

    stores = Stores(backend, clock)
    yield stores
    await stores.aclose()


@pytest.fixture
async def store(stores: Stores) -> SessionStore:
    return await stores.open()


@pytest.fixture
async def session(store: SessionStore) -> Session:
    return await store.create_session(["AAPL", "GOOGL"], "comparative", user_id="ann", ttl_hours=24, tags=["tech"])


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged while the test ran."""
    with capture_logs() as entries:
        yield entries
