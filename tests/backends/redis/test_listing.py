"""Listings of many buckets are those of one memory, however little a script looks at before it lets others go on."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from perdure.backends import MemoryBackend, SessionBackend
from perdure.backends.redis import listing
from perdure.backends.redis.backend import RedisBackend
from perdure.models import SessionFilter, StoredSession
from perdure.testing import START, ChangeMaker, stored_session

SESSIONS = 300


@pytest.fixture(params=["one server", "cluster"])
async def redis_backend(request: pytest.FixtureRequest) -> AsyncIterator[RedisBackend]:
    url: str = request.getfixturevalue("redis_url" if request.param == "one server" else "cluster_url")
    backend = RedisBackend(url)
    await backend.open()
    yield backend
    await backend.aclose()


def drawn(chance: random.Random) -> list[StoredSession]:
    """Sessions of which many have one instant of creation, and few a rare label."""
    return [
        stored_session(
            created_at=START + chance.choice([timedelta(), timedelta(seconds=chance.randrange(40))]),
            user_id=chance.choice(["ann", "bob", None]),
            type=chance.choice(["equity", "macro"]),
            assets=tuple(chance.sample(["A", "B", "C"], chance.randrange(1, 4))),
            tags=("rare",) if chance.random() < 0.03 else ("usual",),
            archived_at=START if chance.random() < 0.4 else None,
        )
        for _ in range(SESSIONS)
    ]


def a_filter(chance: random.Random) -> SessionFilter:
    wanted: dict[str, Any] = {}
    if chance.random() < 0.4:
        wanted["user_id"] = chance.choice(["ann", "bob", "nobody"])
    if chance.random() < 0.4:
        wanted["assets"] = chance.sample(["A", "B", "C"], chance.randrange(1, 4))
    if chance.random() < 0.4:
        wanted["tags"] = [chance.choice(["rare", "usual"])]
    if chance.random() < 0.5:
        wanted["archived"] = chance.random() < 0.5
    if chance.random() < 0.4:
        wanted["created_after"] = START + timedelta(seconds=chance.randrange(40))
    if chance.random() < 0.4:
        wanted["created_before"] = START + timedelta(seconds=chance.randrange(40))
    return SessionFilter(**wanted)


async def pages(backend: SessionBackend, wanted: SessionFilter, limit: int) -> list[list[Any]]:
    found: list[list[Any]] = []
    cursor: str | None = None
    while len(found) < SESSIONS:
        page = await backend.find(wanted, cursor=cursor, limit=limit)
        found.append(page.items)
        if (cursor := page.next_cursor) is None:
            return found
    raise AssertionError("a listing without an end")


@pytest.mark.parametrize("examined", [1, 50, 20_000])
async def test_listings_are_those_of_one_memory(
    redis_backend: RedisBackend, monkeypatch: pytest.MonkeyPatch, examined: int
) -> None:
    monkeypatch.setattr(listing, "EXAMINED", examined)
    chance = random.Random(examined)
    memory = MemoryBackend()
    await memory.open()
    sessions = drawn(chance)
    for backend in (memory, redis_backend):
        await backend.absorb(sessions)
        for session in sessions[::10]:
            if session.archived_at is None:
                change = ChangeMaker().change(add_tags=("rare",), remove_tags=("usual",), archive=True)
                await backend.apply(session.id, change)

    for _ in range(40):
        wanted, limit = a_filter(chance), chance.choice([1, 7, 50, 400])
        expected, found = [await pages(backend, wanted, limit) for backend in (memory, redis_backend)]
        assert [[s.id for s in page] for page in found] == [[s.id for s in page] for page in expected]
        assert (await redis_backend.aggregate(wanted)).sessions == sum(map(len, expected))
