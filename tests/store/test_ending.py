"""Extending, archiving, deleting, restoring."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.store.stores import SpyingBackend, Stores, present

from perdure import QueryRecord, Session, SessionStore
from perdure.backends import Archived, ArchiveOutcome, Deliver, ForwardingBackend, SessionBackend
from perdure.changes import Applied, SessionChange
from perdure.errors import (
    InvalidInputError,
    InvalidTTLError,
    SessionArchivedError,
    SessionExistsError,
    SessionNotFoundError,
    StorageFullError,
)
from perdure.models import StoredSession
from perdure.testing import START, ManualClock

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("later", "hours", "expected"),
    [
        (0, 24, 48),  # from the present expiry
        (10, 24, 48),
        (30, 24, 54),  # from now, where that is later
        (0, 0.25, 24.25),
        (0, 168, 168),  # at most the maximum from now
        (0, 150, 168),
        (2, 168, 170),
        (24, 168, 192),
    ],
)
async def test_a_session_is_extended_from_the_later_of_now_and_its_expiry_within_the_maximum(
    later: float, hours: float, expected: float, store: SessionStore, session: Session, clock: ManualClock
) -> None:
    clock.advance(later * HOUR)

    extended = await store.extend_session(session.id, hours)

    assert extended.expires_at == START + expected * HOUR
    assert extended == await store.get_session(session.id)
    assert not extended.is_expired


async def test_a_session_is_extended_by_a_day_where_nobody_says(store: SessionStore, session: Session) -> None:
    assert (await store.extend_session(str(session.id))).expires_at == START + 48 * HOUR


@pytest.mark.parametrize("hours", [0, -1, 168.01, 1e6, 1e300, 10**400, -1e300], ids="abcdefg")
async def test_extending_by_what_is_out_of_range_names_the_range_and_changes_nothing(
    hours: float, stores: Stores, session: Session
) -> None:
    store, spy = await stores.spied()

    with pytest.raises(InvalidTTLError, match="more than 0 and at most 168 hours"):
        await store.extend_session(session.id, hours)
    assert spy.calls == []


@pytest.mark.parametrize("hours", [float("nan"), float("inf"), "24", None, True])
async def test_extending_by_what_is_no_number_is_refused(hours: Any, stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()

    with pytest.raises(InvalidInputError, match="hours must be a number"):
        await store.extend_session(session.id, hours)
    with pytest.raises(InvalidInputError, match="hours must be a number"):
        await store.create_session(["A"], "equity", ttl_hours=True if hours is None else hours)
    assert spy.calls == []


async def test_a_session_that_is_not_there_is_not_extended(store: SessionStore) -> None:
    with pytest.raises(SessionNotFoundError):
        await store.extend_session(uuid4())


async def test_concurrent_extensions_never_shorten(stores: Stores, session: Session) -> None:
    opened = [await stores.open() for _ in range(4)]
    hours = [1, 100, 5, 50, 2, 99, 3, 24]

    answers = await asyncio.gather(
        *(opened[number % 4].extend_session(session.id, each) for number, each in enumerate(hours))
    )

    found = present(await opened[0].get_session(session.id))
    assert found.expires_at >= max(answer.expires_at for answer in answers)
    assert found.expires_at >= START + 124 * HOUR
    for answer, each in zip(answers, hours, strict=True):
        assert answer.expires_at >= START + (24 + each) * HOUR


async def test_an_extension_that_was_overtaken_by_a_longer_one_says_what_the_expiry_is(
    stores: Stores, session: Session
) -> None:
    (store, spy), other = await stores.spied(), await stores.open()
    spy.gate.clear()
    extending = asyncio.create_task(store.extend_session(session.id, 1))
    await spy.arrived.wait()

    await other.extend_session(session.id, 100)
    spy.gate.set()

    assert (await extending).expires_at == START + 124 * HOUR


async def test_extending_restores_an_archived_session_with_all_that_is_in_it(
    store: SessionStore, session: Session, clock: ManualClock
) -> None:
    await store.track_query(session.id, QueryRecord(query_type="price"))
    await store.update_context(session.id, k=1)
    await store.archive_session(session.id)
    clock.advance(1000 * HOUR)

    restored = await store.extend_session(session.id, 2)

    assert (restored.is_archived, restored.is_expired, restored.archived_at) == (False, False, None)
    assert restored.expires_at == clock() + 2 * HOUR
    assert restored.state.context == {"k": 1}
    assert restored.state.history.total_queries == 1
    assert restored == await store.get_session(session.id)
    await store.track_query(session.id, QueryRecord(query_type="price"))


async def test_an_extension_that_a_longer_one_and_the_end_of_it_overtook_is_made_all_the_same(
    stores: Stores, session: Session
) -> None:
    other = await stores.open()

    class Overtaken(SpyingBackend):
        async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
            if not self.changes:
                await other.extend_session(session_id, hours=20)
                await other.archive_session(session_id)
            return await super().apply(session_id, change)

    store = await stores.open(Overtaken(stores.backend()))

    extended = await store.extend_session(session.id, hours=1)

    assert not extended.is_archived
    assert extended.expires_at == session.expires_at + timedelta(hours=21)


async def test_whoever_is_overtaken_without_end_is_told_so(stores: Stores, session: Session) -> None:
    other, longer = await stores.open(), count(2)

    class Overtaken(SpyingBackend):
        async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
            await other.extend_session(session_id, hours=next(longer))
            await other.archive_session(session_id)
            return await super().apply(session_id, change)

    store = await stores.open(Overtaken(stores.backend()))

    with pytest.raises(SessionArchivedError):
        await store.extend_session(session.id, hours=1)


async def test_extending_restores_an_archived_session_also_where_its_expiry_stays(store: SessionStore) -> None:
    session = await store.create_session(["A"], "equity", ttl_hours=168)
    await store.archive_session(session.id)

    restored = await store.extend_session(session.id, 24)

    assert (restored.is_archived, restored.expires_at) == (False, START + 168 * HOUR)
    assert not present(await store.get_session(session.id)).is_archived
    await store.update_context(session.id, k=1)


async def test_an_extension_that_would_change_nothing_writes_nothing(stores: Stores) -> None:
    store, spy = await stores.spied()
    session = await store.create_session(["A"], "equity", ttl_hours=168)
    spy.forget()

    assert (await store.extend_session(session.id, 24)).expires_at == START + 168 * HOUR
    assert spy.calls == ["read"]


async def test_archiving_makes_a_session_readable_only(store: SessionStore, session: Session) -> None:
    assert await store.archive_session(str(session.id)) is True

    archived = present(await store.get_session(session.id))
    assert (archived.is_archived, archived.archived_at) == (True, START)
    assert await store.archive_session(session.id) is False
    assert await store.archive_session(uuid4()) is False


class Full(ForwardingBackend):
    """Takes what is archived, and has no room to move it; or says so of each session alone."""

    def __init__(self, inner: SessionBackend, *, each_alone: bool) -> None:
        super().__init__(inner)
        self.each_alone = each_alone

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        if self.each_alone:
            return [Archived(each.id, ArchiveOutcome.FAILED, "the disk is full") for each in sessions]
        raise StorageFullError(self.name, "the disk is full")


@pytest.mark.parametrize("each_alone", [False, True])
async def test_what_was_archived_by_hand_is_so_whatever_keeps_it_from_being_moved(
    each_alone: bool, stores: Stores, session: Session, logs: list[MutableMapping[str, Any]]
) -> None:
    store = await stores.open(Full(stores.backend(), each_alone=each_alone))

    assert await store.archive_session(session.id) is True

    assert present(await store.get_session(session.id)).is_archived
    (told,) = [entry for entry in logs if entry["event"] == "archiving.unfinished"]
    assert (told["session_id"], "the disk is full" in told["error"]) == (str(session.id), True)


async def test_an_expired_session_can_be_archived_by_hand(
    store: SessionStore, session: Session, clock: ManualClock
) -> None:
    clock.advance(48 * HOUR)

    assert await store.archive_session(session.id) is True
    assert present(await store.get_session(session.id)).archived_at == clock()


async def test_a_deleted_session_is_gone_for_good(store: SessionStore, session: Session) -> None:
    assert await store.delete_session(str(session.id)) is True

    assert await store.get_session(session.id) is None
    assert await store.delete_session(session.id) is False
    assert await store.delete_session(uuid4()) is False
    assert len(await store.list_sessions()) == 0
    with pytest.raises(SessionNotFoundError):
        await store.extend_session(session.id)
    with pytest.raises(SessionExistsError):
        await store.create_session(["A"], "equity", session_id=session.id)


async def test_a_tombstone_is_kept_longer_than_any_copy_can_live(
    stores: Stores, session: Session, clock: ManualClock
) -> None:
    store = await stores.open(session_retention_days=10, session_max_ttl_hours=24)
    await store.delete_session(session.id)

    clock.advance(timedelta(days=11) - timedelta(seconds=1))
    await store.delete_old_archived_sessions()
    with pytest.raises(SessionExistsError):
        await store.create_session(["A"], "equity", session_id=session.id)
    clock.advance(timedelta(seconds=1))
    await store.delete_old_archived_sessions()
    await store.create_session(["A"], "equity", session_id=session.id)


async def test_the_clock_may_stand_at_the_edges_of_time(stores: Stores) -> None:
    store = await stores.open(clock=lambda: datetime.fromisoformat("1970-01-01T00:00:00+00:00"))

    session = await store.create_session(["A"], "equity", ttl_hours=1)

    assert session.expires_at == datetime.fromisoformat("1970-01-01T01:00:00+00:00")
    assert await store.get_session(session.id) == session
