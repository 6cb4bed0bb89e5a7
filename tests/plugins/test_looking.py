"""Looking at a store now and then."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from structlog.testing import capture_logs
from tests.plugins.watched import QUIET

from perdure import SessionStore
from perdure.plugins.looking import Look, Looking


async def test_a_look_that_fails_is_said_and_is_not_the_last() -> None:
    looks: list[Look] = []
    seen_again = asyncio.Event()

    def seen(look: Look) -> None:
        looks.append(look)
        if len(looks) == 1:
            raise ValueError("a registry that does not take it")
        seen_again.set()

    looking = Looking(seen, every=timedelta(0), count_every=None)
    with capture_logs() as logs:
        async with SessionStore.open("memory://", settings=QUIET) as store:
            await looking.begin(store)
            async with asyncio.timeout(10):
                await seen_again.wait()
            await looking.end(store)

    assert [(entry["event"], entry["error"]) for entry in logs] == [("look.failed", "ValueError")]
