"""Connections to Postgres that stay open, and the one way in which everything uses them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import asyncpg
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from perdure.backends.sql.postgres.address import Address
from perdure.backends.sql.postgres.deadlines import Deadlines
from perdure.backends.sql.postgres.meanings import DRIVER_ERRORS, NAME, is_for_now, is_lost, is_too_early, mapped
from perdure.errors import BackendClosedError, ConfigurationError, PerdureError

__all__ = ["Connection", "Connections", "Work", "connect", "end"]

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Work: TypeAlias = Callable[[Connection], Awaitable[T]]

ATTEMPTS = 5
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 0.8
"""Pauses between attempts are random, up to a bound that doubles: about a second in all."""

FAREWELL_S = 2.0
"""How long a connection may take to end, with the statement that is on it."""

_SETTINGS = {
    # Every call locks what it looks at first, and then must see the present.
    "default_transaction_isolation": "read committed",
    # Statements look rows up by key. Planned once, while tables are empty, they must not read whole tables later.
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}


async def connect(address: Address) -> Connection:
    """A connection of its own.

    Raises:
        PerdureError: as `mapped` says.
    """
    try:
        return await _connect(address)
    except DRIVER_ERRORS as error:
        raise mapped(error) from error


async def end(connection: Connection) -> None:
    """Close it, and break off what is going on on it; never raises."""
    with suppress(Exception):  # the driver has closed the socket then
        await connection.close(timeout=FAREWELL_S)


async def _connect(address: Address) -> Connection:
    settings = {"application_name": address.application_name, **(_SETTINGS if address.prepared else {})}
    try:
        return await asyncpg.connect(
            address.dsn,
            timeout=address.connect_timeout.total_seconds(),
            statement_cache_size=100 if address.prepared else 0,
            max_cached_statement_lifetime=0,
            server_settings=settings,
        )
    except DRIVER_ERRORS:
        raise
    except (ValueError, TypeError) as error:  # of the driver's reading of the URL; it may quote a password
        raise ConfigurationError("the PostgreSQL URL cannot be understood") from error


class Connections:
    """Up to `most` connections, opened when needed, held open, and replaced when they break.

    A caller who is cancelled takes the connection that it uses along; the next one gets another.
    """

    def __init__(self, address: Address, *, most: int) -> None:
        self._address = address
        self._idle: list[Connection] = []
        self._permits = asyncio.Semaphore(most)
        self._deadlines = Deadlines()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._held = 0
        self._is_open = False

    def open(self) -> None:
        """Begin to take work."""
        self._is_open = True

    async def aclose(self) -> None:
        """Finish what is under way, then close; repeatable."""
        self._is_open = False
        while self._under_way or self._tasks:
            self._quiet.clear()
            if self._under_way:
                await self._quiet.wait()
            if self._tasks:
                await asyncio.wait(self._tasks)
        idle, self._idle = self._idle, []
        self._held -= len(idle)
        await asyncio.gather(*map(end, idle))

    @property
    def held(self) -> int:
        """Connections that are open at present."""
        return self._held

    def check_open(self) -> None:
        """Nothing, while it takes work.

        Raises:
            BackendClosedError: it does not.
        """
        if not self._is_open:
            raise BackendClosedError(NAME)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something in a task of its own, which `aclose` waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def run(self, work: Work[T], *, timeout_s: float, repeatable: bool = False) -> T:
        """What `work` makes of a connection.

        Failing, it is done again, a few times and within `timeout_s`, where nothing can have changed: there was no
        connection, or others were in the way; and where the answer was lost, if it is `repeatable`.

        Raises: what `work` raises, driver errors as `mapped` says.
        """
        self.check_open()
        self._under_way += 1
        try:
            deadline = asyncio.get_running_loop().time() + timeout_s
            try:
                return await self._attempt(work, deadline, repeatable)
            except _AgainError:
                return await self._persist(work, deadline, timeout_s, repeatable)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()

    async def _persist(self, work: Work[T], deadline: float, timeout_s: float, repeatable: bool) -> T:
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_AgainError),
            stop=stop_after_attempt(ATTEMPTS - 1) | stop_after_delay(timeout_s),
            wait=wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
            reraise=True,
        )
        try:
            return await attempts(self._attempt, work, deadline, repeatable)
        except _AgainError as failure:
            raise failure.error from failure.error.__cause__

    async def _attempt(self, work: Work[T], deadline: float, repeatable: bool) -> T:
        try:
            with self._deadlines.until(deadline):
                async with self._permits:
                    return await self._use(work)
        except _LostError as loss:
            again, error = repeatable, loss.error
        except DRIVER_ERRORS as failure:
            again, error = is_for_now(failure), failure
        if again:
            raise _AgainError(mapped(error)) from error
        raise mapped(error) from error

    async def _use(self, work: Work[T]) -> T:
        connection = await self._connection()
        try:
            result = await work(connection)
        except BaseException as error:
            # A refusal by the server leaves the connection as good as it was; anything else may have left it anywhere.
            self._give_back(connection, sound=isinstance(error, asyncpg.PostgresError | PerdureError))
            if is_lost(error):
                raise _LostError(error) from error
            raise
        self._give_back(connection, sound=True)
        return result

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
            self._held -= 1
        try:
            connection = await _connect(self._address)
        except DRIVER_ERRORS as error:
            if is_lost(error) or is_too_early(error):  # nothing was sent, so that even what is not repeatable may be
                raise _AgainError(mapped(error)) from error
            raise
        self._held += 1
        return connection

    def _give_back(self, connection: Connection, *, sound: bool) -> None:
        if sound and not connection.is_closed() and not connection.is_in_transaction():
            self._idle.append(connection)
        else:
            self._held -= 1
            _ = self.start(end(connection))


class _LostError(Exception):
    """The connection broke while it was used."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _AgainError(Exception):
    """It failed, and may be done again; `error` is what to say if that is not done."""

    def __init__(self, error: PerdureError) -> None:
        self.error = error
