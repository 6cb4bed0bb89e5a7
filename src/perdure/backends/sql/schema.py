"""Making, upgrading, checking and dropping the schema of a SQLite file; Alembic does the migrating."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from perdure.backends.sql.connection import begin, rollback
from perdure.backends.sql.meanings import NAME, mapped
from perdure.backends.sql.migrating import migrate
from perdure.backends.sql.revisions import HEAD, KNOWN
from perdure.backends.sql.tables import VERSION_TABLE, metadata
from perdure.errors import BackendUnavailableError, SchemaError

__all__ = ["SqliteSchema"]

PATIENCE_S = 30.0
"""How long to wait for other processes that are migrating the same file."""

OLDEST_SQLITE = (3, 37, 0)
"""The first with STRICT tables."""


class SqliteSchema:
    """The schema of one file; see `SchemaAdmin`. The folder must exist, unless `make_folder` says to make it."""

    def __init__(self, path: Path, *, make_folder: bool = False) -> None:
        self.path = path
        self._make_folder = make_folder

    async def create(self) -> None:
        """See `SchemaAdmin.create`."""
        if self._make_folder:
            self._make_parent()
        if await asyncio.to_thread(self._revision, create=True) != HEAD:
            await self._migrate()

    async def upgrade(self) -> tuple[str | None, str]:
        """See `SchemaAdmin.upgrade`."""
        before = await asyncio.to_thread(self._revision, create=False)
        if before is None:
            raise SchemaError(NAME, f"{self.path} holds nothing of perdure's; run `perdure db create`")
        if before != HEAD:
            await self._migrate()
        return before, HEAD

    async def verify(self) -> list[str]:
        """See `SchemaAdmin.verify`."""
        revision = await asyncio.to_thread(self._revision, create=False)
        if revision is None:
            return [f"{self.path} holds nothing of perdure's; run `perdure db create`"]
        behind = [] if revision == HEAD else [f"revision {revision} instead of {HEAD}; run `perdure db upgrade`"]
        from perdure.backends.sql.verifying import differences, integrity

        return [*behind, *await self._with_engine(differences), *await self._with_engine(integrity)]

    async def drop(self) -> None:
        """See `SchemaAdmin.drop`: the tables of perdure go, and the file too if nothing else is in it."""
        await asyncio.to_thread(self._drop)

    def _make_parent(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BackendUnavailableError(NAME, f"no folder for {self.path}: {error.strerror}") from error

    def _revision(self, *, create: bool) -> str | None:
        """The revision that the file has; None where perdure never was there.

        Raises:
            SchemaError: no file (unless `create`), no database, or one of a newer perdure.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            needed = ".".join(map(str, OLDEST_SQLITE))
            raise SchemaError(NAME, f"SQLite {needed} or newer is needed; this Python has {sqlite3.sqlite_version}")
        if not create and not self.path.exists():
            raise SchemaError(NAME, f"there is no file {self.path}; run `perdure db create`")
        try:
            with closing(sqlite3.connect(self.path, isolation_level=None, timeout=PATIENCE_S)) as connection:
                if create:  # stored in the file, but a copy made by backup tools may have lost it
                    connection.execute("PRAGMA journal_mode=WAL")
                found = connection.execute(
                    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = ?", (VERSION_TABLE,)
                ).fetchone()
                if found is None:
                    return None
                row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
        except sqlite3.Error as error:
            raise mapped(error) from error
        revision = None if row is None else str(row[0])
        if revision is not None and revision not in KNOWN:
            raise SchemaError(
                NAME,
                f"{self.path} is at revision {revision}, newer than this perdure knows ({HEAD}); upgrade perdure",
            )
        return revision

    async def _migrate(self) -> None:
        await self._with_engine(migrate)

    async def _with_engine(self, work: Any) -> Any:
        """Run `work` in one transaction that holds the write lock, so that only one process migrates."""
        from sqlalchemy import URL, NullPool, event
        from sqlalchemy.exc import DBAPIError
        from sqlalchemy.ext.asyncio import create_async_engine

        url = URL.create("sqlite+aiosqlite", database=str(self.path))
        engine = create_async_engine(
            url, poolclass=NullPool, connect_args={"timeout": PATIENCE_S, "isolation_level": None}
        )
        event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(work)
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise mapped(error.orig) from error
            raise SchemaError(NAME, str(error.orig)) from error
        finally:
            await engine.dispose()

    def _drop(self) -> None:
        if self._revision(create=False) is None:
            return
        try:
            with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
                begin(connection, patience_s=10)
                try:
                    for table in reversed(metadata.sorted_tables):
                        connection.execute(f'DROP TABLE IF EXISTS "{table.name}"')
                    connection.execute(f"DROP TABLE {VERSION_TABLE}")
                    connection.execute("COMMIT")
                finally:
                    rollback(connection)
                connection.execute("VACUUM")
                left = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        except sqlite3.Error as error:
            raise mapped(error) from error
        if not left:
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + suffix).unlink()
