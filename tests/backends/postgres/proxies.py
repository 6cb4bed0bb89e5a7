"""What may stand between perdure and Postgres: a line that is cut, and a pooler that changes the server in between.

Both understand the protocol's messages: a type and a length before each.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Self
from urllib.parse import urlsplit

__all__ = ["Cut", "CuttingProxy", "TransactionPooler"]

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST, VERSION_3 = 80877103, 80877104, 80877102, 196608
READY, IDLE = b"Z", b"I"


class Cut(Enum):
    """Where in a call the line is cut."""

    BEFORE = auto()
    """What the client sends does not arrive."""
    AFTER = auto()
    """The server has done it all and said so, but nobody hears."""


@dataclass
class Line:
    """One connection, message by message."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def to(cls, url: str) -> Self:
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def message(self) -> tuple[bytes, bytes]:
        """The next message: its type, and all of it."""
        head = await self.reader.readexactly(5)
        return head[:1], head + await self.reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)

    async def startup(self) -> tuple[int, bytes]:
        """The first message of a client, which has no type: its code, and all of it. Encryption is declined."""
        while True:
            head = await self.reader.readexactly(8)
            length, code = struct.unpack("!ii", head)
            if code in (SSL_REQUEST, GSS_REQUEST):
                self.send(b"N")
                continue
            return code, head + await self.reader.readexactly(length - 8)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


class Proxy:
    """Listens on a free port of 127.0.0.1 for clients of the server at `url`."""

    def __init__(self, url: str) -> None:
        self.server_url = url
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The URL that leads through here."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        parts = urlsplit(self.server_url)
        try:
            yield parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}").geturl()
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client = Line(reader, writer)
        try:
            await self.serve(client)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            await client.close()

    async def serve(self, client: Line) -> None:
        raise AssertionError("each proxy says how")


class CuttingProxy(Proxy):
    """Passes everything on, until it is told to cut: the next call of any connection loses its line, `times` over."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.cut: Cut | None = None
        self.times = 0
        self.cuts = 0
        self.calls = 0

    def cut_next(self, cut: Cut, *, times: int = 1) -> None:
        self.cut, self.times, self.cuts, self.calls = cut, times, 0, 0

    def _takes(self, cut: Cut) -> bool:
        if self.cut is not cut or self.cuts >= self.times:
            return False
        self.cuts += 1
        return True

    async def serve(self, client: Line) -> None:
        code, startup = await client.startup()
        server = await Line.to(self.server_url)
        server.send(startup)
        if code == CANCEL_REQUEST:
            await server.close()
            return
        doomed = asyncio.Event()
        pumps = [
            asyncio.create_task(self._forward(client, server, doomed)),
            asyncio.create_task(self._backward(server, client, doomed)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            await server.close()

    async def _forward(self, client: Line, server: Line, doomed: asyncio.Event) -> None:
        while True:
            kind, message = await client.message()
            if kind == b"B":  # bind: a statement is run
                self.calls += 1
                if self._takes(Cut.BEFORE):
                    return
                if self._takes(Cut.AFTER):
                    doomed.set()
            server.send(message)

    async def _backward(self, server: Line, client: Line, doomed: asyncio.Event) -> None:
        while True:
            kind, message = await server.message()
            if doomed.is_set():
                if kind == READY:
                    return
                continue
            client.send(message)


@dataclass
class Server:
    """A connection to the server that clients take in turn."""

    line: Line
    greeting: bytes
    busy: bool = field(default=False)


class TransactionPooler(Proxy):
    """Gives each transaction another connection to the server, as PgBouncer does with `pool_mode = transaction`.

    Like it, it takes no settings from clients but those that it knows, and resets nothing in between.
    """

    KNOWN = frozenset({"user", "database", "client_encoding", "application_name"})

    def __init__(self, url: str, *, size: int = 8) -> None:
        super().__init__(url)
        self.size = size
        self.changes = 0
        self._servers: list[Server] = []
        self._turn = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The URL that leads through here."""
        for _ in range(self.size):
            self._servers.append(await self._connected())
        try:
            async with super().listening() as url:
                yield url
        finally:
            for server in self._servers:
                await server.line.close()

    async def _connected(self) -> Server:
        parts = urlsplit(self.server_url)
        line = await Line.to(self.server_url)
        facts = f"user\0{parts.username}\0database\0{parts.path.lstrip('/')}\0client_encoding\0utf-8\0\0".encode()
        line.send(struct.pack("!ii", len(facts) + 8, VERSION_3) + facts)
        greeting = b""
        while True:
            kind, message = await line.message()
            greeting += message
            assert kind != b"E", message
            if kind == READY:
                return Server(line, greeting)

    async def serve(self, client: Line) -> None:
        code, startup = await client.startup()
        if code == CANCEL_REQUEST:
            return
        names = startup[8:].split(b"\0")[::2]
        for name in (name.decode() for name in names if name):
            if name not in self.KNOWN:
                self._refuse(client, f"unsupported startup parameter: {name}")
                return
        client.send(self._servers[0].greeting)
        first = asyncio.create_task(client.message())
        try:
            while (await first)[0] != b"X":
                first = await self._transaction(client, first.result())
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    def _refuse(self, client: Line, why: str) -> None:
        fields = f"SFATAL\0VFATAL\0C08P01\0M{why}\0\0".encode()
        client.send(b"E" + struct.pack("!i", len(fields) + 4) + fields)

    async def _transaction(self, client: Line, first: tuple[bytes, bytes]) -> asyncio.Task[tuple[bytes, bytes]]:
        """Lend the client a server until that is idle again, and has answered everything; gives what is read next."""
        server = await self._next_server()
        self.changes += 1
        owed = 0

        def forward(kind: bytes, message: bytes) -> None:
            nonlocal owed
            owed += kind in (b"S", b"Q")
            server.line.send(message)

        async def listen() -> None:
            nonlocal owed
            while True:
                kind, message = await server.line.message()
                client.send(message)
                owed -= kind == READY
                if kind == READY and not owed and message[5:6] == IDLE:
                    return

        forward(*first)
        answers, more = asyncio.create_task(listen()), asyncio.create_task(client.message())
        try:
            while not answers.done():
                await asyncio.wait([more, answers], return_when=asyncio.FIRST_COMPLETED)
                if more.done() and not answers.done():
                    forward(*more.result())
                    more = asyncio.create_task(client.message())
            answers.result()
            server.busy = False
            return more
        except BaseException:  # the client, or the server, went away in the middle
            answers.cancel()
            await asyncio.gather(answers, more, return_exceptions=True)
            await server.line.close()
            self._servers[self._servers.index(server)] = await self._connected()
            raise

    async def _next_server(self) -> Server:
        """Not the one that was taken last, unless all others are busy."""
        while True:
            for _ in range(len(self._servers)):
                self._turn = (self._turn + 1) % len(self._servers)
                server = self._servers[self._turn]
                if not server.busy:
                    server.busy = True
                    return server
            await asyncio.sleep(0.001)
