"""One SQLite connection on a thread of its own: work goes there whole, in one hop, and what waits shares a commit."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from perdure.backends.sql.meanings import NAME, mapped
from perdure.backends.sql.threads import WorkThread
from perdure.errors import BackendClosedError, PerdureError

__all__ = ["DatabaseThread", "Writer", "begin", "rollback"]

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

BUSY_PAUSE_S = 0.002
"""Longest pause before BEGIN is tried again. SQLite's own back-off starves one of two busy processes for a second."""

OPENING_PATIENCE_S = 30.0
"""How long opening waits for a process that recovers or closes the file."""

BATCH = 512
"""Most pieces of work that share one commit."""


class DatabaseThread:
    """A SQLite connection on a thread of its own, to which work goes whole: one hop, however many statements.

    A driver that awaits every statement hops for each; a hop costs more than most statements do.
    """

    def __init__(self) -> None:
        self._thread = WorkThread("perdure-sqlite")
        self._connection: sqlite3.Connection | None = None

    @classmethod
    async def connect(cls, path: Path, *, busy_timeout_s: float) -> Self:
        """Open `path`, which must exist, with what durability and integrity ask for.

        Raises:
            BackendError: as `mapped` says.
        """
        opened = cls()
        try:
            opened._connection = await opened._thread.run(partial(_connect, path, busy_timeout_s))
        except BaseException as error:
            opened._thread.end(wait=False)
            if isinstance(error, sqlite3.Error):
                raise mapped(error) from error
            raise
        return opened

    async def run(self, work: Work[T]) -> T:
        """Run `work` with the connection, on its thread.

        Raises: what `work` raises, driver errors as `BackendError`.
        """
        try:
            return await self._thread.run(partial(work, self._open_connection))
        except sqlite3.Error as error:
            raise mapped(error) from error

    def start(self, work: Work[T], landed: Callable[[T], None]) -> None:
        """Run `work` on the thread, and `landed` with its result in the running loop; `work` must not raise."""
        self._thread.start(partial(work, self._open_connection), landed)

    @property
    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise BackendClosedError(NAME)
        return self._connection

    async def close(self) -> None:
        """Close the connection once all work is done, and end the thread."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._thread.run(connection.close)
        self._thread.end()


def _connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=OPENING_PATIENCE_S, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA cache_size=-16000")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        # Only now: while another process recovers or closes the file, even reading it has to wait.
        connection.execute(f"PRAGMA busy_timeout={round(busy_timeout_s * 1000)}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def begin(connection: sqlite3.Connection, *, patience_s: float) -> None:
    """Take the write lock, trying again after short random pauses, so that several processes get their fair turns.

    Raises:
        sqlite3.OperationalError: another process held it for longer than `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0, BUSY_PAUSE_S))


class Writer:
    """Runs write work in the order given; what is waiting when a commit ends shares the next one.

    Each piece is atomic: one that raises leaves nothing behind and disturbs no other. A caller that is cancelled
    leaves its work in the queue.
    """

    def __init__(self, thread: DatabaseThread, *, patience_s: float) -> None:
        self._thread = thread
        self._patience_s = patience_s
        self._waiting: list[tuple[Work[Any], asyncio.Future[Any]]] = []
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self, work: Work[T]) -> T:
        """The result of `work`, once it is committed.

        Raises: what `work` raises, driver errors as `BackendError`.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._idle.is_set():
            self._idle.clear()
            self._start_batch()
        return await future

    async def finish(self) -> None:
        """Wait until everything given so far is committed."""
        await self._idle.wait()

    def _start_batch(self) -> None:
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        work = partial(_commit, [work for work, _ in batch], self._patience_s)
        self._thread.start(work, partial(self._landed, [future for _, future in batch]))

    def _landed(self, futures: list[asyncio.Future[Any]], outcomes: list[Any]) -> None:
        if self._waiting:
            self._start_batch()  # first, so that the disk works while the callers go on
        else:
            self._idle.set()
        for future, outcome in zip(futures, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


def _commit(batch: list[Work[Any]], patience_s: float, connection: sqlite3.Connection) -> list[Any]:
    """Run the batch in one transaction; an outcome is a result or an exception."""
    if len(batch) == 1:
        return [_commit_one(batch[0], patience_s, connection)]
    try:
        begin(connection, patience_s=patience_s)
    except sqlite3.Error as error:
        return [mapped(error) for _ in batch]  # it concerns the whole batch: none of it waits for the lock again
    try:
        outcomes = [_attempt(work, connection) for work in batch]
        connection.execute("COMMIT")
        return outcomes
    except Exception:  # noqa: BLE001 (each piece is tried again, and its waiter told)
        # What stopped the batch may concern only one of it (a value too large for what is left of the disk, say).
        rollback(connection)
        return [_commit_one(work, patience_s, connection) for work in batch]


def _attempt(work: Work[Any], connection: sqlite3.Connection) -> Any:
    """The result of a piece, or its refusal. One that refuses after it has written ends the batch instead.

    Pieces check before they write, so that this needs no savepoint around each: with other threads busy, two more
    statements for each piece cost a fifth of the throughput.
    """
    before = connection.total_changes
    try:
        return work(connection)
    except PerdureError as refusal:
        if connection.total_changes != before:
            raise
        return refusal


def _commit_one(work: Work[Any], patience_s: float, connection: sqlite3.Connection) -> Any:
    try:
        begin(connection, patience_s=patience_s)
        outcome = work(connection)
        connection.execute("COMMIT")
        return outcome
    except sqlite3.Error as error:
        rollback(connection)
        return mapped(error)
    except Exception as error:  # noqa: BLE001 (the waiter is told)
        rollback(connection)
        return error


def rollback(connection: sqlite3.Connection) -> None:
    """End the transaction, if SQLite has not done so by itself; never raises."""
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
