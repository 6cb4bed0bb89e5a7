"""One SQLite connection on a thread of its own: work goes there whole, in one hop, and what waits shares a commit."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from perdure.errors import (
    BackendError,
    BackendUnavailableError,
    CorruptDataError,
    PerdureError,
    SchemaError,
    StorageFullError,
    StorageReadOnlyError,
)

__all__ = ["DatabaseThread", "Writer", "connect", "mapped"]

NAME = "sqlite"
T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

BUSY_PAUSE_S = 0.002
"""Longest pause before BEGIN is tried again. SQLite's own back-off starves one of two busy processes for a second."""

BATCH = 512
"""Most pieces of work that share one commit."""


class DatabaseThread(aiosqlite.Connection):
    """An aiosqlite connection that also runs a whole function on the thread of the database."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._thread.daemon = True  # a program that forgets to close must still be able to end

    async def run(self, work: Work[T]) -> T:
        """Run `work` with the connection, on its thread.

        Raises: what `work` raises, driver errors as `BackendError`.
        """
        try:
            return await self._execute(work, self._conn)  # type: ignore[no-untyped-call,no-any-return]  # aiosqlite leaves it untyped
        except sqlite3.Error as error:
            raise mapped(error) from error


async def connect(path: Path, *, busy_timeout_s: float) -> DatabaseThread:
    """Open `path`, which must exist, with what durability and integrity ask for.

    Raises:
        BackendError: as `mapped` says.
    """
    thread = DatabaseThread(partial(_connect, path, busy_timeout_s))
    try:
        return await thread  # type: ignore[return-value]
    except sqlite3.Error as error:
        raise mapped(error) from error


def _connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=busy_timeout_s, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA cache_size=-16000")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
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
        self._draining: asyncio.Task[None] | None = None

    async def run(self, work: Work[T]) -> T:
        """The result of `work`, once it is committed.

        Raises: what `work` raises, driver errors as `BackendError`.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return await future

    async def finish(self) -> None:
        """Wait until everything given so far is committed."""
        if self._draining is not None:
            await asyncio.wait([self._draining])

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            try:
                outcomes = await self._thread.run(partial(_commit, [work for work, _ in batch], self._patience_s))
            except Exception as error:  # noqa: BLE001 (the whole batch failed with this; every waiter is told)
                outcomes = [error] * len(batch)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
        self._draining = None


def _commit(batch: list[Work[Any]], patience_s: float, connection: sqlite3.Connection) -> list[Any]:
    """Run the batch in one transaction, a savepoint around each piece; an outcome is a result or an exception."""
    if len(batch) == 1:
        return [_commit_one(batch[0], patience_s, connection)]
    try:
        begin(connection, patience_s=patience_s)
        outcomes = [_attempt(work, connection) for work in batch]
        connection.execute("COMMIT")
        return outcomes
    except sqlite3.Error:
        # What stopped the batch may concern only one of it (a value too large for what is left of the disk, say).
        rollback(connection)
        return [_commit_one(work, patience_s, connection) for work in batch]


def _attempt(work: Work[Any], connection: sqlite3.Connection) -> Any:
    connection.execute("SAVEPOINT piece")
    try:
        outcome = work(connection)
    except PerdureError as refusal:
        connection.execute("ROLLBACK TO piece")
        outcome = refusal
    connection.execute("RELEASE piece")
    return outcome


def _commit_one(work: Work[Any], patience_s: float, connection: sqlite3.Connection) -> Any:
    try:
        begin(connection, patience_s=patience_s)
        outcome = work(connection)
        connection.execute("COMMIT")
        return outcome
    except sqlite3.Error as error:
        rollback(connection)
        failure = mapped(error)
        failure.__cause__ = error
        return failure
    except Exception as error:  # noqa: BLE001 (the waiter is told)
        rollback(connection)
        return error


def rollback(connection: sqlite3.Connection) -> None:
    """End the transaction, if SQLite has not done so by itself."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def mapped(error: sqlite3.Error) -> BackendError:
    """The error that a caller sees for one of the driver's."""
    code = getattr(error, "sqlite_errorcode", None)
    match None if code is None else code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return StorageFullError(NAME, "the disk is full; nothing changed")
        case sqlite3.SQLITE_READONLY:
            return StorageReadOnlyError(NAME, "the database cannot be written; nothing changed")
        case sqlite3.SQLITE_NOTADB:
            return SchemaError(NAME, "the file is not a SQLite database")
        case sqlite3.SQLITE_CORRUPT:
            return CorruptDataError(NAME, f"the database is damaged ({error}); run `perdure doctor`")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return BackendUnavailableError(NAME, "another process held the write lock for too long")
        case sqlite3.SQLITE_CANTOPEN:
            return BackendUnavailableError(
                NAME, "the file cannot be opened; do it and its folder exist, with permission?"
            )
        case _ if "no such table" in str(error):
            return SchemaError(NAME, f"{error}; run `perdure db create`")
        case _:
            return BackendUnavailableError(NAME, str(error))
