"""What operators are told of the data, and its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from perdure.backends.redis.backend import RedisBackend
from perdure.errors import SchemaError
from perdure.models import StoredSession
from perdure.testing import START, ChangeMaker
from perdure.testing.conformance.steps import EXPIRY, FOREVER, HOUR, created, listed, numbered
from perdure.testing.servers import ValkeyServer


async def filled(backend: RedisBackend) -> StoredSession:
    """Sessions of each kind; gives an active one."""
    for number in range(30):
        await created(backend, tags=(f"tag-{number % 7}",), queries=numbered(2), created_at=START + number * HOUR)
    for number in range(5):
        await created(backend, archived_at=EXPIRY, tags=(f"tag-{number}",))
    gone = await created(backend)
    await backend.delete(gone.id, forget_at=FOREVER)
    moved = await created(backend, queries=numbered(1))
    await backend.apply(moved.id, ChangeMaker().change(archive=True))
    await backend.ticket(gone.id, now=START)
    await backend.start_sweep(now=START, interval=HOUR)
    return await created(backend, queries=numbered(2), tags=("x",))


async def test_data_that_is_well_is_verified_as_such(backend: RedisBackend) -> None:
    await filled(backend)

    assert await backend.schema.verify() == []


DAMAGES: dict[str, tuple[Callable[[redis.Redis, str, bytes], Any], str]] = {
    "an index that lacks it": (
        lambda client, base, raw: client.zrem(f"{base}:a:tag:x", raw),
        "missing in the index tag:x",
    ),
    "the index of all": (lambda client, base, raw: client.zrem(f"{base}:a:all", raw), "missing in the index all"),
    "another score": (
        lambda client, base, raw: client.zadd(f"{base}:a:user:analyst", {raw: 5}),
        "another time of creation in the index user:analyst",
    ),
    "both kinds": (lambda client, base, raw: client.zadd(f"{base}:z:tag:x", {raw: 5}), "of archived sessions too"),
    "never due": (lambda client, base, raw: client.zrem(f"{base}:due", raw), "will never be due"),
    "old and active": (lambda client, base, raw: client.zadd(f"{base}:old", {raw: 5}), "though it is not archived"),
    "facts": (lambda client, base, raw: client.hset(f"{base}:s:{raw.hex()}", "F", "x"), "cannot be read"),
    "queries": (lambda client, base, raw: client.rpop(f"{base}:q:{raw.hex()}"), "has 1 of its 2 queries"),
    "nothing left": (lambda client, base, raw: client.delete(f"{base}:s:{raw.hex()}"), "nothing of it is kept"),
}


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES.values(), ids=DAMAGES.keys())
async def test_what_is_wrong_is_told_by_session(
    backend: RedisBackend,
    valkey_server: ValkeyServer,
    damage: Callable[[redis.Redis, str, bytes], Any],
    sentence: str,
) -> None:
    session = await filled(backend)
    base = backend._layout.bases[backend._layout.bucket_of(session.id)]
    with valkey_server.client() as client:
        damage(client, base, session.id.bytes)

    found = await backend.schema.verify()

    assert found
    assert all(line.startswith(f"session {session.id} ") for line in found)
    assert any(sentence in line for line in found)


async def test_dropping_removes_this_namespace_and_no_other(redis_url: str, valkey_server: ValkeyServer) -> None:
    ours, theirs = RedisBackend(redis_url), RedisBackend(f"{redis_url}?namespace=theirs")
    for backend in (ours, theirs):
        await backend.open()
        await filled(backend)
    kept = await listed(theirs)
    await ours.aclose()

    await ours.schema.drop()

    with valkey_server.client() as client:
        assert {key.split(":")[0] for key in client.keys("*")} == {"{theirs"}
    assert await listed(theirs) == kept
    assert await ours.schema.verify() == ["nothing is kept under the namespace 'perdure'"]
    await theirs.aclose()


async def test_dropping_ends_on_damaged_data_too(backend: RedisBackend, valkey_server: ValkeyServer) -> None:
    session = await filled(backend)
    base = backend._layout.bases[backend._layout.bucket_of(session.id)]
    with valkey_server.client() as client:
        client.zadd(f"{base}:a:all", {"no id at all": 1, b"0123456789abcdef": 2})
        client.hset(f"{base}:s:{session.id.hex}", "F", "x")

    await backend.schema.drop()

    with valkey_server.client() as client:
        assert client.keys("*:s:*") == client.keys("*:all") == client.keys("*:due") == []


async def test_creating_notes_the_layout_and_is_repeatable(redis_url: str) -> None:
    schema = RedisBackend(redis_url).schema
    with pytest.raises(SchemaError, match="perdure db create"):
        await schema.upgrade()

    await schema.create()
    await schema.create()

    assert await schema.upgrade() == ("1", "1")
    with pytest.raises(SchemaError, match="buckets"):
        await RedisBackend(f"{redis_url}?buckets=8").schema.create()


async def test_a_cluster_is_verified_and_dropped_too(cluster_url: str) -> None:
    backend = RedisBackend(cluster_url)
    await backend.open()
    await filled(backend)

    assert await backend.schema.verify() == []
    await backend.schema.drop()

    assert await listed(backend) == []
    await backend.aclose()
