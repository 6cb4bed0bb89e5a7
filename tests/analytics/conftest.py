"""Stores on memory and on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.store.stores import QUIET

from perdure import SessionStore, Settings
from perdure.testing import ManualClock


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> AsyncIterator[SessionStore]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/sessions.db"
    async with SessionStore.open(url, settings=Settings(**QUIET), clock=clock) as store:
        yield store
