"""Who sweeps, and when."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import datetime, timedelta

from perdure.backends import SessionBackend
from perdure.testing.builders import START
from perdure.testing.conformance.steps import HOUR, MICROSECOND, MINUTE, OpenBackend

__all__ = ["SweepingPromises"]


async def starts(backend: SessionBackend, now: datetime, *, interval: timedelta = HOUR) -> bool:
    """Whether a sweep is due."""
    return await backend.start_sweep(now=now, interval=interval)


class SweepingPromises:
    """`start_sweep`."""

    async def test_the_first_sweep_is_due(self, backend: SessionBackend) -> None:
        assert await starts(backend, START) is True

    async def test_a_sweep_starts_once_in_each_interval(self, backend: SessionBackend) -> None:
        assert await starts(backend, START)
        assert not await starts(backend, START)
        assert not await starts(backend, START + HOUR - MICROSECOND)
        assert await starts(backend, START + HOUR)
        assert not await starts(backend, START + HOUR + MINUTE)

    async def test_a_sweep_that_was_not_due_is_not_noted(self, backend: SessionBackend) -> None:
        await starts(backend, START)
        await starts(backend, START + HOUR / 2)
        assert await starts(backend, START + HOUR)

    async def test_a_sweep_on_one_connection_counts_on_every_other(
        self, backend: SessionBackend, other: SessionBackend
    ) -> None:
        assert await starts(backend, START)
        assert not await starts(other, START + MINUTE)

    async def test_a_sweep_is_noted_across_a_reopening(self, open_backend: OpenBackend) -> None:
        async with aclosing(await open_backend()) as backend:
            assert await starts(backend, START)
        async with aclosing(await open_backend()) as again:
            assert not await starts(again, START + MINUTE)

    async def test_of_concurrent_callers_one_starts(self, backend: SessionBackend, other: SessionBackend) -> None:
        started = await asyncio.gather(*(starts((backend, other)[n % 2], START) for n in range(10)))
        assert started.count(True) == 1

    async def test_a_clock_set_back_does_not_stop_the_sweeps(self, backend: SessionBackend) -> None:
        assert await starts(backend, START + 1_000 * HOUR)
        assert await starts(backend, START)
        assert not await starts(backend, START + MINUTE)

    async def test_an_interval_of_zero_always_starts_and_is_noted(self, backend: SessionBackend) -> None:
        for _ in range(2):
            assert await starts(backend, START, interval=timedelta())
        assert await starts(backend, START + MINUTE, interval=timedelta())
        assert not await starts(backend, START + HOUR)
        assert await starts(backend, START + HOUR + MINUTE)
