"""SIGKILL and restart of either server, or of both, under writers: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from tests.backends.tiered.real.load import Acknowledge, Load, check_kept, created, opened
from tests.effort import ROUNDS

from perdure.testing.servers import PostgresServer, ValkeyServer

pytestmark = pytest.mark.xdist_group("tiers killed")

Server = ValkeyServer | PostgresServer


@pytest.mark.parametrize("acknowledge", ["archive", "hot"])
@pytest.mark.parametrize("killed", ["valkey", "postgres", "both"])
async def test_no_acknowledged_query_is_lost_when_servers_are_killed(
    redis_url: str,
    archive_url: str,
    valkey_server: ValkeyServer,
    postgres_server: PostgresServer,
    acknowledge: Acknowledge,
    killed: str,
) -> None:
    servers: dict[str, Sequence[Server]] = {
        "valkey": [valkey_server],
        "postgres": [postgres_server],
        "both": [valkey_server, postgres_server],
    }
    async with opened(redis_url, archive_url, acknowledge) as store:
        load = Load(store, await created(store))
        async with load.running():
            await load.more(200)
            for _ in range(ROUNDS):
                await each(servers[killed], lambda server: server.kill())
                await each(servers[killed], lambda server: server.start())
                await load.more(200)
    async with opened(redis_url, archive_url, acknowledge) as store:
        await check_kept(load, store)


async def each(servers: Sequence[Server], what: Callable[[Server], object]) -> None:
    """Do it to all of them, while the writers go on."""
    await asyncio.gather(*(asyncio.to_thread(what, server) for server in servers))
