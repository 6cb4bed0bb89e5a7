"""A server that stalls, restarts, forgets its scripts; callers that are many, cancelled, or send what cannot be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.backends.redis.proxy import LossyProxy

from perdure.backends import SessionBackend
from perdure.backends.redis.backend import RedisBackend
from perdure.changes import Applied, SessionChange
from perdure.errors import BackendUnavailableError, CorruptDataError, PerdureError, VersionConflictError
from perdure.merging import AbsorbOutcome
from perdure.models import SessionFilter, StoredSession
from perdure.testing import START, ChangeMaker, stored_query, stored_session
from perdure.testing.conformance.steps import FOREVER, MINUTE, claimed_ids, created, listed, numbered, whole
from perdure.testing.servers import ValkeyServer

Behind = tuple[LossyProxy, RedisBackend]


# Many at once ---------------------------------------------------------------------------------------


async def test_five_hundred_tasks_at_once_all_succeed(backend: RedisBackend, valkey_server: ValkeyServer) -> None:
    sessions = [stored_session(queries=numbered(1)) for _ in range(500)]

    async def life(session: StoredSession) -> None:
        await backend.create(session)
        assert await backend.read(session.id) == session
        await backend.apply(session.id, ChangeMaker().query())
        assert (await whole(backend, session.id)).total_queries == 2

    await asyncio.gather(*map(life, sessions))

    assert len(await listed(backend)) == 500
    with valkey_server.client() as client:
        ours = len(client.client_list()) - 1
    assert ours <= backend.address.writers + backend.address.readers


async def test_what_waits_shares_flights(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    sessions = [await created(backend) for _ in range(100)]
    proxy.requests.clear()

    await asyncio.gather(*(backend.apply(session.id, ChangeMaker().query()) for session in sessions))

    assert len(proxy.requests) < 10
    assert proxy.connections == 2


async def test_evictions_at_once_share_flights(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    sessions = [stored_session() for _ in range(300)]
    await backend.absorb(sessions)
    proxy.requests.clear()

    evicted = await asyncio.gather(*(backend.evict(s.id, version=s.version, head=s.head) for s in sessions))

    assert evicted == [True] * 300
    assert len(proxy.requests) < 15


# Bad neighbours -------------------------------------------------------------------------------------


async def test_of_a_hundred_changes_together_a_poisoned_one_fails_alone(
    behind_proxy: Behind, valkey_server: ValkeyServer
) -> None:
    _, backend = behind_proxy
    sessions = [await created(backend) for _ in range(100)]
    poisoned, refused = sessions[37], sessions[64]
    with valkey_server.client() as client:
        client.set(backend._layout.place(poisoned.id)[1][1], "no list of queries at all")

    async def change(session: StoredSession) -> Applied | PerdureError:
        try:
            return await backend.apply(session.id, ChangeMaker().query(if_version=9 if session is refused else None))
        except PerdureError as error:
            return error

    ended = await asyncio.gather(*map(change, sessions))

    outcomes = dict(zip([session.id for session in sessions], ended, strict=True))

    assert isinstance(outcomes.pop(poisoned.id), CorruptDataError)
    assert isinstance(outcomes.pop(refused.id), VersionConflictError)
    assert set(outcomes.values()) == {Applied(version=2, total_queries=1)}
    for session in sessions:
        if session not in (poisoned, refused):
            assert (await whole(backend, session.id)).total_queries == 1
    assert await whole(backend, refused.id) == refused


@pytest.mark.parametrize("setting", ["proto-max-bulk-len", "client-query-buffer-limit"])
async def test_a_change_that_breaks_the_connection_breaks_it_for_no_other(setting: str) -> None:
    with ValkeyServer(durability="none") as server:
        backend = RedisBackend(f"{server.url}?writers=1&timeout=1.5")
        await backend.open()
        sessions = [await created(backend) for _ in range(20)]
        with server.client() as client:
            client.config_set(setting, 1024 * 1024)
        huge = stored_query(result_summary="x" * 3_000_000)
        changes = [ChangeMaker().query() for _ in sessions]
        changes[7] = ChangeMaker().change(queries=(huge,))

        async def change(session: StoredSession, change: SessionChange) -> Applied | PerdureError:
            try:
                return await backend.apply(session.id, change)
            except PerdureError as error:
                return error

        outcomes = await asyncio.gather(*map(change, sessions, changes))

        assert isinstance(outcomes.pop(7), BackendUnavailableError)
        assert set(outcomes) == {Applied(version=2, total_queries=1)}
        totals = [(await whole(backend, session.id)).total_queries for session in sessions]
        assert totals == [1] * 7 + [0] + [1] * 12
        await backend.aclose()


async def test_a_session_that_breaks_the_connection_is_absorbed_by_nobody_and_all_others_are() -> None:
    with ValkeyServer(durability="none") as server:
        backend = RedisBackend(f"{server.url}?writers=1&timeout=1.5")
        await backend.open()
        sessions = [stored_session(queries=numbered(2)) for _ in range(20)]
        sessions[7] = stored_session(queries=(stored_query(result_summary="x" * 3_000_000),))
        with server.client() as client:
            client.config_set("client-query-buffer-limit", 1024 * 1024)

        report = await backend.absorb(sessions)

        outcomes = [done.outcome for done in report]
        assert outcomes == [AbsorbOutcome.STORED] * 7 + [AbsorbOutcome.FAILED] + [AbsorbOutcome.STORED] * 12
        assert await backend.read(sessions[7].id) is None
        assert await whole(backend, sessions[8].id) == sessions[8]
        await backend.aclose()


async def test_a_cancelled_caller_hurts_nobody_and_its_change_is_applied_once_or_never(backend: RedisBackend) -> None:
    session = await created(backend)
    for cancelled in range(0, 30, 7):
        changes = [ChangeMaker().query() for _ in range(30)]
        tasks = [asyncio.create_task(backend.apply(session.id, change)) for change in changes]
        await asyncio.sleep(0)
        tasks[cancelled].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)

        after = await whole(backend, session.id)
        assert isinstance(done.pop(cancelled), asyncio.CancelledError)
        assert [outcome for outcome in done if not isinstance(outcome, Applied)] == []
        assert len(set(after.queries)) == len(after.queries) == after.total_queries
        others = {change.queries[0].body for number, change in enumerate(changes) if number != cancelled}
        assert others <= set(after.queries)


# A server that forgets, restarts, stalls ------------------------------------------------------------


async def test_scripts_that_the_server_has_forgotten_are_sent_again(
    backend: RedisBackend, valkey_server: ValkeyServer
) -> None:
    with valkey_server.client() as client:
        for _ in range(2):
            sessions = [stored_session(queries=numbered(2)) for _ in range(30)]
            client.script_flush()
            assert {done.outcome for done in await backend.absorb(sessions)} == {AbsorbOutcome.STORED}
            client.script_flush()
            applied = await asyncio.gather(*(backend.apply(s.id, ChangeMaker().query()) for s in sessions))
            assert set(applied) == {Applied(version=2, total_queries=3)}
            client.script_flush()
            assert len(await listed(backend)) >= 30


async def test_a_script_goes_as_text_once_and_by_its_name_from_then_on(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    session = await created(backend)
    await backend.apply(session.id, ChangeMaker().query())
    proxy.requests.clear()

    await backend.apply(session.id, ChangeMaker().query())

    (request,) = proxy.requests
    assert request.startswith(b"*")
    assert b"EVALSHA" in request
    assert len(request) < 1_000


async def test_a_restart_is_survived_by_every_call_within_the_time(redis_url: str, valkey_server: ValkeyServer) -> None:
    backend = RedisBackend(f"{redis_url}?timeout=20")
    await backend.open()
    sessions = [await created(backend) for _ in range(40)]
    valkey_server.kill()
    writes = [
        asyncio.create_task(backend.apply(session.id, change))
        for session, change in ((s, ChangeMaker().query()) for s in sessions)
    ]
    reads = [asyncio.create_task(backend.read(session.id)) for session in sessions]
    await asyncio.sleep(0.3)
    await asyncio.to_thread(valkey_server.start)

    assert set(await asyncio.gather(*writes)) == {Applied(version=2, total_queries=1)}
    assert None not in await asyncio.gather(*reads)
    assert [(await whole(backend, session.id)).total_queries for session in sessions] == [1] * 40
    await backend.aclose()


async def test_writers_through_a_kill_and_a_restart_lose_nothing_that_was_acknowledged(
    redis_url: str, valkey_server: ValkeyServer
) -> None:
    backend = RedisBackend(f"{redis_url}?timeout=10")
    await backend.open()
    sessions = [await created(backend) for _ in range(8)]
    acknowledged: dict[int, list[str]] = {number: [] for number in range(8)}
    stop = asyncio.Event()

    async def write(number: int) -> None:
        writer = ChangeMaker()
        while not stop.is_set():
            change = writer.query()
            await backend.apply(sessions[number].id, change)
            acknowledged[number].append(change.queries[0].body)

    writing = [asyncio.create_task(write(number)) for number in range(8)]
    for _ in range(3):
        await asyncio.sleep(0.2)
        await asyncio.to_thread(valkey_server.restart)
    await asyncio.sleep(0.2)
    stop.set()
    await asyncio.gather(*writing)

    assert sum(map(len, acknowledged.values())) > 50
    for number, session in enumerate(sessions):
        assert (await whole(backend, session.id)).queries == acknowledged[number]
    await backend.aclose()


CALLS: dict[str, Callable[[SessionBackend, StoredSession], Awaitable[Any]]] = {
    "create": lambda backend, session: backend.create(stored_session()),
    "read": lambda backend, session: backend.read(session.id),
    "apply": lambda backend, session: backend.apply(session.id, ChangeMaker().query()),
    "queries": lambda backend, session: backend.queries(session.id, limit=1),
    "find": lambda backend, session: backend.find(SessionFilter(), limit=1),
    "delete": lambda backend, session: backend.delete(session.id, forget_at=FOREVER),
    "claim": lambda backend, session: backend.claim_expired(now=START, lease=MINUTE, limit=1, max_bytes=1),
    "absorb": lambda backend, session: backend.absorb([stored_session()]),
    "evict": lambda backend, session: backend.evict(session.id, version=1, head=""),
    "copies": lambda backend, session: backend.copies([session.id]),
}


async def test_a_stalled_server_is_a_clear_error_within_the_time(redis_url: str, valkey_server: ValkeyServer) -> None:
    backend = RedisBackend(f"{redis_url}?timeout=0.8&socket_timeout=0.4")
    await backend.open()
    session = await created(backend)
    valkey_server.stop()
    began = time.perf_counter()

    outcomes = await asyncio.gather(
        *(call(backend, session) for call in CALLS.values() for _ in range(20)), return_exceptions=True
    )

    elapsed = time.perf_counter() - began
    health = await backend.health(now=START)
    valkey_server.resume()
    assert {type(outcome) for outcome in outcomes} == {BackendUnavailableError}
    assert elapsed < 1.6
    assert not health.ok
    assert health.error
    assert len(await listed(backend)) <= 41
    await backend.aclose()


async def test_a_server_that_is_gone_is_a_clear_error_within_the_time(
    redis_url: str, valkey_server: ValkeyServer
) -> None:
    backend = RedisBackend(f"{redis_url}?timeout=0.5")
    await backend.open()
    session = await created(backend)
    valkey_server.kill()

    began = time.perf_counter()
    with pytest.raises(BackendUnavailableError):
        await backend.apply(session.id, ChangeMaker().query())
    assert time.perf_counter() - began < 1
    assert (await backend.health(now=START)).ok is False
    await asyncio.to_thread(valkey_server.start)
    assert (await backend.health(now=START)).ok is True
    await backend.aclose()


async def test_a_repeat_given_by_the_store_is_counted_on(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    session = await created(backend)
    change = replace(ChangeMaker().query(), attempt=3)
    proxy.lose_requests = 1

    await backend.apply(session.id, change)

    assert (await whole(backend, session.id)).head == change.resent().head


async def test_a_claim_whose_answer_was_lost_comes_back_with_its_lease(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    session = await created(backend, expires_at=START)
    proxy.lose_answers = 1

    assert await claimed_ids(backend, START, lease=MINUTE) == []
    assert await claimed_ids(backend, START + MINUTE) == [session.id]
