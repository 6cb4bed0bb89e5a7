"""Which copies are kept, and the cache for copies that fade."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from perdure.backends import Copy, SessionBackend, SessionCache, Tombstone
from perdure.testing.builders import START, ChangeMaker
from perdure.testing.conformance.steps import (
    EXPIRY,
    FOREVER,
    MINUTE,
    archived_session,
    claimed_ids,
    created,
    listed,
    numbered_session,
)

__all__ = ["CachingPromises", "CopyingPromises"]


class CopyingPromises:
    """`copies`."""

    async def test_copies_tell_version_head_and_archived(self, backend: SessionBackend) -> None:
        active, old = await created(backend), archived_session()
        await backend.create(old)
        change = ChangeMaker().query()
        await backend.apply(active.id, change)
        assert await backend.copies([active.id, old.id]) == {
            active.id: Copy(2, change.head, False),
            old.id: Copy(1, old.head, True),
        }

    async def test_a_deleted_session_is_a_tombstone(self, backend: SessionBackend) -> None:
        session, never = await created(backend), uuid4()
        for known in (session.id, never):
            await backend.delete(known, forget_at=FOREVER)
        assert await backend.copies([session.id, never]) == dict.fromkeys([session.id, never], Tombstone(FOREVER))

    async def test_what_is_not_there_is_left_out(self, backend: SessionBackend) -> None:
        session = await created(backend)
        assert list(await backend.copies([uuid4(), session.id, uuid4()])) == [session.id]
        assert await backend.copies([]) == {}

    async def test_an_evicted_copy_is_told_no_longer(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.evict(session.id, version=session.version, head=session.head)
        assert await backend.copies([session.id]) == {}

    async def test_many_are_told_at_once(self, backend: SessionBackend) -> None:
        sessions = [await created(backend) for _ in range(50)]
        found = await backend.copies([session.id for session in sessions] + [uuid4() for _ in range(1_000)])
        assert found == {session.id: Copy(1, session.head, False) for session in sessions}


SOON, LATER = timedelta(milliseconds=40), timedelta(seconds=30)


class CachingPromises:
    """`cache`, where there is one."""

    @pytest.fixture
    def cache(self, backend: SessionBackend) -> SessionCache:
        """That of the backend."""
        if backend.cache is None:
            pytest.skip("this backend offers no cache")
        return backend.cache

    async def test_a_filled_copy_is_read(self, cache: SessionCache) -> None:
        session = numbered_session(3, sections={"context": {"a": 1}}, tags=("x",))
        assert await cache.read(session.id) is None
        assert await cache.fill(session, ticket=await cache.ticket(session.id), lifetime=LATER) is True
        assert await cache.read(session.id) == session

    async def test_the_newest_of_a_copy_are_read(self, cache: SessionCache) -> None:
        session = numbered_session(5)
        await cache.fill(session, ticket=await cache.ticket(session.id), lifetime=LATER)
        for history in (0, 1, 5, 9):
            assert await cache.read(session.id, history=history) == session.copy(history=history)

    async def test_a_copy_that_holds_too_little_is_none(self, cache: SessionCache) -> None:
        session = numbered_session(5)
        await cache.fill(session.copy(history=2), ticket=await cache.ticket(session.id), lifetime=LATER)
        assert await cache.read(session.id, history=2) == session.copy(history=2)
        assert await cache.read(session.id, history=3) is None
        assert await cache.read(session.id) is None

    async def test_a_copy_fades(self, cache: SessionCache) -> None:
        session = numbered_session(1)
        await cache.fill(session, ticket=await cache.ticket(session.id), lifetime=SOON)
        await asyncio.sleep(2 * SOON.total_seconds())
        assert await cache.read(session.id) is None

    async def test_a_copy_is_as_old_as_its_ticket(self, cache: SessionCache) -> None:
        session = numbered_session(1)
        ticket = await cache.ticket(session.id)
        await asyncio.sleep(2 * SOON.total_seconds())
        assert await cache.fill(session, ticket=ticket, lifetime=SOON) is False
        assert await cache.read(session.id) is None

    async def test_a_wrong_or_used_ticket_fills_nothing(self, cache: SessionCache) -> None:
        session = numbered_session(1)
        ticket = await cache.ticket(session.id)
        assert await cache.fill(session, ticket=f"{ticket}0", lifetime=LATER) is False
        assert await cache.fill(session, ticket=ticket, lifetime=LATER) is True
        later = replace(session, version=2, head="later")
        assert await cache.fill(later, ticket=ticket, lifetime=LATER) is False
        assert await cache.read(session.id) == session

    async def test_a_later_copy_replaces_an_older_one(self, cache: SessionCache) -> None:
        session = numbered_session(4, sections={"context": {"a": 1, "b": 2}})
        await cache.fill(session, ticket=await cache.ticket(session.id), lifetime=LATER)
        later = replace(numbered_session(1), id=session.id, version=2, head="later")
        assert await cache.fill(later, ticket=await cache.ticket(session.id), lifetime=LATER) is True
        assert await cache.read(session.id) == later

    async def test_dropping_forgets_copies_and_voids_tickets(self, cache: SessionCache) -> None:
        one, two = numbered_session(1), numbered_session(1)
        await cache.fill(one, ticket=await cache.ticket(one.id), lifetime=LATER)
        ticket = await cache.ticket(two.id)
        await cache.drop([one.id, two.id, uuid4()])
        assert await cache.read(one.id) is None
        assert await cache.fill(two, ticket=ticket, lifetime=LATER) is False

    async def test_cached_copies_are_in_no_other_place(self, cache: SessionCache, backend: SessionBackend) -> None:
        session = numbered_session(1, tags=("x",))
        await cache.fill(session, ticket=await cache.ticket(session.id), lifetime=LATER)
        assert await backend.read(session.id) is None
        assert await backend.copies([session.id]) == {}
        assert await listed(backend) == await listed(backend, tags=["x"]) == []
        assert await claimed_ids(backend, EXPIRY + MINUTE) == []
        await backend.create(session)
        assert session.created_at == START

    async def test_a_copy_is_read_on_every_connection(self, cache: SessionCache, other: SessionBackend) -> None:
        session = numbered_session(2)
        await cache.fill(session, ticket=await cache.ticket(session.id), lifetime=LATER)
        assert other.cache is not None
        assert await other.cache.read(session.id) == session
