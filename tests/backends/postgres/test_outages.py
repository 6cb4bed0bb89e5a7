"""Servers that are killed, stalled, restarted or cut off, and callers that go away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from tests.backends.postgres.conftest import KEPT
from tests.backends.postgres.proxies import Cut, CuttingProxy

from perdure.backends.sql.postgres import PostgresBackend
from perdure.backends.sql.postgres.commits import GroupCommit
from perdure.changes import Applied
from perdure.errors import BackendUnavailableError, SessionExistsError
from perdure.merging import AbsorbOutcome
from perdure.models import SessionFilter
from perdure.testing import START, ChangeMaker, stored_query, stored_session
from perdure.testing.servers import PostgresServer

LATER = START + timedelta(hours=2)
SOON = timedelta(seconds=1)


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[PostgresBackend]:
    backend = PostgresBackend(url, **options)
    await backend.open()
    async with aclosing(backend):
        yield backend


@pytest_asyncio.fixture
async def proxy(sessions_url: str) -> CuttingProxy:
    return CuttingProxy(sessions_url)


@pytest_asyncio.fixture
async def backend(proxy: CuttingProxy) -> AsyncIterator[PostgresBackend]:
    """Behind a line that can be cut."""
    async with proxy.listening() as url, opened(url) as backend:
        yield backend


# Lost answers ---------------------------------------------------------------------------------------

CONTENT: dict[str, dict[str, Any]] = {
    "a query": {},
    "keys and queries": {"set_entries": {"context": {"k": "1"}}},
    "labels": {"add_tags": ("x",)},
}


@pytest.mark.parametrize("content", CONTENT.values(), ids=list(CONTENT))
@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("times", [1, 3])
async def test_a_change_whose_answer_is_lost_is_applied_exactly_once(
    backend: PostgresBackend, proxy: CuttingProxy, cut: Cut, times: int, content: dict[str, Any]
) -> None:
    session = stored_session()
    await backend.create(session)
    maker = ChangeMaker()
    await backend.apply(session.id, maker.query())

    proxy.cut_next(cut, times=times)
    answer = await backend.apply(session.id, maker.query(**content))

    assert proxy.cuts == times
    assert answer == Applied(version=3, total_queries=2)
    after = await backend.read(session.id)
    assert after is not None
    assert (after.version, after.total_queries, len(after.queries)) == (3, 2, 2)


@pytest.mark.parametrize("cut", Cut)
async def test_a_batch_whose_answer_is_lost_is_applied_exactly_once(
    backend: PostgresBackend, proxy: CuttingProxy, cut: Cut
) -> None:
    sessions = [stored_session() for _ in range(20)]
    for session in sessions:
        await backend.create(session)
    maker = ChangeMaker()
    first = asyncio.create_task(backend.apply(sessions[0].id, maker.query()))
    await asyncio.sleep(0)  # it is on its way, so that the others wait and share a transaction
    proxy.cut_next(cut, times=2)
    answers = await asyncio.gather(first, *(backend.apply(session.id, maker.query()) for session in sessions[1:]))

    assert proxy.cuts == 2
    assert set(answers) == {Applied(version=2, total_queries=1)}
    for session in sessions:
        after = await backend.read(session.id)
        assert after is not None
        assert (after.version, after.total_queries) == (2, 1)


async def test_an_answer_that_is_lost_again_and_again_is_not_known(
    backend: PostgresBackend, proxy: CuttingProxy
) -> None:
    session = stored_session()
    await backend.create(session)
    change = ChangeMaker().query()
    proxy.cut_next(Cut.AFTER, times=100)
    with pytest.raises(BackendUnavailableError):
        await backend.apply(session.id, change)
    proxy.times = 0

    assert await backend.apply(session.id, change.repeated()) == Applied(version=2, total_queries=1)


@pytest.mark.parametrize("cut", Cut)
async def test_a_session_whose_creation_is_not_confirmed_is_created_once(
    backend: PostgresBackend, proxy: CuttingProxy, cut: Cut
) -> None:
    session = stored_session(queries=(stored_query(),), tags=("x",))
    proxy.cut_next(cut)
    await backend.create(session)

    assert proxy.cuts == 1
    assert await backend.read(session.id) == session
    with pytest.raises(SessionExistsError):
        await backend.create(session)


async def test_another_session_under_the_id_is_not_taken_for_the_own(
    backend: PostgresBackend, proxy: CuttingProxy
) -> None:
    there = stored_session()
    await backend.create(there)
    proxy.cut_next(Cut.AFTER)
    with pytest.raises(SessionExistsError):
        await backend.create(stored_session(id=there.id))
    assert proxy.cuts == 1
    assert await backend.read(there.id) == there


@pytest.mark.parametrize("cut", Cut)
async def test_absorbing_goes_on_after_a_lost_answer(backend: PostgresBackend, proxy: CuttingProxy, cut: Cut) -> None:
    there, new = stored_session(), stored_session(queries=(stored_query(),))
    await backend.create(there)
    later = stored_session(id=there.id, version=2, head="later", queries=(stored_query(),))
    for _ in range(2):
        proxy.cut_next(cut)
        await backend.absorb([later, new])
        assert proxy.cuts == 1
    assert [await backend.read(known) for known in (there.id, new.id)] == [later, new]


@pytest.mark.parametrize("cut", Cut)
async def test_what_was_archived_is_delivered_although_the_answer_was_lost(
    backend: PostgresBackend, proxy: CuttingProxy, cut: Cut
) -> None:
    session = stored_session()
    await backend.create(session)
    delivered: list[Any] = []

    async def deliver(archived: Any) -> None:
        delivered.extend(archived)
        proxy.cut_next(cut)

    proxy.cut_next(cut)
    await backend.archive([session], at=LATER, deliver=deliver)

    assert [(each.id, each.archived_at) for each in delivered] == [(session.id, LATER)]
    assert (await backend.health(now=LATER)).due == 0


READS: dict[str, Callable[[PostgresBackend], Awaitable[Any]]] = {
    "read": lambda backend: backend.read(stored_session().id),
    "queries": lambda backend: backend.queries(stored_session().id, limit=1),
    "find": lambda backend: backend.find(SessionFilter(), limit=1),
    "copies": lambda backend: backend.copies([stored_session().id]),
    "aggregate": lambda backend: backend.aggregate(SessionFilter()),
    "ticket": lambda backend: backend.ticket(stored_session().id, now=START),
}


@pytest.mark.parametrize("read", READS.values(), ids=list(READS))
async def test_reading_goes_on_after_a_lost_answer(
    backend: PostgresBackend, proxy: CuttingProxy, read: Callable[[PostgresBackend], Awaitable[Any]]
) -> None:
    await read(backend)
    proxy.cut_next(Cut.AFTER)
    await read(backend)
    assert proxy.cuts == 1


async def test_what_cannot_be_told_from_a_repeat_is_not_repeated(backend: PostgresBackend, proxy: CuttingProxy) -> None:
    """Whether there was a session to delete, or to evict: the second attempt would say no."""
    sessions = [stored_session() for _ in range(2)]
    for session in sessions:
        await backend.create(session)
    proxy.cut_next(Cut.AFTER, times=2)
    with pytest.raises(BackendUnavailableError):
        await backend.delete(sessions[0].id, forget_at=LATER)
    with pytest.raises(BackendUnavailableError):
        await backend.evict(sessions[1].id, version=1, head=sessions[1].head)
    assert proxy.cuts == 2
    assert await backend.delete(sessions[0].id, forget_at=LATER) is False
    assert await backend.read(sessions[1].id) is None


async def test_a_fill_whose_answer_is_lost_is_begun_anew(backend: PostgresBackend, proxy: CuttingProxy) -> None:
    session = stored_session()
    ticket = await backend.ticket(session.id, now=START)
    proxy.cut_next(Cut.AFTER)
    with pytest.raises(BackendUnavailableError):
        await backend.absorb([session], tickets={session.id: ticket})
    (again,) = await backend.absorb([session], tickets={session.id: ticket})
    assert again.outcome is AbsorbOutcome.REFUSED


# Servers --------------------------------------------------------------------------------------------


async def test_a_server_that_is_killed_and_restarted_is_found_again(
    sessions_url: str, postgres_server: PostgresServer
) -> None:
    session = stored_session()
    maker = ChangeMaker()
    async with opened(sessions_url) as backend:
        await backend.create(session)
        first = await backend.apply(session.id, maker.query())
        postgres_server.kill()
        for call in (backend.read(session.id), backend.apply(session.id, maker.query())):
            with pytest.raises(BackendUnavailableError):
                await call
        health = await backend.health(now=START)
        assert not health.ok
        await asyncio.to_thread(postgres_server.restart)

        after = await backend.read(session.id)
        assert after is not None
        assert after.total_queries >= first.total_queries
        assert (await backend.apply(session.id, maker.query())).total_queries == after.total_queries + 1
        assert (await backend.health(now=START)).ok


async def test_no_acknowledged_write_is_lost_when_the_server_is_killed_under_load(
    sessions_url: str, postgres_server: PostgresServer
) -> None:
    sessions = [stored_session() for _ in range(16)]
    async with opened(sessions_url) as backend:
        for session in sessions:
            await backend.create(session)
        acknowledged = [0] * len(sessions)
        stop = asyncio.Event()

        async def write(number: int) -> None:
            maker, lost = ChangeMaker(), None
            while not stop.is_set() or lost is not None:
                change = maker.query() if lost is None else lost.repeated()
                try:
                    answer = await backend.apply(sessions[number].id, change)
                except BackendUnavailableError:
                    lost = change
                    await asyncio.sleep(0.05)
                else:
                    lost = None
                    acknowledged[number] += 1
                    assert answer.total_queries == acknowledged[number]

        writers = [asyncio.create_task(write(number)) for number in range(len(sessions))]
        for _ in range(2):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(postgres_server.kill)
            await asyncio.to_thread(postgres_server.restart)
        await asyncio.sleep(0.3)
        stop.set()
        await asyncio.gather(*writers)
        for session, count in zip(sessions, acknowledged, strict=True):
            after = await backend.read(session.id)
            assert after is not None
            assert count > 0
            assert (after.total_queries, len(after.queries), after.version) == (count, count, count + 1)


async def test_a_clean_restart_in_between_is_not_noticed(sessions_url: str, postgres_server: PostgresServer) -> None:
    session = stored_session()
    async with opened(sessions_url) as backend:
        await backend.create(session)
        await asyncio.gather(*(backend.read(session.id) for _ in range(8)))  # opens all connections
        await backend.apply(session.id, ChangeMaker().query())
        await asyncio.to_thread(postgres_server.terminate)
        await asyncio.to_thread(postgres_server.start)
        found = await asyncio.gather(*(backend.read(session.id) for _ in range(8)))
        assert {each.total_queries for each in found if each is not None} == {1}
        assert (await backend.apply(session.id, ChangeMaker().query())).total_queries == 2
        assert await backend.delete(session.id, forget_at=LATER) is True


CALLS: dict[str, Callable[[PostgresBackend], Awaitable[Any]]] = {
    "create": lambda backend: backend.create(stored_session()),
    "apply": lambda backend: backend.apply(stored_session().id, ChangeMaker().query()),
    "delete": lambda backend: backend.delete(stored_session().id, forget_at=LATER),
    "absorb": lambda backend: backend.absorb([stored_session()]),
    "claim_expired": lambda backend: backend.claim_expired(now=LATER, lease=SOON, limit=1, max_bytes=1),
    **READS,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
async def test_a_server_that_stalls_is_given_up_within_the_time_out(
    sessions_url: str, postgres_server: PostgresServer, call: Callable[[PostgresBackend], Awaitable[Any]]
) -> None:
    options = {"connect_timeout": SOON, "command_timeout": SOON, "bulk_timeout": SOON}
    async with opened(sessions_url, **options) as backend:
        await backend.read(stored_session().id)
        postgres_server.stop()
        try:
            began = time.monotonic()
            with pytest.raises(BackendUnavailableError, match="no answer in time"):
                await call(backend)
            assert time.monotonic() - began < 2
            health = await backend.health(now=START)
            assert not health.ok
        finally:
            postgres_server.resume()
        await backend.read(stored_session().id)


async def test_opening_gives_up_on_a_server_that_stalls(sessions_url: str, postgres_server: PostgresServer) -> None:
    postgres_server.stop()
    try:
        with pytest.raises(BackendUnavailableError, match="no answer in time"):
            await PostgresBackend(sessions_url, connect_timeout=SOON, command_timeout=SOON).open()
    finally:
        postgres_server.resume()


async def test_a_row_that_another_holds_for_too_long_is_given_up_and_the_server_is_told(
    sessions_url: str, postgres_server: PostgresServer
) -> None:
    session = stored_session()
    async with opened(sessions_url, command_timeout=SOON) as backend, opened(sessions_url) as other:
        await backend.create(session)
        holder = await other._connections._connection()
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("SELECT FROM perdure.sessions WHERE id = $1 FOR UPDATE", session.id)
        change = ChangeMaker().query()
        with pytest.raises(BackendUnavailableError):
            await backend.apply(session.id, change)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND state = 'active'"
        await _until(lambda: postgres_server.execute(waiting, database=KEPT) == [(0,)])
        await transaction.rollback()
        other._connections._give_back(holder, sound=True)

        assert (await backend.apply(session.id, change.repeated())).total_queries == 1


async def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_connections_that_an_administrator_ends_are_replaced(
    sessions_url: str, postgres_server: PostgresServer
) -> None:
    session = stored_session()
    async with opened(sessions_url) as backend:
        await backend.create(session)
        for _ in range(3):
            await asyncio.gather(*(backend.read(session.id) for _ in range(8)))
            await backend.apply(session.id, ChangeMaker().query())
            ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{KEPT}'"
            await asyncio.to_thread(postgres_server.execute, ended)
        found = await backend.read(session.id)
        assert found is not None
        assert found.total_queries == 3
        held = (await backend.health(now=START)).details["connections_held"]
        assert 1 <= held <= 5


async def test_no_more_connections_are_opened_than_were_asked_for(
    sessions_url: str, postgres_server: PostgresServer
) -> None:
    counted = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{KEPT}' AND application_name = 'perdure'"
    session = stored_session()
    async with opened(sessions_url, pool_size=3) as backend:
        await backend.create(session)
        await asyncio.gather(
            *(backend.read(session.id) for _ in range(300)),
            *(backend.apply(session.id, ChangeMaker().query()) for _ in range(100)),
        )
        assert postgres_server.execute(counted) == [(3,)]
    await _until(lambda: postgres_server.execute(counted) == [(0,)])


# Callers --------------------------------------------------------------------------------------------


async def test_callers_who_are_cancelled_hurt_nobody(sessions_url: str) -> None:
    session = stored_session()
    async with opened(sessions_url, pool_size=2) as backend:
        await backend.create(session)
        for pause in (0, 0.0005, 0.001, 0.002, 0.004):
            reads = [asyncio.create_task(backend.read(session.id)) for _ in range(10)]
            writes = [asyncio.create_task(backend.apply(session.id, ChangeMaker().query())) for _ in range(10)]
            await asyncio.sleep(pause)
            for task in (*reads[::2], *writes[::2]):
                task.cancel()
            outcomes = await asyncio.gather(*reads, *writes, return_exceptions=True)
            kept = [*outcomes[:10][1::2], *outcomes[10:][1::2]]
            assert [each for each in kept if isinstance(each, BaseException)] == []
        after = await backend.read(session.id)
        assert after is not None
        assert len(after.queries) == after.total_queries == after.version - 1


async def test_a_caller_whose_change_was_not_sent_yet_takes_it_back(
    sessions_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = stored_session(), stored_session()
    async with opened(sessions_url) as backend:
        for session in (first, second):
            await backend.create(session)
        sent = asyncio.Event()
        send = GroupCommit._send

        async def slow(self: GroupCommit, batch: Any) -> Any:
            await sent.wait()
            return await send(self, batch)

        monkeypatch.setattr(GroupCommit, "_send", slow)
        on_its_way = asyncio.create_task(backend.apply(first.id, ChangeMaker().query()))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(backend.apply(second.id, ChangeMaker().query()))
        await asyncio.sleep(0)
        waiting.cancel()
        sent.set()
        await asyncio.gather(on_its_way, waiting, return_exceptions=True)
        await backend.apply(first.id, ChangeMaker().query())

        after = await backend.read(second.id)
        assert after == second


async def test_a_poisoned_change_fails_alone(sessions_url: str, postgres_server: PostgresServer) -> None:
    """A history that contradicts its counter: the whole batch is refused by the server, and sent again one by one."""
    sessions = [stored_session(queries=(stored_query(),)) for _ in range(10)]
    async with opened(sessions_url) as backend:
        for session in sessions:
            await backend.create(session)
        broken = f"UPDATE perdure.sessions SET total_queries = 0 WHERE id = '{sessions[4].id}'"
        postgres_server.execute(broken, database=KEPT)
        changes = [backend.apply(session.id, ChangeMaker().query()) for session in sessions]
        outcomes = await asyncio.gather(*changes, return_exceptions=True)

        assert [type(outcome).__name__ for outcome in outcomes] == [
            "CorruptDataError" if number == 4 else "Applied" for number in range(10)
        ]
        assert {outcome for number, outcome in enumerate(outcomes) if number != 4} == {Applied(2, 2)}
