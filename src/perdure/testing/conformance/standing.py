"""Changes of what a session is found by, and of when it ends."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

from datetime import timedelta

import pytest

from perdure.backends import SessionBackend
from perdure.errors import SessionArchivedError, SessionExpiredError
from perdure.testing.builders import START, ChangeMaker
from perdure.testing.conformance.steps import (
    EXPIRY,
    HOUR,
    MICROSECOND,
    MINUTE,
    archived_session,
    claimed_ids,
    created,
    listed,
    whole,
)

__all__ = ["StandingPromises"]


class StandingPromises:
    """`apply`: labels, expiry, archiving, reviving."""

    async def test_labels_are_added_at_the_end_and_removed(self, backend: SessionBackend) -> None:
        session = await created(backend, tags=("a", "b", "c"), assets=("AAPL", "MSFT"))
        change = ChangeMaker().change(
            add_tags=("d", "a"), remove_tags=("b", "absent"), add_assets=("NVDA",), remove_assets=("AAPL",)
        )
        await backend.apply(session.id, change)
        after = await whole(backend, session.id)
        assert (after.tags, after.assets) == (("a", "c", "d"), ("MSFT", "NVDA"))

    async def test_a_session_is_found_by_the_labels_it_has_now(self, backend: SessionBackend) -> None:
        session = await created(backend, tags=("old",), assets=("AAPL",))
        change = ChangeMaker().change(
            add_tags=("new",), remove_tags=("old",), add_assets=("NVDA",), remove_assets=("AAPL",)
        )
        await backend.apply(session.id, change)
        assert await listed(backend, tags=["new"], assets=["NVDA"]) == [session.id]
        assert await listed(backend, tags=["old"]) == []
        assert await listed(backend, assets=["AAPL"]) == []

    async def test_a_later_expiry_is_taken(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.apply(session.id, ChangeMaker().change(expires_at=EXPIRY + MICROSECOND))
        assert (await whole(backend, session.id)).expires_at == EXPIRY + MICROSECOND

    @pytest.mark.parametrize("earlier", [timedelta(), MICROSECOND, HOUR])
    async def test_an_expiry_never_shrinks(self, backend: SessionBackend, earlier: timedelta) -> None:
        session = await created(backend)
        await backend.apply(session.id, ChangeMaker().query(expires_at=EXPIRY - earlier))
        after = await whole(backend, session.id)
        assert (after.expires_at, after.total_queries) == (EXPIRY, 1)

    async def test_a_session_takes_changes_until_the_instant_of_its_expiry(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.apply(session.id, ChangeMaker().query(at=EXPIRY - MICROSECOND))
        with pytest.raises(SessionExpiredError) as caught:
            await backend.apply(session.id, ChangeMaker().query(at=EXPIRY))
        assert caught.value.expired_at == EXPIRY
        assert (await whole(backend, session.id)).total_queries == 1

    async def test_a_later_expiry_revives_an_expired_session(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.apply(session.id, ChangeMaker().query(at=EXPIRY + MINUTE, expires_at=EXPIRY + HOUR))
        after = await whole(backend, session.id)
        assert (after.expires_at, after.total_queries, after.version) == (EXPIRY + HOUR, 1, 2)

    async def test_an_expiry_that_has_passed_as_well_revives_nothing(self, backend: SessionBackend) -> None:
        session = await created(backend)
        for expires_at in (EXPIRY + MINUTE, EXPIRY + 2 * MINUTE):
            change = ChangeMaker().change(at=EXPIRY + 2 * MINUTE, expires_at=expires_at)
            with pytest.raises(SessionExpiredError):
                await backend.apply(session.id, change)
        assert await whole(backend, session.id) == session

    async def test_archiving_notes_the_instant(self, backend: SessionBackend) -> None:
        session = await created(backend)
        applied = await backend.apply(session.id, ChangeMaker().change(at=START + MINUTE, archive=True))
        after = await whole(backend, session.id)
        assert (after.archived_at, after.expires_at, after.version) == (START + MINUTE, EXPIRY, applied.version)

    async def test_an_expired_session_can_be_archived(self, backend: SessionBackend) -> None:
        session = await created(backend)
        await backend.apply(session.id, ChangeMaker().change(at=EXPIRY + HOUR, archive=True))
        assert (await whole(backend, session.id)).archived_at == EXPIRY + HOUR

    async def test_archiving_moves_a_session_between_the_listings(self, backend: SessionBackend) -> None:
        session = await created(backend, tags=("tech",))
        await backend.apply(session.id, ChangeMaker().change(archive=True))
        for wanted in ({}, {"tags": ["tech"]}, {"user_id": "analyst", "assets": ["AAPL"]}):
            assert await listed(backend, archived=True, **wanted) == [session.id]
            assert await listed(backend, archived=False, **wanted) == []

    async def test_an_archived_session_takes_no_change(self, backend: SessionBackend) -> None:
        session = archived_session(START)
        await backend.create(session)
        for content in ({}, {"expires_at": EXPIRY - MICROSECOND}, {"archive": True}):
            with pytest.raises(SessionArchivedError) as caught:
                await backend.apply(session.id, ChangeMaker().change(at=START + MINUTE, **content))
            assert caught.value.archived_at == START
        assert await whole(backend, session.id) == session

    async def test_a_session_is_not_archived_twice_however_late_its_new_expiry(self, backend: SessionBackend) -> None:
        session = archived_session(START)
        await backend.create(session)
        with pytest.raises(SessionArchivedError):
            await backend.apply(session.id, ChangeMaker().change(archive=True, expires_at=EXPIRY + HOUR))
        assert await whole(backend, session.id) == session

    async def test_a_later_expiry_revives_an_archived_session(self, backend: SessionBackend) -> None:
        session = archived_session(EXPIRY)
        await backend.create(session)
        await backend.apply(session.id, ChangeMaker().query(at=EXPIRY + MINUTE, expires_at=EXPIRY + HOUR))
        after = await whole(backend, session.id)
        assert (after.archived_at, after.expires_at, after.total_queries) == (None, EXPIRY + HOUR, 1)
        assert await listed(backend, archived=False) == [session.id]
        assert await listed(backend, archived=True) == []

    async def test_the_same_expiry_revives_what_was_archived_before_it(self, backend: SessionBackend) -> None:
        session = archived_session(START)
        await backend.create(session)
        await backend.apply(session.id, ChangeMaker().change(at=START + MINUTE, expires_at=EXPIRY))
        after = await whole(backend, session.id)
        assert (after.archived_at, after.expires_at) == (None, EXPIRY)
        assert await claimed_ids(backend, EXPIRY) == [session.id]
