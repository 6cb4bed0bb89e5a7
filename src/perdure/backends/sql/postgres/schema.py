"""Making, upgrading, checking and dropping the schema in a Postgres database; Alembic does the migrating."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from perdure.backends.sql.migrating import migrate
from perdure.backends.sql.postgres.address import Address
from perdure.backends.sql.postgres.connections import Connection, connect, end
from perdure.backends.sql.postgres.meanings import DRIVER_ERRORS, NAME, mapped
from perdure.backends.sql.postgres.statements import quoted
from perdure.backends.sql.revisions import HEAD, KNOWN
from perdure.backends.sql.tables import VERSION_TABLE
from perdure.errors import BackendError, SchemaError

if TYPE_CHECKING:
    from sqlalchemy import Connection as SqlConnection
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["PostgresSchema"]

T = TypeVar("T")

OLDEST_SERVER = 140_000
"""As the server writes its version in a number."""

PATIENCE = "60s"
"""How long to wait for other processes that are migrating the same schema."""

LONGEST_S = 3_600.0
"""How long a migration of much data may take."""


class PostgresSchema:
    """The schema of perdure in one database; see `SchemaAdmin`."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._name = address.schema

    async def create(self) -> None:
        """See `SchemaAdmin.create`. Where all is up to date it asks for no right to make anything."""
        if await self._revision() != HEAD:
            await self._migrate()

    async def check(self) -> None:
        """Make sure that the schema can be used as it is.

        Raises:
            SchemaError: it is missing, older or newer.
        """
        revision = await self._revision()
        if revision is None:
            raise SchemaError(NAME, self._nothing())
        if revision != HEAD:
            raise SchemaError(NAME, _behind(revision))

    async def upgrade(self) -> tuple[str | None, str]:
        """See `SchemaAdmin.upgrade`."""
        before = await self._revision()
        if before is None:
            raise SchemaError(NAME, self._nothing())
        if before != HEAD:
            await self._migrate()
        return before, HEAD

    async def verify(self) -> list[str]:
        """See `SchemaAdmin.verify`."""
        revision = await self._revision()
        if revision is None:
            return [self._nothing()]
        from perdure.backends.sql.postgres.verifying import differences_in

        behind = [] if revision == HEAD else [_behind(revision)]
        return [*behind, *await self._with_engine(partial(differences_in, schema=self._name))]

    async def drop(self) -> None:
        """See `SchemaAdmin.drop`: what is perdure's goes, and the schema too if nothing else is in it."""
        if await self._revision() is None:
            return
        from perdure.backends.sql.postgres.dropping import drop_from

        await self._with_engine(partial(drop_from, schema=self._name))

    def _nothing(self) -> str:
        return f"the schema {self._name} holds nothing of perdure's; run `perdure db create`"

    async def _revision(self) -> str | None:
        """The revision that the schema has; None where perdure never was there.

        Raises:
            SchemaError: no database, a server that cannot be used, or a schema of a newer perdure.
        """
        connection = await connect(self._address)
        try:
            async with asyncio.timeout(self._address.command_timeout.total_seconds()):
                await _check_server(connection)
                row = await connection.fetchval(f"SELECT version_num FROM {quoted(self._name)}.{VERSION_TABLE}")
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
            return None
        except DRIVER_ERRORS as error:
            raise mapped(error) from error
        finally:
            await end(connection)
        revision = None if row is None else str(row)
        if revision is not None and revision not in KNOWN:
            what = f"the schema {self._name} is at revision {revision}, newer than this perdure knows ({HEAD})"
            raise SchemaError(NAME, f"{what}; upgrade perdure")
        return revision

    async def _migrate(self) -> None:
        try:
            await self._with_engine(partial(_migrate_in, schema=self._name))
        except BackendError as error:
            if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
                do = "run `perdure db create` or `perdure db upgrade` as one that may"
                raise SchemaError(NAME, f"the role may not make or upgrade the schema {self._name}; {do}") from error
            raise

    async def _with_engine(self, work: Callable[[SqlConnection], T]) -> T:
        """Run `work` in one transaction that holds the schema's lock, so that only one process migrates."""
        from sqlalchemy.exc import DBAPIError

        engine = _engine(self._address)
        try:
            async with asyncio.timeout(LONGEST_S), engine.begin() as connection:
                return await connection.run_sync(partial(_locked, work=work, schema=self._name))
        except DBAPIError as error:
            cause = getattr(error.orig, "__cause__", None)
            if isinstance(cause, DRIVER_ERRORS):
                raise mapped(cause) from cause
            raise SchemaError(NAME, str(error.orig)) from error
        except DRIVER_ERRORS as error:
            raise mapped(error) from error
        finally:
            await engine.dispose()


def _behind(revision: str) -> str:
    return f"revision {revision} instead of {HEAD}; run `perdure db upgrade`"


async def _check_server(connection: Connection) -> None:
    """Refuse a server on which sessions could not be kept as promised.

    Raises:
        SchemaError: it is too old, or set up in another way.
    """
    names = ("server_version", "server_version_num", "server_encoding", "transaction_isolation")
    asked = ", ".join(f"current_setting('{name}')" for name in names)
    version, number, encoding, isolation = await connection.fetchrow(f"SELECT {asked}")
    if int(number) < OLDEST_SERVER:
        raise SchemaError(NAME, f"PostgreSQL 14 or newer is needed; this server is {version}")
    if encoding != "UTF8":
        raise SchemaError(NAME, f"the database must have the encoding UTF8, not {encoding}; create it anew")
    if isolation != "read committed":
        do = "ALTER ROLE … SET default_transaction_isolation TO 'read committed'"
        raise SchemaError(NAME, f"transactions must be read committed, not {isolation}: {do}")


def _engine(address: Address) -> AsyncEngine:
    """For Alembic: connections like all others, without prepared statements that outlive the transaction."""
    from sqlalchemy import NullPool
    from sqlalchemy.ext.asyncio import create_async_engine

    def connection() -> Any:
        dbapi: Any = engine.sync_engine.dialect.dbapi
        return dbapi.connect(
            async_creator_fn=partial(connect, address),
            prepared_statement_cache_size=0,
            prepared_statement_name_func=lambda: "",
        )

    engine = create_async_engine("postgresql+asyncpg://", poolclass=NullPool, creator=connection)
    return engine


def _locked(connection: SqlConnection, *, work: Callable[[SqlConnection], T], schema: str) -> T:
    connection.exec_driver_sql(f"SET LOCAL lock_timeout TO '{PATIENCE}'")
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('perdure.schema'), hashtext($1))", (schema,))
    return work(connection)


def _migrate_in(connection: SqlConnection, *, schema: str) -> None:
    # Asked first: "if not exists" needs the right to create one, even where it exists.
    found = connection.exec_driver_sql("SELECT 1 FROM pg_namespace WHERE nspname = $1", (schema,)).first()
    if found is None:
        connection.exec_driver_sql(f"CREATE SCHEMA {quoted(schema)}")
    migrate(connection.execution_options(schema_translate_map={None: schema}))
