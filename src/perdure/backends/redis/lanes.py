"""Lanes on which what waits goes together.

An idle lane sends at once. While a flight is under way others wait, and all that have waited are the next flight: one
write to the socket, however many they are. Each lane has one flight under way, so that commands keep their order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError

from perdure.backends.redis.links import Link, LostError, Parcel, link_of
from perdure.backends.redis.meanings import NAME
from perdure.errors import BackendClosedError

__all__ = ["MOST_BYTES", "Lane"]

MOST_PARCELS = 512
MOST_BYTES = 4 * 1024 * 1024
"""What one flight carries: so much, or one parcel."""


class Lane:
    """One connection of a pool, used by any number of tasks of one event loop.

    `patience_s` is how long a flight may take. A reply that is an error is given as it is; it disturbs no other.
    """

    def __init__(self, pool: ConnectionPool, *, patience_s: float) -> None:
        self._pool = pool
        self._patience_s = patience_s
        self._connection: AbstractConnection | None = None
        self._link: Link | None = None
        self._waiting: list[Parcel] = []
        self._is_busy = False
        self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining: asyncio.Task[None] | None = None

    @property
    def load(self) -> int:
        """How much is under way and waiting; 0 where the next one goes at once."""
        return len(self._waiting) + self._is_busy

    async def send(self, parcel: Parcel) -> list[Any]:
        """The replies to a parcel.

        A caller that finds the lane idle sends by itself; the others wait, and cancelling one disturbs no other.

        Raises:
            LostError: the connection broke, or the time was up.
        """
        if self._is_closed:
            raise BackendClosedError(NAME)
        if self._is_busy:
            parcel.answer = asyncio.get_running_loop().create_future()
            self._waiting.append(parcel)
            return await parcel.answer
        self._is_busy = True
        self._idle.clear()
        try:
            await self._fly((parcel,))
        finally:
            self._go_on()
        if parcel.error is not None:
            raise parcel.error
        return parcel.replies

    async def aclose(self) -> None:
        """Let what was given so far be answered, and give the connection back; repeatable."""
        self._is_closed = True
        await self._idle.wait()
        await self._disconnect()

    def _go_on(self) -> None:
        if self._waiting:
            # A task of its own, so that a cancelled caller hurts nobody who waits behind it.
            self._draining = asyncio.create_task(self._drain())
        else:
            self._is_busy = False
            self._idle.set()

    async def _drain(self) -> None:
        batch: Sequence[Parcel] = ()
        try:
            while batch := self._next_flight():
                await self._fly(batch)
        finally:
            for parcel in (*batch, *self._waiting):
                if parcel.answer is not None:
                    parcel.answer.cancel()  # no effect where there is an answer, which is nearly always
            self._waiting.clear()
            self._go_on()

    def _next_flight(self) -> list[Parcel]:
        now, taken, size = asyncio.get_running_loop().time(), 0, 0
        flight: list[Parcel] = []
        for parcel in self._waiting:
            if flight and (parcel.alone or len(flight) == MOST_PARCELS or size + len(parcel.packed) > MOST_BYTES):
                break
            taken += 1
            if parcel.answer is None or parcel.answer.done():
                continue  # its caller was cancelled: it was not sent, so it never will be
            if parcel.deadline <= now:
                parcel.lose(LostError(TimeoutError("the time was up before it could be sent"), sent=False))
                continue
            size += len(parcel.packed)
            flight.append(parcel)
            if parcel.alone:
                break
        del self._waiting[:taken]
        return flight

    async def _fly(self, parcels: Sequence[Parcel]) -> None:
        """Send parcels and take in their replies. What goes wrong is told to those that have no answer yet.

        Cancelled, it leaves the link as it is: replies still come in the order of what was sent.
        """
        ends = min([asyncio.get_running_loop().time() + self._patience_s, *[parcel.deadline for parcel in parcels]])
        link, sent = self._link, False
        try:
            if link is None or not link.is_open:
                async with asyncio.timeout_at(ends):
                    link = await self._connect()
            sent = True
            await link.fly(parcels, ends=ends)
        except (RedisError, OSError, TimeoutError) as error:
            await self._disconnect()
            lost = LostError(error if str(error) else TimeoutError("no answer in time"), sent=sent)
            for parcel in parcels:
                parcel.lose(lost)

    async def _connect(self) -> Link:
        await self._disconnect()
        self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        self._link = link_of(self._connection)
        return self._link

    async def _disconnect(self) -> None:
        connection, self._connection, self._link = self._connection, None, None
        if connection is not None:
            with suppress(RedisError, OSError):  # it is being given up
                await connection.disconnect(nowait=True)
            await self._pool.release(connection)
