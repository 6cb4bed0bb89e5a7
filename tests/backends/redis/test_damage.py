"""Keys that somebody damaged, or that the server threw away: each is named, and hides no other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import redis

from perdure.backends.redis.backend import RedisBackend
from perdure.errors import CorruptDataError
from perdure.merging import AbsorbOutcome
from perdure.models import SessionFilter, StoredSession
from perdure.testing import START, ChangeMaker, stored_session
from perdure.testing.conformance.steps import ANY_SIZE, EXPIRY, FOREVER, MINUTE, claimed_ids, created, listed, numbered
from perdure.testing.servers import ValkeyServer

Damage = Callable[[redis.Redis, str, str], Any]

DAMAGES: dict[str, Damage] = {
    "no facts": lambda client, key, _: client.hdel(key, "F"),
    "facts that are none": lambda client, key, _: client.hset(key, "F", "nonsense"),
    "facts with a number too many": lambda client, key, _: client.hset(key, "F", "1 " + str(client.hget(key, "F"))),
    "facts cut short": lambda client, key, _: client.hset(key, "F", str(client.hget(key, "F"))[:40]),
    "no labels": lambda client, key, _: client.hdel(key, "L"),
    "labels that are none": lambda client, key, _: client.hset(key, "L", "nonsense"),
    "labels that are no text": lambda client, key, _: client.hset(key, "L", b"\xff\xfe\x00"),
    "an entry in no section": lambda client, key, _: client.hset(key, "xkey", "1"),
    "no queries": lambda client, _, queries: client.delete(queries),
    "too few queries": lambda client, _, queries: client.rpop(queries),
    "too many queries": lambda client, _, queries: client.rpush(queries, "{}"),
    "another type": lambda client, key, _: (client.delete(key), client.set(key, "x")),
}
IN_LISTINGS = {"an entry in no section", "no queries", "too few queries", "too many queries"}
"""Damages that a listing does not look at."""


async def damaged(backend: RedisBackend, server: ValkeyServer, damage: Damage, **facts: Any) -> StoredSession:
    session = await created(backend, queries=numbered(3), sections={"context": {"a": 1}}, tags=("x",), **facts)
    with server.client() as client:
        damage(client, *backend._layout.place(session.id)[1])
    return session


every_damage = pytest.mark.parametrize("name", DAMAGES)


@every_damage
async def test_a_damaged_session_is_an_error_that_names_it(
    backend: RedisBackend, valkey_server: ValkeyServer, name: str
) -> None:
    session = await damaged(backend, valkey_server, DAMAGES[name])

    with pytest.raises(CorruptDataError) as caught:
        await backend.read(session.id)

    assert str(session.id) in str(caught.value) or "another namespace" in str(caught.value)


@every_damage
async def test_a_damaged_session_hides_no_other_in_a_listing(
    backend: RedisBackend, valkey_server: ValkeyServer, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    first = await created(backend, created_at=START, tags=("x",))
    session = await damaged(backend, valkey_server, DAMAGES[name], created_at=START + MINUTE)
    last = await created(backend, created_at=START + 2 * MINUTE, tags=("x",))

    with caplog.at_level(logging.WARNING, "perdure.redis"):
        for limit in (1, 2, 10):
            found = await listed(backend, limit=limit, tags=["x"])
            assert found == [last.id, *([session.id] if name in IN_LISTINGS else []), first.id]

    assert any(str(session.id) in record.getMessage() for record in caplog.records) == (name not in IN_LISTINGS)


@every_damage
async def test_a_damaged_session_is_claimed_apart_and_stops_no_other(
    backend: RedisBackend, valkey_server: ValkeyServer, name: str
) -> None:
    sessions = [await created(backend, expires_at=EXPIRY + number * MINUTE) for number in (0, 2)]
    session = await damaged(backend, valkey_server, DAMAGES[name], expires_at=EXPIRY + MINUTE)

    claimed = await backend.claim_expired(now=FOREVER, lease=MINUTE, limit=10, max_bytes=ANY_SIZE)

    assert [taken.id for taken in claimed] == [kept.id for kept in sessions]
    assert list(claimed.unreadable) == [session.id]
    assert claimed.unreadable[session.id]
    assert await claimed_ids(backend, FOREVER) == []


@every_damage
async def test_a_damaged_session_is_counted_by_nobody_and_stops_no_count(
    backend: RedisBackend, valkey_server: ValkeyServer, name: str
) -> None:
    await created(backend, queries=numbered(2))
    await damaged(backend, valkey_server, DAMAGES[name])

    assert (await backend.aggregate(SessionFilter())).total_queries == 2


@every_damage
async def test_a_damaged_session_takes_no_change_and_is_left_as_it_is(
    backend: RedisBackend, valkey_server: ValkeyServer, name: str
) -> None:
    if name in ("labels that are none", "labels that are no text", "no labels", "an entry in no section"):
        pytest.skip("a change of queries does not look at those")
    session = await damaged(backend, valkey_server, DAMAGES[name])
    before = contents(valkey_server, backend, session.id)

    with pytest.raises(CorruptDataError):
        await backend.apply(session.id, ChangeMaker().query(set_entries={"context": {"b": "1"}}))

    assert contents(valkey_server, backend, session.id) == before


@every_damage
async def test_a_damaged_session_can_be_deleted_and_absorbed_anew(
    backend: RedisBackend, valkey_server: ValkeyServer, name: str
) -> None:
    session = await damaged(backend, valkey_server, DAMAGES[name])

    (failed,) = await backend.absorb([stored_session(id=session.id, version=7)])
    assert failed.outcome in (AbsorbOutcome.FAILED, AbsorbOutcome.MERGED, AbsorbOutcome.FORKED)
    assert await backend.delete(session.id, forget_at=START) is True
    await backend.purge(archived_before=START, now=START, limit=1)
    fresh = stored_session(id=session.id)
    await backend.create(fresh)

    assert await backend.read(session.id) == fresh


async def test_text_that_is_no_text_comes_with_its_bytes_shown(
    backend: RedisBackend, valkey_server: ValkeyServer
) -> None:
    session = await created(backend, queries=numbered(2), sections={"context": {"a": 1, "b": 2}})
    with valkey_server.client() as client:
        key, queries = backend._layout.place(session.id)[1]
        client.hset(key, "ca", b'"\xff"')
        client.lset(queries, 0, b"\xfe{}")

    after = await backend.read(session.id)
    page = await backend.queries(session.id, limit=1)

    assert after is not None
    assert page is not None
    assert after.sections["context"] == {"a": '"\\xff"', "b": "2"}
    assert after.queries[0] == page.bodies[0] == "\\xfe{}"
    assert after.queries[1] == session.queries[1]


async def test_what_the_server_evicted_is_reported_once_and_dropped(
    backend: RedisBackend, valkey_server: ValkeyServer
) -> None:
    session = await created(backend, tags=("x",))
    kept = await created(backend, tags=("x",))
    with valkey_server.client() as client:
        client.delete(*backend._layout.place(session.id)[1])

    claimed = await backend.claim_expired(now=EXPIRY, lease=MINUTE, limit=10, max_bytes=ANY_SIZE)

    assert [taken.id for taken in claimed] == [kept.id]
    assert "evicted" in claimed.unreadable[session.id]
    again = await backend.claim_expired(now=FOREVER, lease=MINUTE, limit=10, max_bytes=ANY_SIZE)
    assert again.unreadable == {}
    assert await listed(backend, tags=["x"]) == [kept.id]


def contents(server: ValkeyServer, backend: RedisBackend, session_id: UUID) -> list[Any]:
    with server.client() as client:
        client.connection_pool.connection_kwargs["decode_responses"] = False
        return [client.dump(key) for key in backend._layout.place(session_id)[1]]
