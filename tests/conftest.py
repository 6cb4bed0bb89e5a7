"""What every test has around it, and may ask for: real servers, SQLite files with the schema, a clock."""

from __future__ import annotations

import asyncio
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog

from perdure.backends.sql.sqlite import SqliteBackend
from perdure.testing import ManualClock

pytest_plugins = ["perdure.testing.plugin"]


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings in the environment, and nobody who configured logging, whatever is outside or was before."""
    for name in list(os.environ):
        if name.upper().startswith("PERDURE_"):
            monkeypatch.delenv(name)
    structlog.reset_defaults()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema in it: copying it is faster than making it."""
    path = tmp_path_factory.mktemp("empty") / "sessions.db"
    with ThreadPoolExecutor(1) as thread:  # asynchronous fixtures ask for it too, and in theirs a loop is running
        thread.submit(asyncio.run, SqliteBackend(path).schema.create()).result()
    return path


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> Path:
    """A SQLite file of the test's own, with the schema and nothing else in it."""
    return Path(shutil.copyfile(empty_database, tmp_path / "sessions.db"))
