"""Opening a file that others have open."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from perdure.backends.sql import connection
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.testing import stored_session


async def test_opening_waits_while_another_connection_has_the_file_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    first = SqliteBackend(path)
    await first.open()
    await first.create(stored_session())
    await first.aclose()
    other = sqlite3.connect(path, check_same_thread=False)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN IMMEDIATE")  # with that mode, nobody else may even read: as while a file is recovered
    timer = threading.Timer(0.3, other.close)
    timer.start()

    thread = await connection.DatabaseThread.connect(path, busy_timeout_s=0)

    assert await thread.run(lambda open_: open_.execute("SELECT count(*) FROM sessions").fetchone()) == (1,)
    await thread.close()
    timer.join()


async def test_once_open_the_connection_that_writes_does_not_wait_inside_sqlite(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "sessions.db")
    await backend.open()
    thread = await connection.DatabaseThread.connect(backend.path, busy_timeout_s=0)

    (timeout,) = await thread.run(lambda open_: open_.execute("PRAGMA busy_timeout").fetchone())

    assert timeout == 0
    await thread.close()
    await backend.aclose()
