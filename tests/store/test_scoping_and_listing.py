"""Finding sessions, and seeing only those of one user."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.store.stores import Stores, present

from perdure import QueryRecord, Session, SessionFilter, SessionStore
from perdure.errors import (
    InvalidCursorError,
    InvalidIdError,
    InvalidInputError,
    SessionNotFoundError,
    ValueTooLargeError,
)
from perdure.store import UserSessions
from perdure.testing import ManualClock

HOUR = timedelta(hours=1)


async def several(store: SessionStore, clock: ManualClock) -> list[Session]:
    """Six sessions, newest first, an hour apart."""
    made = []
    for user, kind, assets, tags in (
        ("ann", "equity", ["AAPL"], ["tech"]),
        ("bob", "equity", ["AAPL", "IBM"], ["tech", "old"]),
        ("ann", "crypto", ["BTC"], []),
        (None, "macro", ["GDP"], ["old"]),
        ("ann", "equity", ["IBM", "AAPL"], ["tech"]),
        ("ann", "fixed-income", ["T10"], []),
    ):
        made.append(await store.create_session(assets, kind, user, 100, tags))
        clock.advance(HOUR)
    await store.archive_session(made[4].id)
    return made[::-1]


async def test_sessions_are_found_by_what_is_asked_for(store: SessionStore, clock: ManualClock) -> None:
    six = await several(store, clock)
    at = [session.created_at for session in six]

    for wanted, expected in (
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"user_id": "ann"}, [0, 1, 3, 5]),
        ({"user_id": "nobody"}, []),
        ({"session_type": "equity"}, [1, 4, 5]),
        ({"session_type": "fixed-income"}, [0]),
        ({"assets": ["AAPL"]}, [1, 4, 5]),
        ({"assets": ["AAPL", "IBM"]}, [1, 4]),
        ({"tags": ["tech"], "assets": ["IBM"], "user_id": "bob"}, [4]),
        ({"archived": True}, [1]),
        ({"archived": False, "user_id": "ann"}, [0, 3, 5]),
        ({"created_after": at[2]}, [0, 1, 2]),
        ({"created_before": at[2]}, [3, 4, 5]),
        ({"created_after": at[4], "created_before": at[2], "tags": ["tech"]}, [4]),
    ):
        found = await store.list_sessions(SessionFilter(**wanted))
        assert [summary.id for summary in found] == [six[number].id for number in expected], wanted


async def test_pages_follow_each_other_without_gap_or_repeat(store: SessionStore, clock: ManualClock) -> None:
    six = await several(store, clock)
    seen, cursor = [], None

    while True:
        page = await store.list_sessions(limit=4, cursor=cursor)
        seen += [summary.id for summary in page.items]
        await store.create_session(["NEW"], "equity")  # newer than the page before, so on none to come
        if (cursor := page.next_cursor) is None:
            break

    assert seen == [session.id for session in six]


async def test_a_summary_says_what_the_session_is_without_loading_it(store: SessionStore, session: Session) -> None:
    await store.track_query(session.id, QueryRecord(query_type="price", cache_hit=True))

    (summary,) = await store.list_sessions()

    assert (summary.id, summary.user_id, summary.type) == (session.id, "ann", "comparative")
    assert (summary.assets, summary.tags) == (("AAPL", "GOOGL"), ("tech",))
    assert (summary.total_queries, summary.cache_hits, summary.version, summary.is_archived) == (1, 1, 2, False)


async def test_a_listing_is_one_call(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()

    await store.list_sessions()
    await store.list_user_sessions("ann")
    await store.get_totals()

    assert spy.calls == ["find", "find", "aggregate"]


async def test_the_sessions_of_a_user_are_listed_without_the_archived_unless_asked_for(
    store: SessionStore, clock: ManualClock
) -> None:
    six = await several(store, clock)

    assert [s.id for s in await store.list_user_sessions("ann")] == [six[n].id for n in (0, 3, 5)]
    assert [s.id for s in await store.list_user_sessions("ann", include_archived=True)] == [
        six[n].id for n in (0, 1, 3, 5)
    ]
    assert [s.id for s in await store.list_user_sessions("ann", True, 2)] == [six[0].id, six[1].id]
    assert await store.list_user_sessions("nobody") == []


async def test_totals_are_of_what_matches(store: SessionStore, clock: ManualClock) -> None:
    await several(store, clock)

    totals = await store.get_totals(SessionFilter(user_id="ann"))

    assert (totals.sessions, totals.archived_sessions) == (4, 1)
    assert totals.session_types == {"equity": 2, "crypto": 1, "fixed-income": 1}
    assert (await store.get_totals()).sessions == 6


MALFORMED = [None, 5, b"", "", "no-id", "1234", "x" * 36, UUID(int=5).bytes, ["a"]]


@pytest.mark.parametrize("bad", MALFORMED, ids=lambda bad: str(bad)[:10])
async def test_a_malformed_id_is_refused_by_every_verb_before_anything_is_sent(
    bad: Any, stores: Stores, session: Session
) -> None:
    store, spy = await stores.spied()

    for verb in (store, store.for_user("ann")):
        calls: list[Callable[[], Any]] = [
            lambda: verb.get_session(bad),  # noqa: B023
            lambda: verb.update_session(bad, session),  # noqa: B023
            lambda: verb.ensure_active(bad),  # noqa: B023
            lambda: verb.track_query(bad, QueryRecord(query_type="price")),  # noqa: B023
            lambda: verb.update_context(bad, a=1),  # noqa: B023
            lambda: verb.update_preferences(bad, a=1),  # noqa: B023
            lambda: verb.store_intermediate_result(bad, "a", 1),  # noqa: B023
            lambda: verb.remove_context(bad, "a"),  # noqa: B023
            lambda: verb.get_queries(bad),  # noqa: B023
            lambda: verb.extend_session(bad),  # noqa: B023
            lambda: verb.archive_session(bad),  # noqa: B023
            lambda: verb.delete_session(bad),  # noqa: B023
        ]
        for call in calls:
            with pytest.raises(InvalidIdError, match=r"not a session id: .*; expected a UUID or its text"):
                await call()
        with pytest.raises(InvalidIdError):
            verb.tracking(bad, "price")
        if bad is not None:
            with pytest.raises(InvalidIdError):
                await verb.create_session(["A"], "equity", session_id=bad)
    assert spy.calls == []


BAD_CREATIONS: list[tuple[dict[str, Any], str]] = [
    ({"assets": "AAPL"}, "assets must be a list of texts, not str: 'AAPL'"),
    ({"assets": []}, "assets must not be empty"),
    ({"assets": None}, "assets must not be empty"),
    ({"assets": 5}, "assets must be a list of texts"),
    ({"assets": ["A", 5]}, "each of assets must be text, not int"),
    ({"assets": [""]}, "each of assets must not be empty"),
    ({"assets": ["\0"]}, "each of assets must not hold NUL"),
    ({"assets": [str(number) for number in range(257)]}, "assets has 257 entries; at most 256"),
    ({"session_type": "Equity"}, "session_type must be a lower-case slug"),
    ({"session_type": None}, "session_type must be text"),
    ({"user_id": ""}, "user_id must not be empty"),
    ({"user_id": 7}, "user_id must be text"),
    ({"user_id": "x" * 257}, "user_id has 257 characters"),
    ({"tags": "tech"}, "tags must be a list of texts"),
    ({"tags": ["t", None]}, "each of tags must be text"),
    ({"ttl": 3600}, "ttl must be a timedelta"),
    ({"ttl": HOUR, "ttl_hours": 1}, "give ttl or ttl_hours, not both"),
    ({"ttl_hours": "24"}, "hours must be a number"),
    ({"context": [("a", 1)]}, "context must be a dict"),
    ({"preferences": "a"}, "preferences must be a dict"),
    ({"context": {"k": b""}}, r"context\['k'\]: bytes"),
    ({"context": {1: "one"}}, "a key of context must be text, not int"),
    ({"preferences": {"k": {"deep": "\0"}}}, r"preferences\['k'\]\['deep'\]: text with a NUL"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_CREATIONS, ids=lambda value: str(value)[:30])
async def test_a_session_is_not_begun_with_what_cannot_be(bad: dict[str, Any], message: str, stores: Stores) -> None:
    store, spy = await stores.spied()

    for scope in (store, store.for_user("ann")):
        with pytest.raises(InvalidInputError, match=message):
            await scope.create_session(**{"assets": ["A"], "session_type": "equity", **bad})
    assert spy.calls == []


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "é", 5, b"AAAA", "A" * 500])
async def test_a_malformed_cursor_is_refused(cursor: Any, store: SessionStore, session: Session) -> None:
    with pytest.raises(InvalidCursorError, match="not a cursor of a listing"):
        await store.list_sessions(cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 1001, 1.5, "10", None, True])
async def test_a_malformed_limit_is_refused(limit: Any, stores: Stores) -> None:
    store, spy = await stores.spied()

    for listing in (
        store.list_sessions(limit=limit),
        store.list_user_sessions("ann", limit=limit),
        store.get_queries(uuid4(), limit=limit),
    ):
        with pytest.raises(InvalidInputError, match="limit must be a whole number from 1 to 1000"):
            await listing
    if limit is not None:
        with pytest.raises(InvalidInputError, match="history must be a whole number from 0"):
            await store.get_session(uuid4(), history=limit if limit not in (0, 1001) else -5)
    assert spy.calls == []


async def test_what_is_no_filter_or_user_is_refused(stores: Stores) -> None:
    store, spy = await stores.spied()

    for bad in ("ann", {"user_id": "ann"}):
        with pytest.raises(InvalidInputError, match="expected a SessionFilter"):
            await store.list_sessions(bad)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="expected a SessionFilter"):
            await store.get_totals(bad)  # type: ignore[arg-type]
    for user in (None, "", " ", 5, "\0"):
        with pytest.raises(InvalidInputError, match="user_id must"):
            await store.list_user_sessions(user)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="user_id must"):
            store.for_user(user)  # type: ignore[arg-type]
    with pytest.raises(ValueTooLargeError, match="user_id has 257"):
        store.for_user("x" * 257)
    assert spy.calls == []


async def test_what_is_no_session_or_version_is_not_saved(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()

    for bad in (None, "session", session.to_dict()):
        with pytest.raises(InvalidInputError, match="expected a Session"):
            await store.update_session(session.id, bad)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="expected a Session"):
            await store.save(bad)  # type: ignore[arg-type]
    for version in (-1, "1", 1.0, True):
        with pytest.raises(InvalidInputError, match="if_version must be a whole number"):
            await store.save(session, if_version=version)  # type: ignore[arg-type]
    assert spy.calls == []


# One user's sessions -----------------------------------------------------------------------------------


@pytest.fixture
async def theirs(store: SessionStore) -> Session:
    return await store.create_session(["IBM"], "equity", "bob")


async def snapshot(store: SessionStore, session: Session) -> Any:
    return present(await store.get_session(session.id)).to_dict()


async def test_a_user_sees_their_own_sessions_as_the_store_does(
    store: SessionStore, session: Session, theirs: Session, clock: ManualClock
) -> None:
    ann = store.for_user("ann")

    assert await ann.get_session(session.id) == session
    assert (await ann.track_query(session.id, QueryRecord(query_type="price"))).position == 1
    async with ann.tracking(session.id, "news") as query:
        pass
    assert present(query.tracked).position == 2
    await ann.update_context(session.id, k=1)
    await ann.update_preferences(session.id, k=1)
    await ann.store_intermediate_result(session.id, "k", 1)
    await ann.remove_context(session.id, "k")
    assert len(await ann.get_queries(session.id)) == 2
    loaded = present(await ann.get_session(session.id, history=1))
    loaded.tags.append("new")
    await ann.update_session(session.id, loaded)
    clock.advance(HOUR)
    assert present(await ann.get_session(session.id, touch=True)).last_accessed_at == clock()
    assert (await ann.extend_session(session.id, 1)).expires_at > session.expires_at
    assert [summary.id for summary in await ann.list_sessions()] == [session.id]
    assert [summary.id for summary in await ann.list_user_sessions("ann")] == [session.id]
    mine = await ann.create_session(["B"], "equity")
    assert mine.user_id == "ann"
    assert (await ann.create_session(["C"], "equity", "ann")).user_id == "ann"
    assert await ann.archive_session(mine.id) is True
    assert await ann.delete_session(mine.id) is True


async def test_a_session_of_another_user_or_of_nobody_is_as_if_it_did_not_exist(
    store: SessionStore, theirs: Session
) -> None:
    nobodys = await store.create_session(["IBM"], "equity")
    ann = store.for_user("ann")

    for hidden in (theirs, nobodys):
        before = await snapshot(store, hidden)
        assert await ann.get_session(hidden.id) is None
        assert await ann.get_session(hidden.id, touch=True) is None
        loaded = present(await store.get_session(hidden.id))
        loaded.tags.append("stolen")
        writes: list[Awaitable[Any]] = [
            ann.update_session(hidden.id, loaded),
            ann.save(loaded, if_version=loaded.version),
            ann.ensure_active(hidden.id),
            ann.track_query(hidden.id, QueryRecord(query_type="price")),
            ann.update_context(hidden.id, k=1),
            ann.update_preferences(hidden.id, k=1),
            ann.store_intermediate_result(hidden.id, "k", 1),
            ann.remove_context(hidden.id, "k"),
            ann.get_queries(hidden.id),
            ann.extend_session(hidden.id),
        ]
        for write in writes:
            with pytest.raises(SessionNotFoundError, match=f"^no session {hidden.id}$"):
                await write
        async with ann.tracking(hidden.id, "price") as query:
            pass
        assert isinstance(query.failure, SessionNotFoundError)
        assert await ann.archive_session(hidden.id) is False
        assert await ann.delete_session(hidden.id) is False
        assert await snapshot(store, hidden) == before
    assert await ann.list_user_sessions("bob", include_archived=True) == []
    assert (await ann.list_sessions(SessionFilter(user_id="bob"))).items == []
    assert len(await ann.list_sessions(SessionFilter(assets=("IBM",)))) == 0


async def test_a_scoped_store_makes_sessions_of_its_user_only(store: SessionStore) -> None:
    ann = store.for_user("ann")

    with pytest.raises(InvalidInputError, match="these are the sessions of 'ann'; 'bob' cannot own one of them"):
        await ann.create_session(["A"], "equity", "bob")
    assert len(await store.list_sessions()) == 0


async def test_scoping_costs_no_call_more(stores: Stores, session: Session, clock: ManualClock) -> None:
    store, spy = await stores.spied()

    async def calls(scope: UserSessions) -> list[list[str]]:
        counted = []
        made = await scope.create_session(["A"], "equity", "ann")
        loaded = present(await store.get_session(made.id))
        loaded.tags.append("new")
        clock.advance(timedelta(minutes=1))
        verbs: list[Callable[[], Awaitable[Any]]] = [
            lambda: scope.create_session(["A"], "equity", "ann"),
            lambda: scope.get_session(made.id),
            lambda: scope.get_session(made.id, touch=True),
            lambda: scope.update_session(made.id, loaded),
            lambda: scope.ensure_active(made.id),
            lambda: scope.track_query(made.id, QueryRecord(query_type="price")),
            lambda: scope.update_context(made.id, k=1),
            lambda: scope.update_preferences(made.id, k=1),
            lambda: scope.store_intermediate_result(made.id, "k", 1),
            lambda: scope.remove_context(made.id, "k"),
            lambda: scope.get_queries(made.id),
            lambda: scope.list_sessions(),
            lambda: scope.list_user_sessions("ann"),
            lambda: scope.extend_session(made.id),
            lambda: scope.archive_session(made.id),
            lambda: scope.delete_session(made.id),
        ]
        for verb in verbs:
            spy.forget()
            await verb()
            counted.append(list(spy.calls))
        return counted

    assert await calls(store.for_user("ann")) == await calls(store)


async def test_writers_of_different_users_are_told_apart_while_they_wait_together(
    stores: Stores, session: Session
) -> None:
    store, spy = await stores.spied()
    ann, bob = store.for_user("ann"), store.for_user("bob")
    spy.gate.clear()
    first = asyncio.create_task(ann.update_context(session.id, first=1))
    await spy.arrived.wait()
    waiting = [
        asyncio.create_task(user.update_context(session.id, **{f"k{number}": number}))
        for number, user in enumerate([ann, bob, ann, bob, ann])
    ]
    await asyncio.sleep(0)
    spy.gate.set()

    outcomes = await asyncio.gather(first, *waiting, return_exceptions=True)

    refused = [isinstance(outcome, SessionNotFoundError) for outcome in outcomes]
    assert refused == [False, False, True, False, True, False]
    assert present(await store.get_session(session.id)).state.context == {"first": 1, "k0": 0, "k2": 2, "k4": 4}
