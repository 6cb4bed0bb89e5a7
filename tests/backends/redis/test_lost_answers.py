"""The connection breaks after the server has done its work and before its answer arrives: everything happens once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.backends.redis.proxy import LossyProxy

from perdure.backends import SessionBackend
from perdure.backends.redis.backend import RedisBackend
from perdure.changes import Applied
from perdure.errors import BackendUnavailableError, SessionExistsError
from perdure.merging import AbsorbOutcome
from perdure.models import SessionFilter, StoredSession
from perdure.testing import START, ChangeMaker, stored_query, stored_session
from perdure.testing.conformance.steps import EXPIRY, FOREVER, HOUR, MINUTE, numbered

Behind = tuple[LossyProxy, RedisBackend]


async def kept(backend: SessionBackend, **facts: Any) -> StoredSession:
    session = stored_session(queries=numbered(2), sections={"context": {"a": 1}}, **facts)
    await backend.create(session)
    return session


async def test_a_change_is_applied_once(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    session = await kept(backend)
    change = ChangeMaker().query(set_entries={"context": {"a": "2"}})
    proxy.lose_answers = 1

    applied = await backend.apply(session.id, change)

    assert proxy.lose_answers == 0
    assert applied == Applied(version=2, total_queries=3)
    after = await backend.read(session.id)
    assert after is not None
    assert (after.version, after.queries[2:], after.head) == (2, [change.queries[0].body], change.head)


async def test_a_change_that_never_arrived_is_applied_once_and_called_by_its_second_attempt(
    behind_proxy: Behind,
) -> None:
    proxy, backend = behind_proxy
    session = await kept(backend)
    change = ChangeMaker().query()
    proxy.lose_requests = 1

    applied = await backend.apply(session.id, change)

    assert applied == Applied(version=2, total_queries=3)
    after = await backend.read(session.id)
    assert after is not None
    assert (after.version, after.total_queries) == (2, 3)
    assert change.made(after.head)


async def test_a_change_is_applied_once_however_often_answers_are_lost(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    session = await kept(backend)
    proxy.lose_answers = 4

    assert await backend.apply(session.id, ChangeMaker().query()) == Applied(version=2, total_queries=3)

    assert proxy.lose_answers == 0


async def test_of_a_hundred_changes_in_flight_each_is_applied_once(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    sessions = [await kept(backend) for _ in range(100)]
    changes = [ChangeMaker().query(f"late-{number}") for number in range(100)]
    proxy.lose_answers = 3

    applied = await asyncio.gather(
        *(backend.apply(session.id, change) for session, change in zip(sessions, changes, strict=True))
    )

    assert set(applied) == {Applied(version=2, total_queries=3)}
    assert proxy.lose_answers == 0
    for session, change in zip(sessions, changes, strict=True):
        after = await backend.read(session.id)
        assert after is not None
        assert after.queries == [*session.queries, change.queries[0].body]


async def test_a_session_is_created_once_and_its_creator_told_so(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    session = stored_session(queries=numbered(2))
    proxy.lose_answers = 1

    await backend.create(session)

    assert await backend.read(session.id) == session
    with pytest.raises(SessionExistsError):
        await backend.create(session)


async def test_the_id_of_another_session_is_not_taken_for_ones_own_creation(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    session = await kept(backend)
    proxy.lose_answers = 1

    with pytest.raises(SessionExistsError):
        await backend.create(replace(session, head="another"))

    assert await backend.read(session.id) == session


async def test_whose_creation_it_was_is_not_guessed_where_the_session_has_changed_since(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    session = await kept(backend)
    await backend.apply(session.id, ChangeMaker().query())
    proxy.lose_answers = 1

    with pytest.raises(BackendUnavailableError, match="is not known"):
        await backend.create(session)


async def test_a_session_is_absorbed_once_and_reported_as_stored(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    sessions = [stored_session(queries=numbered(3)) for _ in range(20)]
    proxy.lose_answers = 1

    report = await backend.absorb(sessions)

    assert {done.outcome for done in report} == {AbsorbOutcome.STORED}
    assert [await backend.read(session.id) for session in sessions] == sessions


async def test_a_slot_is_filled_once_and_the_filler_told_so(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    session = stored_session(queries=numbered(3))
    ticket = await backend.ticket(session.id, now=START)
    proxy.lose_answers = 1

    (done,) = await backend.absorb([session], tickets={session.id: ticket})

    assert done.outcome is AbsorbOutcome.STORED
    assert await backend.read(session.id) == session


async def test_a_fork_is_merged_once(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    session = await kept(backend)
    fork = replace(session, head="fork", queries=[*session.queries, stored_query("forked").body], total_queries=3)
    proxy.lose_answers = 2

    (done,) = await backend.absorb([fork])

    assert done.outcome is AbsorbOutcome.FORKED
    after = await backend.read(session.id)
    assert after is not None
    assert (after.version, after.queries) == (2, fork.queries)


async def test_an_eviction_is_reported_although_its_first_answer_was_lost(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    session = await kept(backend)
    proxy.lose_answers = 1

    assert await backend.evict(session.id, version=session.version, head=session.head) is True

    assert await backend.read(session.id) is None


async def test_a_deletion_is_reported_although_its_first_answer_was_lost(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    session = await kept(backend)
    proxy.lose_answers = 1

    assert await backend.delete(session.id, forget_at=FOREVER) is True

    assert await backend.delete(session.id, forget_at=FOREVER) is False


async def test_one_sweep_starts_and_its_starter_is_told_so(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    proxy.lose_answers = 1

    assert await backend.start_sweep(now=START, interval=HOUR) is True

    assert await backend.start_sweep(now=START + MINUTE, interval=HOUR) is False


async def test_sessions_are_archived_once_and_delivered_once(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    await kept(backend)
    claimed = await backend.claim_expired(now=EXPIRY, lease=MINUTE, limit=10, max_bytes=2**30)
    delivered: list[StoredSession] = []

    async def deliver(sessions: Any) -> None:
        delivered.extend(sessions)
        proxy.lose_answers = 1

    proxy.lose_answers = 1
    (done,) = await backend.archive(claimed.sessions, at=EXPIRY + MINUTE, deliver=deliver)

    assert done.outcome == "archived"
    assert [session.archived_at for session in delivered] == [EXPIRY + MINUTE]
    assert await backend.claim_expired(now=FOREVER, lease=MINUTE, limit=10, max_bytes=2**30) is not None
    assert (await backend.health(now=FOREVER)).due == 0


async def test_retention_names_all_that_it_removed(behind_proxy: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, backend = behind_proxy
    sessions = [await kept(backend, archived_at=EXPIRY + number * MINUTE) for number in range(3)]
    ids = [session.id for session in sessions]
    look = backend._moving._old

    async def look_and_lose(before: int, limit: int) -> list[bytes]:
        found = await look(before, limit)
        proxy.lose_answers = 1  # that of what removes them
        return found

    monkeypatch.setattr(backend._moving, "_old", look_and_lose)
    purged = await backend.purge(archived_before=FOREVER, now=FOREVER, limit=10)

    assert proxy.lose_answers == 0
    assert purged.session_ids == ids
    assert [await backend.read(known) for known in ids] == [None, None, None]


async def test_a_cached_copy_is_filled_once_and_the_filler_told_so(behind_proxy: Behind) -> None:
    proxy, backend = behind_proxy
    session = stored_session(queries=numbered(3))
    ticket = await backend.cache.ticket(session.id)
    proxy.lose_answers = 1

    assert await backend.cache.fill(session, ticket=ticket, lifetime=timedelta(seconds=30)) is True

    assert await backend.cache.read(session.id) == session
    assert await backend.cache.fill(session, ticket=ticket, lifetime=timedelta(seconds=30)) is False


READS: dict[str, Callable[[SessionBackend, StoredSession], Awaitable[Any]]] = {
    "read": lambda backend, session: backend.read(session.id),
    "queries": lambda backend, session: backend.queries(session.id, limit=5),
    "find": lambda backend, session: backend.find(SessionFilter(), limit=5),
    "copies": lambda backend, session: backend.copies([session.id]),
    "aggregate": lambda backend, session: backend.aggregate(SessionFilter()),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
async def test_what_only_reads_is_asked_again(
    behind_proxy: Behind, read: Callable[[SessionBackend, StoredSession], Awaitable[Any]]
) -> None:
    proxy, backend = behind_proxy
    session = await kept(backend)
    expected = await read(backend, session)
    proxy.lose_answers = 1

    assert await read(backend, session) == expected

    assert proxy.lose_answers == 0
