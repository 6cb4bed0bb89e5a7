"""Claims on expired sessions, and their leases."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

import asyncio

from perdure.backends import SessionBackend
from perdure.merging import AbsorbOutcome
from perdure.testing.builders import START, ChangeMaker
from perdure.testing.conformance.steps import (
    ANY_SIZE,
    EXPIRY,
    HOUR,
    MICROSECOND,
    MINUTE,
    archived,
    archived_session,
    claimed_ids,
    created,
    listed,
    numbered,
    whole,
)

__all__ = ["ClaimingPromises"]


class ClaimingPromises:
    """`claim_expired`."""

    async def test_a_session_is_due_from_the_instant_of_its_expiry(self, backend: SessionBackend) -> None:
        session = await created(backend)
        assert await claimed_ids(backend, EXPIRY - MICROSECOND) == []
        assert await claimed_ids(backend, EXPIRY) == [session.id]

    async def test_a_claim_takes_whole_sessions_and_changes_nothing_about_them(self, backend: SessionBackend) -> None:
        session = await created(backend, queries=numbered(3), sections={"context": {"a": 1}}, tags=("x",))
        claimed = await backend.claim_expired(now=EXPIRY, lease=MINUTE, limit=1, max_bytes=ANY_SIZE)
        assert list(claimed) == [session]
        assert await whole(backend, session.id) == session
        assert await listed(backend, tags=["x"], archived=False) == [session.id]

    async def test_the_oldest_are_taken_first(self, backend: SessionBackend) -> None:
        sessions = [await created(backend, expires_at=EXPIRY + minutes * MINUTE) for minutes in (3, 1, 4, 0, 2)]
        oldest = [session.id for session in sorted(sessions, key=lambda session: session.expires_at)]
        assert await claimed_ids(backend, EXPIRY + HOUR, limit=2) == oldest[:2]
        assert await claimed_ids(backend, EXPIRY + HOUR, limit=2) == oldest[2:4]
        assert await claimed_ids(backend, EXPIRY + HOUR, limit=2) == oldest[4:]
        assert await claimed_ids(backend, EXPIRY + HOUR, limit=2) == []

    async def test_what_is_not_due_is_left_among_what_is(self, backend: SessionBackend) -> None:
        due = await created(backend)
        await created(backend, expires_at=EXPIRY + MINUTE)
        assert await claimed_ids(backend, EXPIRY + MINUTE - MICROSECOND) == [due.id]

    async def test_a_claim_ends_by_itself_at_the_end_of_its_lease(self, backend: SessionBackend) -> None:
        session = await created(backend)
        assert await claimed_ids(backend, EXPIRY + MINUTE, lease=HOUR) == [session.id]
        assert await claimed_ids(backend, EXPIRY + MINUTE) == []
        assert await claimed_ids(backend, EXPIRY + MINUTE + HOUR - MICROSECOND) == []
        assert await claimed_ids(backend, EXPIRY + MINUTE + HOUR) == [session.id]

    async def test_a_claim_holds_for_every_connection(self, backend: SessionBackend, other: SessionBackend) -> None:
        session = await created(backend)
        assert await claimed_ids(backend) == [session.id]
        assert await claimed_ids(other) == []
        assert await claimed_ids(other, EXPIRY + MINUTE) == [session.id]

    async def test_concurrent_claims_are_disjoint_and_take_all(
        self, backend: SessionBackend, other: SessionBackend
    ) -> None:
        ids = {(await created(backend)).id for _ in range(30)}
        claims = await asyncio.gather(*(claimed_ids((backend, other)[n % 2], limit=4) for n in range(10)))
        taken = [session_id for claim in claims for session_id in claim]
        assert len(taken) == len(set(taken))
        assert set(taken) == ids

    async def test_a_claim_stops_at_its_bytes(self, backend: SessionBackend) -> None:
        sessions = [
            await created(backend, expires_at=EXPIRY - n * MICROSECOND, sections={"context": {"a": "x" * 97}})
            for n in range(5, 0, -1)
        ]
        ids = [session.id for session in sessions]
        assert {session.size_bytes for session in sessions} == {100}
        assert await claimed_ids(backend, max_bytes=299) == ids[:2]
        assert await claimed_ids(backend, max_bytes=300) == ids[2:]

    async def test_a_claim_weighs_history_too(self, backend: SessionBackend) -> None:
        sessions = [await created(backend, queries=numbered(4)) for _ in range(2)]
        size = sessions[0].history_bytes
        assert len(await claimed_ids(backend, max_bytes=2 * size - 1)) == 1

    async def test_a_session_heavier_than_the_bound_is_claimed_alone(self, backend: SessionBackend) -> None:
        heavy = await created(backend, sections={"context": {"a": "x" * 1_000}})
        light = await created(backend, expires_at=EXPIRY + MICROSECOND)
        assert await claimed_ids(backend, EXPIRY + MINUTE, max_bytes=0) == [heavy.id]
        assert await claimed_ids(backend, EXPIRY + MINUTE, max_bytes=0) == [light.id]

    async def test_what_a_claim_left_for_its_bounds_is_not_leased(self, backend: SessionBackend) -> None:
        sessions = [await created(backend, sections={"context": {"a": 1}}) for _ in range(4)]
        first = await claimed_ids(backend, limit=1)
        second = await claimed_ids(backend, max_bytes=1)
        rest = await claimed_ids(backend)
        assert (len(first), len(second), len(rest)) == (1, 1, 2)
        assert {*first, *second, *rest} == {session.id for session in sessions}

    async def test_a_session_that_came_archived_is_not_claimed(self, backend: SessionBackend) -> None:
        await created(backend, archived_at=EXPIRY)
        await backend.absorb([archived_session(EXPIRY)])
        assert await claimed_ids(backend, EXPIRY + HOUR) == []

    async def test_a_session_that_was_archived_by_a_change_is_claimed_until_that_is_delivered(
        self, backend: SessionBackend
    ) -> None:
        session = await created(backend)
        await backend.apply(session.id, ChangeMaker().change(at=START, archive=True))
        assert await claimed_ids(backend, EXPIRY - MICROSECOND) == []
        claimed = await backend.claim_expired(now=EXPIRY, lease=MINUTE, limit=10, max_bytes=ANY_SIZE)
        assert [(each.id, each.archived_at) for each in claimed] == [(session.id, START)]
        await archived(backend, claimed.sessions, at=EXPIRY)
        assert await claimed_ids(backend, EXPIRY + HOUR) == []

    async def test_an_extension_makes_a_session_due_later(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.apply(session.id, ChangeMaker().change(expires_at=EXPIRY + HOUR))
        assert await claimed_ids(backend, EXPIRY + HOUR - MICROSECOND) == []
        assert await claimed_ids(backend, EXPIRY + HOUR) == [session.id]

    async def test_an_extension_under_a_lease_makes_a_session_due_at_its_new_expiry(
        self, backend: SessionBackend
    ) -> None:
        session = await created(backend)
        await claimed_ids(backend, lease=MINUTE)
        await backend.apply(session.id, ChangeMaker().change(at=EXPIRY, expires_at=EXPIRY + HOUR))
        assert await claimed_ids(backend, EXPIRY + HOUR - MICROSECOND) == []
        assert await claimed_ids(backend, EXPIRY + HOUR) == [session.id]

    async def test_a_revived_session_is_due_at_its_new_expiry(self, backend: SessionBackend) -> None:
        session = await created(backend, archived_at=EXPIRY)
        await backend.apply(session.id, ChangeMaker().change(at=EXPIRY, expires_at=EXPIRY + HOUR))
        assert await claimed_ids(backend, EXPIRY + HOUR - MICROSECOND) == []
        assert await claimed_ids(backend, EXPIRY + HOUR) == [session.id]

    async def test_other_changes_do_not_end_a_lease(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await claimed_ids(backend, lease=HOUR)
        slow = ChangeMaker()  # its clock is behind the sweeper's
        for content in ({}, {"add_tags": ("x",)}, {"add_assets": ("MSFT",)}, {"expires_at": EXPIRY}):
            await backend.apply(session.id, slow.query(at=START, **content))
        assert await claimed_ids(backend, EXPIRY + HOUR - MICROSECOND) == []
        assert await claimed_ids(backend, EXPIRY + HOUR) == [session.id]

    async def test_an_absorbed_session_is_due_at_its_expiry(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.evict(session.id, version=session.version, head=session.head)
        assert await claimed_ids(backend) == []
        (done,) = await backend.absorb([session])
        assert done.outcome is AbsorbOutcome.STORED
        assert await claimed_ids(backend) == [session.id]
