"""Deleting sessions, and the tombstones that deletes leave."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

import pytest

from perdure.backends import SessionBackend
from perdure.errors import SessionExistsError, SessionNotFoundError
from perdure.merging import AbsorbOutcome
from perdure.models import SessionFilter, SessionTotals
from perdure.testing.builders import START, ChangeMaker, stored_session
from perdure.testing.conformance.steps import (
    FOREVER,
    HOUR,
    MICROSECOND,
    claimed_ids,
    created,
    listed,
    numbered,
    whole,
)

__all__ = ["DeletingPromises"]


async def forget(backend: SessionBackend, now: datetime) -> None:
    """Run retention at `now`, for the tombstones."""
    await backend.purge(archived_before=START, now=now, limit=10)


async def is_buried(backend: SessionBackend, session_id: UUID) -> bool:
    """Whether a tombstone keeps the id from coming back."""
    try:
        await backend.create(stored_session(id=session_id))
    except SessionExistsError:
        return True
    return False


class DeletingPromises:
    """`delete`."""

    async def test_a_deleted_session_is_gone_everywhere(self, backend: SessionBackend, other: SessionBackend) -> None:
        session = await created(backend, queries=numbered(2), tags=("x",), sections={"context": {"a": 1}})
        assert await backend.delete(session.id, forget_at=FOREVER) is True
        assert await other.read(session.id) is None
        assert await other.queries(session.id, limit=5) is None
        assert await listed(other) == []
        assert await listed(other, tags=["x"]) == []
        assert await claimed_ids(other) == []
        assert await other.aggregate(SessionFilter()) == SessionTotals()
        assert await other.evict(session.id, version=session.version, head=session.head) is False
        with pytest.raises(SessionNotFoundError):
            await other.apply(session.id, ChangeMaker().query())

    async def test_deleting_concerns_one_session(self, backend: SessionBackend) -> None:
        session = await created(backend, tags=("x",))
        bystander = await created(backend, tags=("x",), queries=numbered(2), sections={"context": {"a": 1}})
        await backend.delete(session.id, forget_at=FOREVER)
        assert await whole(backend, bystander.id) == bystander
        assert await listed(backend, tags=["x"]) == [bystander.id]

    async def test_an_archived_session_can_be_deleted(self, backend: SessionBackend) -> None:
        session = await created(backend, archived_at=START)
        assert await backend.delete(session.id, forget_at=FOREVER) is True
        assert await listed(backend, archived=True) == []

    async def test_deleting_again_finds_nothing_and_keeps_the_tombstone(self, backend: SessionBackend) -> None:
        session = await created(backend)
        assert await backend.delete(session.id, forget_at=FOREVER) is True
        assert await backend.delete(session.id, forget_at=FOREVER) is False
        assert await is_buried(backend, session.id)

    async def test_deleting_what_never_was_leaves_a_tombstone(self, backend: SessionBackend) -> None:
        for owner in (None, "analyst"):
            session_id = uuid4()
            assert await backend.delete(session_id, forget_at=FOREVER, owner=owner) is False
            assert await is_buried(backend, session_id)

    async def test_the_owner_deletes_the_session(self, backend: SessionBackend) -> None:
        session = await created(backend, user_id="analyst")
        assert await backend.delete(session.id, forget_at=FOREVER, owner="analyst") is True
        assert await backend.read(session.id) is None

    @pytest.mark.parametrize("user_id", ["analyst", None])
    async def test_another_owners_delete_changes_nothing(self, backend: SessionBackend, user_id: str | None) -> None:
        session = await created(backend, user_id=user_id)
        assert await backend.delete(session.id, forget_at=FOREVER, owner="other") is False
        assert await whole(backend, session.id) == session
        assert await listed(backend) == [session.id]
        await backend.evict(session.id, version=session.version, head=session.head)
        assert not await is_buried(backend, session.id)

    async def test_a_tombstone_is_there_for_every_connection(
        self, backend: SessionBackend, other: SessionBackend
    ) -> None:
        session = await created(backend)
        await backend.delete(session.id, forget_at=FOREVER)
        assert await is_buried(other, session.id)

    async def test_absorbing_brings_nothing_back(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.delete(session.id, forget_at=FOREVER)
        session.version = 99
        assert [done.outcome for done in await backend.absorb([session])] == [AbsorbOutcome.DELETED]
        assert await backend.read(session.id) is None

    async def test_filling_brings_nothing_back(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.delete(session.id, forget_at=FOREVER)
        ticket = await backend.ticket(session.id, now=START)
        (done,) = await backend.absorb([session], tickets={session.id: ticket})
        assert done.outcome is AbsorbOutcome.DELETED
        assert await backend.read(session.id) is None

    async def test_a_tombstone_is_forgotten_at_its_instant_and_not_before(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.delete(session.id, forget_at=START + HOUR)
        await forget(backend, START + HOUR - MICROSECOND)
        assert await is_buried(backend, session.id)
        await forget(backend, START + HOUR)
        assert not await is_buried(backend, session.id)

    @pytest.mark.parametrize("order", [(1, 2), (2, 1)])
    async def test_of_two_instants_to_forget_at_the_later_counts(
        self, backend: SessionBackend, order: tuple[int, int]
    ) -> None:
        session = await created(backend)
        for hours in order:
            await backend.delete(session.id, forget_at=START + hours * HOUR)
        await forget(backend, START + HOUR)
        assert await is_buried(backend, session.id)
        await forget(backend, START + 2 * HOUR)
        assert not await is_buried(backend, session.id)

    async def test_an_id_that_comes_back_after_its_tombstone_finds_nothing_left(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(3), tags=("x",), sections={"context": {"a": 1}})
        await backend.delete(session.id, forget_at=START + HOUR)
        await forget(backend, START + HOUR)
        fresh = await created(backend, id=session.id)
        assert await whole(backend, session.id) == fresh
        assert await listed(backend, tags=["x"]) == []
