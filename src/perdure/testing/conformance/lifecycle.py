"""Opening, closing, and being well."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from perdure.backends import SessionBackend
from perdure.errors import BackendClosedError
from perdure.models import SessionFilter
from perdure.testing.builders import START, ChangeMaker, stored_session
from perdure.testing.conformance.steps import ANY_SIZE, EXPIRY, FOREVER, HOUR, MINUTE, OpenBackend, created, whole

__all__ = ["LifecyclePromises"]

CALLS: dict[str, Callable[[SessionBackend], Awaitable[Any]]] = {
    "create": lambda backend: backend.create(stored_session()),
    "read": lambda backend: backend.read(uuid4()),
    "apply": lambda backend: backend.apply(uuid4(), ChangeMaker().change()),
    "queries": lambda backend: backend.queries(uuid4(), limit=1),
    "find": lambda backend: backend.find(SessionFilter(), limit=1),
    "delete": lambda backend: backend.delete(uuid4(), forget_at=FOREVER),
    "claim_expired": lambda backend: backend.claim_expired(now=START, lease=MINUTE, limit=1, max_bytes=ANY_SIZE),
    "absorb": lambda backend: backend.absorb([stored_session()]),
    "ticket": lambda backend: backend.ticket(uuid4(), now=START),
    "evict": lambda backend: backend.evict(uuid4(), version=1, head=""),
    "purge": lambda backend: backend.purge(archived_before=START, now=START, limit=1),
    "aggregate": lambda backend: backend.aggregate(SessionFilter()),
    "start_sweep": lambda backend: backend.start_sweep(now=START, interval=HOUR),
}


class LifecyclePromises:
    """`open`, `aclose`, `health`."""

    async def test_what_was_written_is_there_after_a_reopening(self, open_backend: OpenBackend) -> None:
        async with aclosing(await open_backend()) as backend:
            session = await created(backend, sections={"context": {"focus": "margins"}})
            await backend.apply(session.id, ChangeMaker().query())
            before = await whole(backend, session.id)
        async with aclosing(await open_backend()) as again:
            assert await whole(again, session.id) == before

    async def test_what_one_connection_wrote_another_sees(self, backend: SessionBackend, other: SessionBackend) -> None:
        session = await created(backend)
        assert await whole(other, session.id) == session
        await other.apply(session.id, ChangeMaker().query())
        assert (await whole(backend, session.id)).total_queries == 1

    async def test_closing_one_connection_leaves_another_open(
        self, backend: SessionBackend, other: SessionBackend
    ) -> None:
        session = await created(backend)
        await other.aclose()
        assert await whole(backend, session.id) == session

    async def test_closing_is_repeatable(self, open_backend: OpenBackend) -> None:
        backend = await open_backend()
        await backend.aclose()
        await backend.aclose()

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    async def test_a_closed_backend_says_so(
        self, open_backend: OpenBackend, call: Callable[[SessionBackend], Awaitable[Any]]
    ) -> None:
        backend = await open_backend()
        await backend.aclose()
        with pytest.raises(BackendClosedError):
            await call(backend)

    async def test_a_backend_that_was_closed_can_be_opened_again(self, open_backend: OpenBackend) -> None:
        async with aclosing(await open_backend()) as backend:
            session = await created(backend)
            await backend.aclose()
            await backend.open()
            assert await whole(backend, session.id) == session

    async def test_closing_finishes_the_writes_under_way(self, open_backend: OpenBackend) -> None:
        backend = await open_backend()
        sessions = [stored_session() for _ in range(20)]
        writes = [asyncio.create_task(backend.create(session)) for session in sessions]
        await asyncio.sleep(0)  # lets every task begin
        await backend.aclose()
        await asyncio.gather(*writes)
        async with aclosing(await open_backend()) as again:
            assert [await again.read(session.id) for session in sessions] == sessions

    async def test_health_is_well_and_names_the_backend(self, backend: SessionBackend) -> None:
        health = await backend.health(now=START)
        assert (health.ok, health.backend, health.error) == (True, backend.name, None)
        assert health.latency_ms >= 0

    async def test_health_of_a_closed_backend_is_bad_and_raises_nothing(self, open_backend: OpenBackend) -> None:
        backend = await open_backend()
        await backend.aclose()
        health = await backend.health(now=START)
        assert not health.ok
        assert health.error

    async def test_health_counts_what_is_due_at_that_instant(self, backend: SessionBackend) -> None:
        await created(backend)
        await created(backend, expires_at=EXPIRY + MINUTE)
        await created(backend, archived_at=START)
        assert [(await backend.health(now=EXPIRY + after)).due for after in (-MINUTE, timedelta(), MINUTE)] == [0, 1, 2]
        await backend.claim_expired(now=EXPIRY, lease=HOUR, limit=1, max_bytes=ANY_SIZE)
        assert (await backend.health(now=EXPIRY)).due == 0

    async def test_health_tells_since_when_the_longest_due_has_been(self, backend: SessionBackend) -> None:
        for later in (MINUTE, timedelta(), 2 * MINUTE, HOUR):
            await created(backend, expires_at=EXPIRY + later)
        await created(backend, expires_at=EXPIRY - MINUTE, archived_at=START)
        assert [(await backend.health(now=EXPIRY + after)).due_since for after in (-MINUTE, timedelta(), HOUR)] == [
            None,
            EXPIRY,
            EXPIRY,
        ]
        await backend.claim_expired(now=EXPIRY, lease=HOUR, limit=1, max_bytes=ANY_SIZE)
        assert (await backend.health(now=EXPIRY + 3 * MINUTE)).due_since == EXPIRY + MINUTE

    async def test_health_tells_when_the_last_sweep_started(self, backend: SessionBackend) -> None:
        assert (await backend.health(now=START)).last_swept_at is None
        await backend.start_sweep(now=START, interval=HOUR)
        assert (await backend.health(now=START + MINUTE)).last_swept_at == START
