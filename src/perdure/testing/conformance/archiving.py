"""Moving sessions to the archive, and telling of it."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from perdure.backends import ArchiveOutcome, SessionBackend
from perdure.models import StoredSession
from perdure.testing.builders import START, ChangeMaker
from perdure.testing.conformance.steps import (
    ANY_SIZE,
    EXPIRY,
    FOREVER,
    HOUR,
    MINUTE,
    OpenBackend,
    archived,
    claimed_ids,
    created,
    listed,
    numbered,
    whole,
)

__all__ = ["ArchivingPromises"]


async def claimed(backend: SessionBackend, count: int) -> list[StoredSession]:
    """So many new sessions that have expired and were claimed."""
    for _ in range(count):
        await created(backend, queries=numbered(2), sections={"context": {"a": 1}}, tags=("x",))
    found = await backend.claim_expired(now=EXPIRY, lease=MINUTE, limit=100, max_bytes=ANY_SIZE)
    assert len(found) == count
    return found.sessions


async def outcomes(
    backend: SessionBackend, sessions: Sequence[StoredSession]
) -> tuple[list[ArchiveOutcome], list[StoredSession]]:
    """What became of each, and what was delivered."""
    delivered: list[StoredSession] = []

    async def deliver(those: Sequence[StoredSession]) -> None:
        delivered.extend(those)

    report = await backend.archive(sessions, at=EXPIRY, deliver=deliver)
    assert [done.session_id for done in report] == [session.id for session in sessions]
    return [done.outcome for done in report], delivered


class ArchivingPromises:
    """`archive`."""

    async def test_claimed_sessions_are_archived_and_nothing_else_about_them_changes(
        self, backend: SessionBackend
    ) -> None:
        sessions = await claimed(backend, 3)
        await archived(backend, sessions, at=EXPIRY + MINUTE)
        for session in sessions:
            assert await whole(backend, session.id) == replace(session, archived_at=EXPIRY + MINUTE)

    async def test_archived_sessions_move_between_the_listings(self, backend: SessionBackend) -> None:
        sessions = await claimed(backend, 2)
        await archived(backend, sessions)
        for wanted in ({}, {"tags": ["x"]}, {"user_id": "analyst", "assets": ["AAPL"]}):
            assert set(await listed(backend, archived=True, **wanted)) == {session.id for session in sessions}
            assert await listed(backend, archived=False, **wanted) == []

    async def test_what_was_archived_is_delivered_as_it_is_in_the_archive(self, backend: SessionBackend) -> None:
        sessions = await claimed(backend, 2)
        delivered = await archived(backend, sessions)
        assert sorted(delivered, key=lambda session: session.id) == sorted(
            [replace(session, archived_at=EXPIRY) for session in sessions], key=lambda session: session.id
        )

    async def test_archived_sessions_are_due_no_longer(self, backend: SessionBackend) -> None:
        await archived(backend, await claimed(backend, 2))
        assert await claimed_ids(backend, FOREVER) == []

    @pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
    async def test_what_was_not_delivered_is_due_again_and_delivered_the_same(
        self, open_backend: OpenBackend, error: type[BaseException]
    ) -> None:
        backend = await open_backend()
        sessions = await claimed(backend, 2)

        async def crash(those: Sequence[StoredSession]) -> None:
            raise error

        with pytest.raises(error):
            await backend.archive(sessions, at=EXPIRY, deliver=crash)
        await backend.aclose()
        again = await open_backend()
        found = await again.claim_expired(now=EXPIRY + MINUTE, lease=MINUTE, limit=9, max_bytes=ANY_SIZE)
        delivered = await archived(again, found.sessions, at=EXPIRY + HOUR)
        assert {session.id: session for session in delivered} == {
            session.id: replace(session, archived_at=EXPIRY) for session in sessions
        }
        assert await claimed_ids(again, FOREVER) == []
        await again.aclose()

    async def test_archiving_again_tells_again_and_moves_nothing(self, backend: SessionBackend) -> None:
        (session,) = await claimed(backend, 1)
        first = await archived(backend, [session])
        assert await archived(backend, [session], at=EXPIRY + HOUR) == first
        assert (await whole(backend, session.id)).archived_at == EXPIRY

    async def test_a_session_that_was_changed_meanwhile_is_left_alone(self, backend: SessionBackend) -> None:
        changed, same = await claimed(backend, 2)
        await backend.apply(changed.id, ChangeMaker().query(at=EXPIRY, expires_at=EXPIRY + HOUR))
        found, delivered = await outcomes(backend, [changed, same])
        assert found == [ArchiveOutcome.CHANGED, ArchiveOutcome.ARCHIVED]
        assert [session.id for session in delivered] == [same.id]
        after = await whole(backend, changed.id)
        assert (after.archived_at, after.total_queries) == (None, 3)
        assert await claimed_ids(backend, EXPIRY + HOUR) == [changed.id]

    @pytest.mark.parametrize("facts", [{"version": 2}, {"head": "another"}])
    async def test_only_the_very_copy_is_archived(self, backend: SessionBackend, facts: dict[str, object]) -> None:
        (session,) = await claimed(backend, 1)
        other = replace(session, **facts)  # type: ignore[arg-type]  # one fact of it
        await backend.evict(session.id, version=session.version, head=session.head)
        await backend.create(other)
        assert await outcomes(backend, [session]) == ([ArchiveOutcome.CHANGED], [])
        assert await whole(backend, session.id) == other

    async def test_a_session_that_was_deleted_meanwhile_stays_so(self, backend: SessionBackend) -> None:
        gone, same = await claimed(backend, 2)
        await backend.delete(gone.id, forget_at=FOREVER)
        found, delivered = await outcomes(backend, [gone, same])
        assert found == [ArchiveOutcome.DELETED, ArchiveOutcome.ARCHIVED]
        assert [session.id for session in delivered] == [same.id]
        assert await backend.read(gone.id) is None

    async def test_a_session_that_is_not_there_is_not_brought_back(self, backend: SessionBackend) -> None:
        (session,) = await claimed(backend, 1)
        await backend.evict(session.id, version=session.version, head=session.head)
        assert await outcomes(backend, [session]) == ([ArchiveOutcome.CHANGED], [])
        assert await backend.read(session.id) is None

    async def test_a_session_that_is_restored_while_it_is_delivered_is_due_at_its_new_expiry(
        self, backend: SessionBackend, other: SessionBackend
    ) -> None:
        (session,) = await claimed(backend, 1)

        async def deliver(those: Sequence[StoredSession]) -> None:
            await other.apply(session.id, ChangeMaker().change(at=EXPIRY, expires_at=EXPIRY + HOUR))

        await backend.archive([session], at=EXPIRY, deliver=deliver)
        assert (await whole(backend, session.id)).archived_at is None
        assert await claimed_ids(backend, EXPIRY + HOUR) == [session.id]

    async def test_sweepers_at_the_same_time_harm_nothing(self, backend: SessionBackend, other: SessionBackend) -> None:
        sessions = await claimed(backend, 20)
        await asyncio.gather(*(outcomes(each, sessions) for each in (backend, other, backend, other)))
        assert len(await listed(backend, archived=True)) == 20
        assert await claimed_ids(backend, FOREVER) == []
        for session in sessions[:3]:
            assert await whole(backend, session.id) == replace(session, archived_at=EXPIRY)

    async def test_archiving_nothing_does_nothing(self, backend: SessionBackend) -> None:
        session = await created(backend)
        assert await outcomes(backend, []) == ([], [])
        assert await whole(backend, session.id) == session
        assert session.created_at == START
