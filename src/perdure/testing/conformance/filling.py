"""Tickets, which let a copy fill an empty slot, and evicting, which empties it."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from perdure.backends import SessionBackend
from perdure.merging import AbsorbOutcome
from perdure.models import StoredSession
from perdure.testing.builders import START, ChangeMaker, stored_session
from perdure.testing.conformance.steps import (
    EXPIRY,
    FOREVER,
    HOUR,
    MINUTE,
    claimed_ids,
    created,
    listed,
    numbered,
    numbered_session,
    whole,
)

__all__ = ["FillingPromises"]


async def fill(backend: SessionBackend, session: StoredSession, ticket: str) -> AbsorbOutcome:
    """What becomes of a fill with that ticket."""
    (done,) = await backend.absorb([session], tickets={session.id: ticket})
    assert (done.session_id, done.error) == (session.id, None)
    return done.outcome


async def evict(backend: SessionBackend, session: StoredSession) -> bool:
    """Whether this very copy was evicted."""
    return await backend.evict(session.id, version=session.version, head=session.head)


class FillingPromises:
    """`ticket`, `absorb` with tickets, `evict`."""

    async def test_a_ticket_fills_an_empty_slot(self, backend: SessionBackend) -> None:
        session = numbered_session(2, sections={"context": {"a": 1}}, tags=("x",))
        ticket = await backend.ticket(session.id, now=START)
        assert await fill(backend, session, ticket) is AbsorbOutcome.STORED
        assert await whole(backend, session.id) == session
        assert await listed(backend, tags=["x"]) == [session.id]

    async def test_what_retention_removed_is_not_filled_again_by_who_read_it_before(
        self, backend: SessionBackend
    ) -> None:
        session = await created(backend, archived_at=EXPIRY, queries=numbered(2))
        ticket = await backend.ticket(session.id, now=START)
        assert (await backend.purge(archived_before=FOREVER, now=START, limit=9)).session_ids == [session.id]
        assert await fill(backend, session, ticket) is AbsorbOutcome.REFUSED
        assert await backend.read(session.id) is None

    async def test_taking_a_ticket_stores_nothing(self, backend: SessionBackend) -> None:
        session = stored_session()
        await backend.ticket(session.id, now=START)
        assert await backend.read(session.id) is None
        assert await listed(backend) == []
        await backend.create(session)
        assert await whole(backend, session.id) == session

    async def test_a_ticket_is_good_on_every_connection(self, backend: SessionBackend, other: SessionBackend) -> None:
        session = stored_session()
        ticket = await backend.ticket(session.id, now=START)
        assert await fill(other, session, ticket) is AbsorbOutcome.STORED

    async def test_a_ticket_is_used_once(self, backend: SessionBackend) -> None:
        session = stored_session()
        ticket = await backend.ticket(session.id, now=START)
        assert await fill(backend, session, ticket) is AbsorbOutcome.STORED
        assert await fill(backend, session, ticket) is AbsorbOutcome.REFUSED
        await evict(backend, session)
        assert await fill(backend, session, ticket) is AbsorbOutcome.REFUSED
        assert await backend.read(session.id) is None

    async def test_of_concurrent_fills_one_is_stored(self, backend: SessionBackend, other: SessionBackend) -> None:
        session = stored_session()
        both = [backend, other] * 5
        tickets = await asyncio.gather(*(each.ticket(session.id, now=START) for each in both))
        outcomes = await asyncio.gather(
            *(fill(each, session, ticket) for each, ticket in zip(both, tickets, strict=True))
        )
        assert sorted(outcomes) == [AbsorbOutcome.REFUSED] * 9 + [AbsorbOutcome.STORED]

    async def test_a_full_slot_is_not_filled(self, backend: SessionBackend) -> None:
        session = await created(backend)
        ticket = await backend.ticket(session.id, now=START)
        later = replace(session, version=2, head="later", tags=("late",))
        assert await fill(backend, later, ticket) is AbsorbOutcome.REFUSED
        assert await whole(backend, session.id) == session

    @pytest.mark.parametrize("taken", [True, False])
    async def test_a_wrong_ticket_fills_nothing_and_voids_nothing(self, backend: SessionBackend, taken: bool) -> None:
        session = stored_session()
        ticket = await backend.ticket(session.id if taken else uuid4(), now=START)
        assert await fill(backend, session, f"{ticket}0") is AbsorbOutcome.REFUSED
        assert await fill(backend, session, "") is AbsorbOutcome.REFUSED
        assert await backend.read(session.id) is None
        assert await fill(backend, session, ticket) is (AbsorbOutcome.STORED if taken else AbsorbOutcome.REFUSED)

    async def test_a_ticket_is_for_its_session_alone(self, backend: SessionBackend) -> None:
        one, two = stored_session(), stored_session()
        tickets = [await backend.ticket(session.id, now=START) for session in (one, two)]
        assert await fill(backend, one, tickets[1]) is AbsorbOutcome.REFUSED
        report = await backend.absorb([one, two], tickets={one.id: tickets[0]})
        assert [done.outcome for done in report] == [AbsorbOutcome.STORED, AbsorbOutcome.REFUSED]
        assert await listed(backend) == [one.id]

    async def test_creating_voids_a_ticket(self, backend: SessionBackend) -> None:
        session = stored_session()
        ticket = await backend.ticket(session.id, now=START)
        await backend.create(session)
        await evict(backend, session)
        assert await fill(backend, session, ticket) is AbsorbOutcome.REFUSED

    async def test_absorbing_voids_a_ticket(self, backend: SessionBackend) -> None:
        session = await created(backend)
        ticket = await backend.ticket(session.id, now=START)
        await backend.absorb([session])
        await evict(backend, session)
        assert await fill(backend, session, ticket) is AbsorbOutcome.REFUSED

    async def test_evicting_voids_a_ticket(self, backend: SessionBackend) -> None:
        session = await created(backend)
        ticket = await backend.ticket(session.id, now=START)
        assert await evict(backend, session) is True
        assert await fill(backend, session, ticket) is AbsorbOutcome.REFUSED

    async def test_evicting_voids_a_ticket_although_nothing_was_there(self, backend: SessionBackend) -> None:
        session = stored_session()
        ticket = await backend.ticket(session.id, now=START)
        assert await evict(backend, session) is False
        assert await fill(backend, session, ticket) is AbsorbOutcome.REFUSED

    async def test_deleting_voids_a_ticket(self, backend: SessionBackend) -> None:
        session = stored_session()
        ticket = await backend.ticket(session.id, now=START)
        await backend.delete(session.id, forget_at=START + MINUTE)
        await backend.purge(archived_before=START, now=START + MINUTE, limit=1)
        assert await fill(backend, session, ticket) is AbsorbOutcome.REFUSED

    async def test_a_void_ticket_is_replaced_by_a_new_one(self, backend: SessionBackend) -> None:
        session = stored_session()
        void = await backend.ticket(session.id, now=START)
        await evict(backend, session)
        ticket = await backend.ticket(session.id, now=START)
        assert ticket != void
        assert await fill(backend, session, ticket) is AbsorbOutcome.STORED

    async def test_retention_leaves_the_tickets_of_the_last_hour(self, backend: SessionBackend) -> None:
        session = stored_session()
        ticket = await backend.ticket(session.id, now=START)
        await backend.purge(archived_before=START, now=START + HOUR - MINUTE, limit=1)
        assert await fill(backend, session, ticket) is AbsorbOutcome.STORED

    async def test_an_evicted_session_is_gone_everywhere_and_leaves_no_tombstone(
        self, backend: SessionBackend, other: SessionBackend
    ) -> None:
        session = await created(backend, queries=numbered(2), sections={"context": {"a": 1}}, tags=("x",))
        assert await evict(backend, session) is True
        assert await other.read(session.id) is None
        assert await listed(other, tags=["x"]) == []
        assert await claimed_ids(other) == []
        fresh = await created(other, id=session.id)
        assert await whole(backend, session.id) == fresh

    async def test_an_evicted_session_can_be_absorbed(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(2))
        await evict(backend, session)
        assert [done.outcome for done in await backend.absorb([session])] == [AbsorbOutcome.STORED]

    @pytest.mark.parametrize("facts", [{"version": 2}, {"head": "another"}, {"version": 0}, {"head": ""}])
    async def test_only_the_very_copy_is_evicted(self, backend: SessionBackend, facts: dict[str, object]) -> None:
        session = await created(backend)
        assert await evict(backend, replace(session, **facts)) is False  # type: ignore[arg-type]  # one fact of it
        assert await whole(backend, session.id) == session

    async def test_a_copy_that_has_changed_since_is_not_evicted(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.apply(session.id, ChangeMaker().change())
        assert await evict(backend, session) is False
        assert await evict(backend, await whole(backend, session.id)) is True

    async def test_evicting_what_is_not_there_does_nothing(self, backend: SessionBackend) -> None:
        bystander = await created(backend)
        assert await backend.evict(uuid4(), version=1, head=bystander.head) is False
        assert await whole(backend, bystander.id) == bystander
        assert await claimed_ids(backend, EXPIRY) == [bystander.id]
