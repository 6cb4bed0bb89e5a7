"""Every test of the verbs runs on memory and on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sync.stores import QUIET, url_of

from perdure import Session
from perdure.sync import SessionStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SessionStore]:
    with SessionStore.open("memory://" if request.param == "memory" else url_of(tmp_path), settings=QUIET) as store:
        yield store


@pytest.fixture
def session(store: SessionStore) -> Session:
    return store.create_session(["AAPL"], "equity", "ann", tags=["t"])
