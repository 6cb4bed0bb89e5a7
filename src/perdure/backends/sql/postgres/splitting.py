"""Doing much at once, so that what cannot be done fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar
from uuid import UUID

from perdure.backends.sql.postgres.meanings import concerns_content
from perdure.errors import PerdureError
from perdure.models import StoredSession

__all__ = ["each_alone", "split", "two_at_once"]

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

BATCH = 200
"""Most sessions in one transaction."""

BATCH_BYTES = 8 * 1024 * 1024
"""Most content in one transaction, unless a single session has more."""


def split(sessions: Sequence[StoredSession]) -> Iterator[list[StoredSession]]:
    """The sessions in batches that one transaction can take."""
    batch: list[StoredSession] = []
    size = 0
    for session in sessions:
        weight = session.size_bytes
        if batch and (len(batch) == BATCH or size + weight > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(session)
        size += weight
    if batch:
        yield batch


async def each_alone(
    items: Sequence[Item],
    send: Callable[[Sequence[Item]], Awaitable[dict[UUID, Outcome]]],
    fail: Callable[[Item, PerdureError], dict[UUID, Outcome]],
) -> dict[UUID, Outcome]:
    """What became of each; where the server takes some of them for wrong, halves are sent, down to the bad one.

    Raises: what `send` raises, if it is not about what was sent.
    """
    if not items:
        return {}
    try:
        return await send(items)
    except PerdureError as error:
        if not concerns_content(error):
            raise
        if len(items) == 1:
            return fail(items[0], error)
    middle = len(items) // 2
    return {**await each_alone(items[:middle], send, fail), **await each_alone(items[middle:], send, fail)}


async def two_at_once(batches: Iterable[Item], work: Callable[[Item], Awaitable[None]]) -> None:
    """Do the work for each batch, so that one can be made ready while the server is busy with another.

    Raises: what `work` raises; then none of it is under way any more, and the rest was not begun.
    """
    left = iter(batches)

    async def one_by_one() -> None:
        for batch in left:
            await work(batch)

    workers = [asyncio.create_task(one_by_one()) for _ in range(2)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
