"""Redis keeps the contract on the fake that unit tests of applications use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from fakeredis import FakeAsyncRedis, FakeServer

from perdure.backends import SessionBackend
from perdure.backends.redis.backend import RedisBackend
from perdure.testing import BackendConformance
from perdure.testing.conformance import OpenBackend


class TestFakeRedis(BackendConformance):
    @pytest_asyncio.fixture
    async def open_backend(self) -> AsyncIterator[OpenBackend]:
        server = FakeServer()
        clients: list[FakeAsyncRedis] = []

        async def open_backend() -> SessionBackend:
            clients.append(FakeAsyncRedis(server=server))
            backend = RedisBackend(client=clients[-1])
            await backend.open()
            return backend

        yield open_backend
        for client in clients:
            await client.aclose()
