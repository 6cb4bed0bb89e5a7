"""A backend on a server of its own, and one behind a proxy that loses things."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.resources import files

import pytest
from tests.backends.redis.proxy import LossyProxy, lossy

from perdure.backends.redis.backend import RedisBackend
from perdure.backends.redis.scripting import script
from perdure.testing import stored_session
from perdure.testing.servers import ValkeyServer

SCRIPTS = sorted(
    file.name.removesuffix(".lua")
    for file in (files("perdure.backends.redis") / "scripts").iterdir()
    if not file.name.startswith("part_")
)


@pytest.fixture
async def backend(redis_url: str) -> AsyncIterator[RedisBackend]:
    backend = RedisBackend(redis_url)
    await backend.open()
    yield backend
    await backend.aclose()


@pytest.fixture
async def behind_proxy(redis_url: str, valkey_server: ValkeyServer) -> AsyncIterator[tuple[LossyProxy, RedisBackend]]:
    """A backend with one connection to write and one to read, on a server that knows all scripts."""
    with valkey_server.client() as client:
        for name in SCRIPTS:
            client.script_load(script(name).text)
    async with lossy(redis_url) as (proxy, url):
        backend = RedisBackend(f"{url}?writers=1&readers=1")
        await backend.open()
        session = stored_session()
        await backend.create(session)  # so that both connections are made: what is lost is no greeting
        await backend.evict(session.id, version=session.version, head=session.head)
        yield proxy, backend
        await backend.aclose()
