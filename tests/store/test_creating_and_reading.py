from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from tests.store.stores import Stores, present

from perdure import QueryRecord, Session, SessionStore, SessionType
from perdure.errors import InvalidTTLError, SessionExistsError
from perdure.testing import START, ManualClock

HOUR = timedelta(hours=1)


async def test_a_session_begins_as_it_was_asked_for(store: SessionStore) -> None:
    wanted = uuid4()

    session = await store.create_session(
        ["AAPL", "GOOGL"],
        SessionType.COMPARATIVE,
        "ann",
        8,
        ["tech"],
        context={"focus": "margins"},
        preferences={"detail": 3},
        session_id=wanted,
    )

    assert (session.id, session.user_id, session.type) == (wanted, "ann", SessionType.COMPARATIVE)
    assert (session.assets, session.tags) == (["AAPL", "GOOGL"], ["tech"])
    assert (session.created_at, session.last_accessed_at, session.expires_at) == (START, START, START + 8 * HOUR)
    assert session.state.context == {"focus": "margins"}
    assert session.state.preferences == {"detail": 3}
    assert (session.version, session.is_archived, session.is_expired) == (1, False, False)
    assert await store.get_session(wanted) == session


async def test_a_session_needs_only_assets_and_a_type(store: SessionStore) -> None:
    session = await store.create_session(iter(["BTC"]), "crypto")

    assert (session.user_id, session.tags, len(session.state.context)) == (None, [], 0)
    assert session.expires_at == START + 24 * HOUR
    assert await store.get_session(str(session.id)) == session


@pytest.mark.parametrize(
    ("given", "lifetime"),
    [
        ({"ttl_hours": 0.5}, timedelta(minutes=30)),
        ({"ttl_hours": 168}, timedelta(hours=168)),
        ({"ttl": timedelta(seconds=1)}, timedelta(seconds=1)),
        ({"ttl": timedelta(hours=168)}, timedelta(hours=168)),
        ({}, timedelta(hours=24)),
    ],
)
async def test_a_session_lives_as_long_as_was_asked_for(
    given: dict[str, Any], lifetime: timedelta, store: SessionStore
) -> None:
    session = await store.create_session(["A"], "equity", **given)

    assert session.expires_at == START + lifetime


@pytest.mark.parametrize(
    "given",
    [
        {"ttl_hours": 0},
        {"ttl_hours": -1},
        {"ttl_hours": 168.001},
        {"ttl": timedelta(0)},
        {"ttl": timedelta(hours=168, microseconds=1)},
    ],
)
async def test_a_time_to_live_outside_the_range_names_the_range_and_makes_nothing(
    given: dict[str, Any], store: SessionStore
) -> None:
    with pytest.raises(InvalidTTLError, match="more than 0 and at most 168 hours from now") as caught:
        await store.create_session(["A"], "equity", **given)

    assert caught.value.maximum == 168 * HOUR
    assert len(await store.list_sessions()) == 0


async def test_default_and_maximum_come_from_the_settings(stores: Stores) -> None:
    store = await stores.open(session_default_ttl_hours=2, session_max_ttl_hours=3)

    assert (await store.create_session(["A"], "equity")).expires_at == START + 2 * HOUR
    with pytest.raises(InvalidTTLError, match="at most 3 hours from now; 4 hours were asked for"):
        await store.create_session(["A"], "equity", ttl_hours=4)


async def test_an_id_is_used_once_and_never_again(store: SessionStore, session: Session) -> None:
    with pytest.raises(SessionExistsError, match=str(session.id)):
        await store.create_session(["A"], "equity", session_id=session.id)
    await store.delete_session(session.id)
    with pytest.raises(SessionExistsError, match="exists already, or was deleted"):
        await store.create_session(["A"], "equity", session_id=str(session.id))


async def test_a_session_that_is_not_there_is_none(store: SessionStore) -> None:
    assert await store.get_session(uuid4()) is None
    assert await store.get_session(str(uuid4()), history=3, touch=True) is None


async def test_an_id_may_be_a_uuid_or_its_text(store: SessionStore, session: Session) -> None:
    for form in (session.id, str(session.id), str(session.id).upper(), session.id.hex, f"{{{session.id}}}"):
        assert present(await store.get_session(form)).id == session.id


async def test_the_newest_queries_are_loaded_when_asked_for_and_totals_stay_true(
    store: SessionStore, session: Session
) -> None:
    for number in range(5):
        await store.track_query(session.id, QueryRecord(query_type=f"q{number}", cache_hit=number < 2))

    for history, expected in ((None, [1, 2, 3, 4, 5]), (2, [4, 5]), (0, []), (99, [1, 2, 3, 4, 5])):
        found = present(await store.get_session(session.id, history=history)).state.history
        assert [query.position for query in found.queries] == expected
        assert (found.total_queries, found.cache_hits) == (5, 2)


async def test_an_expired_and_an_archived_session_are_returned_and_say_so(
    store: SessionStore, session: Session, clock: ManualClock
) -> None:
    other = await store.create_session(["B"], "equity", ttl_hours=48)
    await store.archive_session(other.id)
    clock.advance(24 * HOUR)

    expired, archived = present(await store.get_session(session.id)), present(await store.get_session(other.id))

    assert (expired.is_expired, expired.is_archived) == (True, False)
    assert (archived.is_expired, archived.is_archived, archived.archived_at) == (False, True, START)


async def test_reading_never_writes(stores: Stores, session: Session, clock: ManualClock) -> None:
    store, spy = await stores.spied()
    clock.advance(HOUR)

    found = present(await store.get_session(session.id))
    present(await store.get_session(session.id, history=0))

    assert spy.calls == ["read", "read"]
    assert (found.version, found.last_accessed_at) == (1, START)


async def test_a_touch_is_noted_without_anything_else_changing(
    store: SessionStore, session: Session, clock: ManualClock
) -> None:
    clock.advance(HOUR)

    touched = present(await store.get_session(session.id, touch=True))

    assert touched.last_accessed_at == START + HOUR
    again = present(await store.get_session(session.id))
    assert again == touched
    assert again.version == 2
    assert again.model_copy(update={"last_accessed_at": START, "version": 1, "head": session.head}) == session


@pytest.mark.parametrize("ended", ["expired", "archived"])
async def test_a_session_that_has_ended_is_not_touched(
    ended: str, stores: Stores, session: Session, clock: ManualClock
) -> None:
    store, spy = await stores.spied()
    clock.advance(HOUR)
    if ended == "expired":
        clock.advance(24 * HOUR)
    else:
        await store.archive_session(session.id)
    spy.forget()

    found = present(await store.get_session(session.id, touch=True))

    assert spy.calls == ["read"]
    assert (found.is_expired, found.is_archived) == (ended == "expired", ended == "archived")


async def test_a_session_that_ends_while_it_is_touched_is_still_what_was_read(
    stores: Stores, session: Session, clock: ManualClock
) -> None:
    store, spy = await stores.spied()
    other = await stores.open()
    clock.advance(HOUR)
    spy.gate.clear()
    reading = asyncio.create_task(store.get_session(session.id, touch=True))
    await spy.arrived.wait()

    await other.delete_session(session.id)
    spy.gate.set()

    assert present(await reading).id == session.id
