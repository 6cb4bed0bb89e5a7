"""One connection to a server, and what is sent and answered on it.

redis-py makes every connection: it knows about TLS, users and databases. Once that is done, commands and replies take a
shorter way where there is one: straight from the transport to the parser. A stream between the two, and a task that is
woken for each reply, would cost as much as the server does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import hiredis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection

__all__ = ["Link", "LostError", "Parcel", "link_of"]


_NOTHING: Any = object()


class LostError(Exception):
    """No answer came. `sent` is False where the server has certainly not run the command."""

    def __init__(self, cause: BaseException, *, sent: bool) -> None:
        super().__init__(str(cause) or type(cause).__name__)
        self.sent = sent and not isinstance(cause, exceptions.BusyLoadingError)
        self.__cause__ = cause


@dataclass(slots=True, eq=False)
class Parcel:
    """Commands, packed, that are answered together. `alone` keeps it from sharing a flight."""

    packed: bytes
    commands: int
    deadline: float
    alone: bool = False
    answer: asyncio.Future[list[Any]] | None = None
    replies: list[Any] = field(default_factory=list)
    error: LostError | None = None

    def land(self) -> None:
        """All replies are there."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(self.replies)

    def lose(self, error: LostError) -> None:
        """Some replies will not come; no effect where all are there."""
        if len(self.replies) == self.commands:
            return
        self.error = error
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)


class Link(Protocol):
    """A connection on which one flight at a time is under way."""

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""

    async def fly(self, parcels: Sequence[Parcel], *, ends: float) -> None:
        """Send parcels, and land each when its replies are there; `ends` is an instant of the loop's clock.

        Cancelled, it lets the next flight begin: it takes in what is still to come, or has closed the link.

        Raises: some replies will not come, and the link is to be closed
            TimeoutError, OSError, RedisError: they did not come in time, or the connection broke.
        """


def link_of(connection: AbstractConnection) -> Link:
    """What to use of a connection that redis-py has made."""
    transport = getattr(getattr(connection, "_writer", None), "transport", None)
    if isinstance(transport, asyncio.Transport):
        return _DirectLink(transport)
    return _DriverLink(connection)


class _DirectLink(asyncio.Protocol):
    """Takes the place of the stream that redis-py has read from so far."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._former = transport.get_protocol()
        self._parser = hiredis.Reader(notEnoughData=_NOTHING)
        self._expected: deque[Parcel] = deque()
        self._landed: asyncio.Future[None] | None = None
        transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    async def fly(self, parcels: Sequence[Parcel], *, ends: float) -> None:
        loop = asyncio.get_running_loop()
        self._expected.extend(parcels)
        landed = self._landed = loop.create_future()
        timer = loop.call_at(ends, self._expire)
        try:
            self._transport.write(
                parcels[0].packed if len(parcels) == 1 else b"".join([parcel.packed for parcel in parcels])
            )
            await landed
        finally:
            timer.cancel()

    def data_received(self, data: bytes) -> None:
        parser, expected = self._parser, self._expected
        parser.feed(data)
        try:
            while (reply := parser.gets()) is not _NOTHING:
                if type(reply) is hiredis.PushNotification:
                    continue  # what the server tells unasked, on a connection that was passed in
                parcel = expected[0]
                parcel.replies.append(reply)
                if len(parcel.replies) == parcel.commands:
                    expected.popleft()
                    parcel.land()
        except (hiredis.ProtocolError, IndexError) as error:
            self._fail(exceptions.ConnectionError(f"the server speaks another protocol: {error}"))
            return
        if not expected and self._landed is not None and not self._landed.done():
            self._landed.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or exceptions.ConnectionError("the server closed the connection"))
        self._former.connection_lost(error)  # redis-py waits for it when it closes

    def _expire(self) -> None:
        self._fail(TimeoutError("no answer in time"))

    def _fail(self, error: Exception) -> None:
        if self._landed is not None and not self._landed.done():
            self._landed.set_exception(error)


class _DriverLink:
    """Through redis-py all the way: for connections that are none, as those of a fake are."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection

    @property
    def is_open(self) -> bool:
        return bool(self._connection.is_connected)

    async def fly(self, parcels: Sequence[Parcel], *, ends: float) -> None:
        async with asyncio.timeout_at(ends):
            await self._connection.send_packed_command([parcel.packed for parcel in parcels])
            for parcel in parcels:
                for _ in range(parcel.commands):
                    try:
                        parcel.replies.append(await self._connection.read_response())
                    except exceptions.ResponseError as refusal:
                        parcel.replies.append(refusal)
                parcel.land()
