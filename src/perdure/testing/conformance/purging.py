"""Retention."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

import pytest

from perdure.backends import Purged, SessionBackend
from perdure.errors import SessionExistsError
from perdure.models import SessionFilter
from perdure.testing.builders import START, ChangeMaker, stored_session
from perdure.testing.conformance.steps import (
    EXPIRY,
    FOREVER,
    HOUR,
    MICROSECOND,
    MINUTE,
    archived,
    created,
    listed,
    numbered,
    whole,
)

__all__ = ["PurgingPromises"]


async def purged(
    backend: SessionBackend, before: datetime = FOREVER, *, limit: int = 100, dry_run: bool = False
) -> Purged:
    """What retention removes."""
    return await backend.purge(archived_before=before, now=FOREVER, limit=limit, dry_run=dry_run)


async def archived_since(backend: SessionBackend, *minutes: int) -> list[UUID]:
    """Ids of sessions that were archived at so many minutes after their expiry, in the order given."""
    return [(await created(backend, archived_at=EXPIRY + minute * MINUTE)).id for minute in minutes]


class PurgingPromises:
    """`purge`."""

    async def test_what_was_archived_before_the_instant_is_removed(
        self, backend: SessionBackend, other: SessionBackend
    ) -> None:
        session = await created(
            backend, archived_at=EXPIRY, queries=numbered(2), tags=("x",), sections={"context": {"a": 1}}
        )
        assert await purged(backend) == Purged([session.id])
        assert await other.read(session.id) is None
        assert await other.queries(session.id, limit=1) is None
        assert await listed(other, tags=["x"]) == []
        assert (await other.aggregate(SessionFilter())).sessions == 0

    async def test_none_but_those_named_are_removed(self, backend: SessionBackend) -> None:
        ids = await archived_since(backend, 3, 1, 2, 4)
        young, active = await created(backend, archived_at=FOREVER), await created(backend)
        among = [ids[0], ids[1], ids[3], young.id, active.id, uuid4(), ids[1]]  # one of them twice

        async def purged_among(*, limit: int, dry_run: bool = False) -> Purged:
            return await backend.purge(archived_before=FOREVER, now=FOREVER, limit=limit, among=among, dry_run=dry_run)

        assert await purged_among(limit=2, dry_run=True) == Purged([ids[1], ids[0]], more=True)
        assert await purged_among(limit=2) == Purged([ids[1], ids[0]], more=True)
        assert await purged_among(limit=2) == Purged([ids[3]])
        assert set(await listed(backend)) == {ids[2], young.id, active.id}

    async def test_where_none_are_named_none_are_removed(self, backend: SessionBackend) -> None:
        ids = await archived_since(backend, 1)
        assert await backend.purge(archived_before=FOREVER, now=FOREVER, limit=9, among=[]) == Purged([])
        assert await listed(backend) == ids

    async def test_the_instant_itself_is_not_before_it(self, backend: SessionBackend) -> None:
        session = await created(backend, archived_at=EXPIRY)
        assert await purged(backend, EXPIRY) == Purged([])
        assert await whole(backend, session.id) == session
        assert await purged(backend, EXPIRY + MICROSECOND) == Purged([session.id])

    async def test_only_archived_sessions_are_removed(self, backend: SessionBackend) -> None:
        session = await created(backend)
        revived = await created(backend, archived_at=START)
        await backend.apply(revived.id, ChangeMaker().change(at=EXPIRY, expires_at=EXPIRY + HOUR))
        assert await purged(backend) == Purged([])
        assert set(await listed(backend)) == {session.id, revived.id}

    async def test_what_a_change_archived_is_removed(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.apply(session.id, ChangeMaker().change(at=EXPIRY, archive=True))
        await archived(backend, [await whole(backend, session.id)], at=EXPIRY + HOUR)
        assert await purged(backend, EXPIRY) == Purged([])
        assert await purged(backend, EXPIRY + MICROSECOND) == Purged([session.id])

    async def test_the_longest_archived_are_removed_first_and_the_rest_is_announced(
        self, backend: SessionBackend
    ) -> None:
        third, first, second, fourth = await archived_since(backend, 3, 1, 2, 4)
        assert await purged(backend, limit=2) == Purged([first, second], more=True)
        assert set(await listed(backend)) == {third, fourth}
        assert await purged(backend, limit=2) == Purged([third, fourth], more=False)
        assert await purged(backend, limit=2) == Purged([], more=False)

    async def test_what_is_too_young_does_not_count_as_more(self, backend: SessionBackend) -> None:
        old, _ = await archived_since(backend, 1, 3)
        assert await purged(backend, EXPIRY + 2 * MINUTE, limit=1) == Purged([old], more=False)

    async def test_a_dry_run_tells_the_same_and_changes_nothing(self, backend: SessionBackend) -> None:
        sessions = [await created(backend, archived_at=EXPIRY, queries=numbered(1)) for _ in range(3)]
        promised = await purged(backend, limit=2, dry_run=True)
        assert (len(promised.session_ids), promised.more) == (2, True)
        assert [await whole(backend, session.id) for session in sessions] == sessions
        assert await purged(backend, limit=2) == promised

    async def test_a_dry_run_forgets_no_tombstone(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.delete(session.id, forget_at=START)
        await purged(backend, dry_run=True)
        with pytest.raises(SessionExistsError):
            await backend.create(session)
        await purged(backend)
        await backend.create(session)

    async def test_purging_concerns_what_it_names_alone(self, backend: SessionBackend) -> None:
        await archived_since(backend, 1, 2)
        young = stored_session(archived_at=FOREVER, queries=numbered(2), tags=("x",), sections={"context": {"a": 1}})
        await backend.create(young)
        await purged(backend)
        assert await whole(backend, young.id) == young
        assert await listed(backend, tags=["x"], archived=True) == [young.id]
