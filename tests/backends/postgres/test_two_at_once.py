"""Batches of which one is made ready while the server is busy with another."""

from __future__ import annotations

import asyncio

import pytest

from perdure.backends.sql.postgres.splitting import two_at_once


async def test_each_batch_is_dealt_with_once_two_of_them_at_a_time() -> None:
    begun, most, under_way = list[int](), 0, 0

    async def work(batch: int) -> None:
        nonlocal most, under_way
        begun.append(batch)
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    await two_at_once(range(7), work)

    assert (begun, most, under_way) == (list(range(7)), 2, 0)


async def test_where_one_fails_the_other_is_over_too_and_nothing_more_begins() -> None:
    begun, ended = list[int](), list[int]()

    async def work(batch: int) -> None:
        begun.append(batch)
        if batch == 1:
            raise ValueError("batch 1")
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended.append(batch)

    with pytest.raises(ValueError, match="batch 1"):
        await two_at_once(range(7), work)

    assert (begun, ended) == ([0, 1], [0])
