"""Real servers for whatever test asks for them, and SQLite files with the schema in them."""

from __future__ import annotations

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from perdure.backends.sql.sqlite import SqliteBackend

pytest_plugins = ["perdure.testing.plugin"]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema in it: copying it is faster than making it."""
    path = tmp_path_factory.mktemp("empty") / "sessions.db"
    # On a thread of its own: whoever asks for it first may be in a loop, where another one cannot be run.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(SqliteBackend(path).schema.create())).result()
    return path


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> Path:
    """A SQLite file of the test's own, with the schema and nothing else in it."""
    return Path(shutil.copyfile(empty_database, tmp_path / "sessions.db"))
