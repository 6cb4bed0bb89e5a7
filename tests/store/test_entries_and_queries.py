"""Verbs that write without loading, and pages of history."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from tests.store.stores import Stores, present

from perdure import QueryRecord, Session, SessionStore
from perdure.backends import MemoryBackend, MemoryData
from perdure.errors import (
    InvalidInputError,
    InvalidValueError,
    QueryLimitExceededError,
    SessionArchivedError,
    SessionExpiredError,
    SessionNotFoundError,
    StateLimitExceededError,
    ValueTooLargeError,
)
from perdure.testing import ManualClock, stored_session


def price(**fields: Any) -> QueryRecord:
    return QueryRecord(query_type="price", **fields)


async def test_a_tracked_query_has_a_position_a_total_and_a_version(store: SessionStore, session: Session) -> None:
    query = price(parameters={"symbol": "AAPL"}, cache_hit=True)

    first, second = await store.track_query(session.id, query), await store.track_query(str(session.id), price())

    assert (first.position, first.total_queries, first.version) == (1, 1, 2)
    assert (second.position, second.total_queries, second.version) == (2, 2, 3)
    history = present(await store.get_session(session.id)).state.history
    assert history.queries[0] == query.placed(1)
    assert (history.total_queries, history.cache_hits) == (2, 1)


async def test_writing_without_loading_is_one_call(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()

    await store.track_query(session.id, price())
    await store.update_context(session.id, a=1)
    await store.update_preferences(session.id, a=1)
    await store.store_intermediate_result(session.id, "a", 1)
    await store.remove_context(session.id, "a")
    async with store.tracking(session.id, "price"):
        pass

    assert spy.calls == ["apply"] * 6


@pytest.mark.parametrize(
    ("ended", "expected"),
    [("deleted", SessionNotFoundError), ("expired", SessionExpiredError), ("archived", SessionArchivedError)],
)
async def test_a_session_that_takes_no_query_is_refused_beforehand_as_the_query_would_be(
    ended: str, expected: type[Exception], store: SessionStore, session: Session, clock: ManualClock
) -> None:
    await store.ensure_active(session.id)
    await store.ensure_active(str(session.id))
    if ended == "expired":
        clock.advance(session.expires_at - clock())
    else:
        assert await (store.delete_session if ended == "deleted" else store.archive_session)(session.id)

    with pytest.raises(expected) as beforehand:
        await store.ensure_active(session.id)
    with pytest.raises(expected) as afterwards:
        await store.track_query(session.id, price())
    assert str(beforehand.value) == str(afterwards.value)


async def test_a_full_session_is_refused_beforehand(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied(session_max_queries_per_session=2)
    for _ in range(2):
        await store.ensure_active(session.id)
        await store.track_query(session.id, price())
    spy.calls.clear()

    with pytest.raises(QueryLimitExceededError, match="2"):
        await store.ensure_active(session.id)
    assert spy.calls == ["read"]


async def test_keys_are_set_and_removed_one_by_one(store: SessionStore, session: Session) -> None:
    assert await store.update_context(session.id, a=1, b={"c": [2]}) == 2
    assert await store.update_context(session.id, a=2, session_id="a key like any other", self=3) == 3
    assert await store.update_preferences(session.id, detail="high") == 4
    assert await store.store_intermediate_result(session.id, "sum of squares", 5) == 5
    assert await store.remove_context(session.id, "b", "never there") == 6

    found = present(await store.get_session(session.id))
    assert found.state.context == {"a": 2, "session_id": "a key like any other", "self": 3}
    assert found.state.preferences == {"detail": "high"}
    assert found.state.intermediate_results == {"sum of squares": 5}
    assert found.version == 6


async def test_a_session_that_is_not_there_takes_no_write(store: SessionStore) -> None:
    for writing in (
        store.track_query(uuid4(), price()),
        store.update_context(uuid4(), a=1),
        store.update_preferences(uuid4(), a=1),
        store.store_intermediate_result(uuid4(), "a", 1),
        store.remove_context(uuid4(), "a"),
    ):
        with pytest.raises(SessionNotFoundError):
            await writing


@pytest.mark.parametrize("ended", ["expired", "archived"])
async def test_a_session_that_has_ended_takes_no_write_and_names_the_way_back(
    ended: str, store: SessionStore, session: Session, clock: ManualClock
) -> None:
    if ended == "archived":
        await store.archive_session(session.id)
    clock.advance(timedelta(hours=24))
    before = present(await store.get_session(session.id))

    for writing in (
        store.track_query(session.id, price()),
        store.update_context(session.id, a=1),
        store.update_preferences(session.id, a=1),
        store.store_intermediate_result(session.id, "a", 1),
        store.remove_context(session.id, "a"),
    ):
        with pytest.raises(SessionExpiredError if ended == "expired" else SessionArchivedError, match="extend_session"):
            await writing
    assert await store.get_session(session.id) == before


async def test_the_thousand_and_first_query_is_refused_with_the_counts_and_nothing_changes(
    store: SessionStore, session: Session
) -> None:
    for _ in range(999):
        session.state.history.add_query(price())
    await store.save(session)
    assert (await store.track_query(session.id, price())).position == 1000
    before = present(await store.get_session(session.id))

    with pytest.raises(QueryLimitExceededError, match="holds 1000 queries and 1 more") as caught:
        await store.track_query(session.id, price())

    assert (caught.value.limit, caught.value.count, caught.value.adding) == (1000, 1000, 1)
    assert await store.get_session(session.id) == before


async def test_the_state_limit_holds_for_single_keys(stores: Stores) -> None:
    store = await stores.open(max_state_bytes=64)
    session = await store.create_session(["A"], "equity", context={"a": "x" * 50})

    with pytest.raises(StateLimitExceededError, match="would have 66 bytes; at most 64"):
        await store.update_context(session.id, b="y" * 10)
    await store.update_context(session.id, b="y" * 8)
    await store.update_context(session.id, a=1, b="y" * 50)

    assert present(await store.get_session(session.id)).state.context == {"a": 1, "b": "y" * 50}


async def test_a_state_that_is_too_large_at_once_is_refused(stores: Stores) -> None:
    store = await stores.open(max_state_bytes=64)

    with pytest.raises(ValueTooLargeError, match="the state of the session has 65 bytes; at most 64"):
        await store.create_session(["A"], "equity", context={"a": "x" * 62})
    assert len(await store.list_sessions()) == 0


async def test_bounds_are_those_of_the_issue(store: SessionStore, session: Session) -> None:
    largest = "x" * (256 * 1024 - 2)

    await store.update_context(session.id, k=largest)
    with pytest.raises(ValueTooLargeError, match=r"context\['k'\] has 262,145 bytes; at most 262,144"):
        await store.update_context(session.id, k=largest + "x")
    for number in range(14):
        await store.store_intermediate_result(session.id, f"r{number}", largest)
    with pytest.raises(StateLimitExceededError, match="at most 4,194,304"):
        await store.update_preferences(session.id, one=largest, two=largest)
    with pytest.raises(ValueTooLargeError, match="query of type 'price'"):
        await store.track_query(session.id, price(result_summary=largest))


BAD_VALUES = [
    ({"k": float("nan")}, InvalidValueError, r"context\['k'\]: nan is not JSON"),
    ({"k": [1, {"deep": b""}]}, InvalidValueError, r"context\['k'\]\[1\]\['deep'\]: bytes"),
    ({"k": {1: 2}}, InvalidValueError, r"context\['k'\]\[1\]: keys must be text, not int"),
    ({"k": "\0"}, InvalidValueError, r"context\['k'\]: text with a NUL"),
    ({"k": "\ud800"}, InvalidValueError, r"context\['k'\]: text with a lone surrogate"),
    ({"k": object()}, InvalidValueError, r"context\['k'\]: builtins.object has no JSON form"),
    ({"x" * 257: 1}, ValueTooLargeError, "the key 'xxx"),
    ({"": 1}, InvalidInputError, "a key of context must not be empty"),
    ({"\0": 1}, InvalidInputError, "a key of context must not hold NUL"),
    ({}, InvalidInputError, "name at least one key to set"),
]


@pytest.mark.parametrize(("values", "error", "message"), BAD_VALUES, ids=lambda value: str(value)[:20])
async def test_what_cannot_be_kept_is_named_and_nothing_is_sent(
    values: dict[str, Any], error: type[InvalidInputError], message: str, stores: Stores, session: Session
) -> None:
    store, spy = await stores.spied()

    with pytest.raises(error, match=message):
        await store.update_context(session.id, **values)
    assert spy.calls == []


async def test_a_cycle_is_named(store: SessionStore, session: Session) -> None:
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(InvalidValueError, match=r"intermediate_results\['k'\]\[0\].*a cycle"):
        await store.store_intermediate_result(session.id, "k", loop)


@pytest.mark.parametrize("bad", [None, 5, b"k", "", " ", "\ud800"])
async def test_a_key_must_be_text(bad: Any, stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()

    with pytest.raises(InvalidInputError, match="a key of"):
        await store.store_intermediate_result(session.id, bad, 1)
    with pytest.raises(InvalidInputError, match="a key of"):
        await store.remove_context(session.id, "good", bad)
    with pytest.raises(InvalidInputError, match="at least one key"):
        await store.remove_context(session.id)
    assert spy.calls == []


@pytest.mark.parametrize("bad", [None, "price", {"query_type": "price"}])
async def test_only_a_query_record_is_tracked(bad: Any, stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()

    with pytest.raises(InvalidInputError, match="query must be a QueryRecord"):
        await store.track_query(session.id, bad)
    assert spy.calls == []


async def test_a_query_with_what_cannot_be_kept_is_refused(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()

    with pytest.raises(InvalidValueError, match=r"query\['metadata'\]\['k'\]: inf"):
        await store.track_query(session.id, price(metadata={"k": float("inf")}))
    assert spy.calls == []


async def test_the_encoder_of_the_settings_is_used_everywhere(stores: Stores, session: Session) -> None:
    store = await stores.open(value_encoder=lambda value: f"<{type(value).__name__}>")

    await store.update_context(session.id, k=1j)
    await store.track_query(session.id, price(parameters={"k": 1j}))
    loaded = present(await store.get_session(session.id))
    loaded.state.metadata["k"] = 1j
    loaded.add_query(price(parameters={"k": b"still refused"}))
    with pytest.raises(InvalidValueError, match="bytes"):
        await store.save(loaded)

    assert loaded.state.context == {"k": "<complex>"}
    assert loaded.state.history.queries[0].parameters == {"k": "<complex>"}


async def numbered(store: SessionStore, session: Session, count: int) -> None:
    for number in range(1, count + 1):
        session.state.history.add_query(QueryRecord(query_type=f"q{number}"))
    await store.save(session)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ({}, range(1, 13)),
        ({"limit": 5}, range(1, 6)),
        ({"after": 5, "limit": 5}, range(6, 11)),
        ({"after": 10, "limit": 5}, range(11, 13)),
        ({"after": 12}, []),
        ({"after": 1000}, []),
        ({"before": 8, "limit": 3}, range(5, 8)),
        ({"before": 3, "limit": 5}, range(1, 3)),
        ({"before": 1}, []),
        ({"before": 100, "limit": 2}, range(11, 13)),
        ({"after": 2, "before": 6}, range(3, 6)),
        ({"after": 2, "before": 9, "limit": 2}, range(3, 5)),
        ({"after": 6, "before": 3}, []),
    ],
)
async def test_pages_of_history_go_forward_and_backward(
    page: dict[str, int], expected: Any, store: SessionStore, session: Session
) -> None:
    await numbered(store, session, 12)

    found = await store.get_queries(session.id, **page)

    assert [query.position for query in found] == list(expected)
    assert [query.query_type for query in found] == [f"q{number}" for number in expected]


async def test_a_page_of_history_is_one_call_that_loads_nothing_else(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()

    assert await store.get_queries(session.id) == []
    assert spy.calls == ["queries"]


@pytest.mark.parametrize(
    "page",
    [
        {"after": -1},
        {"after": "1"},
        {"after": 1.5},
        {"before": 0},
        {"before": True},
        {"limit": 0},
        {"limit": 1001},
        {"limit": None},
    ],
)
async def test_a_page_out_of_bounds_is_refused_by_name(page: dict[str, Any], stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()
    (name,) = page

    with pytest.raises(InvalidInputError, match=f"{name} must be a whole number from"):
        await store.get_queries(session.id, **page)
    assert spy.calls == []


async def test_the_history_of_a_session_that_is_not_there_is_an_error(store: SessionStore) -> None:
    with pytest.raises(SessionNotFoundError):
        await store.get_queries(uuid4())


async def test_a_body_that_cannot_be_read_hides_no_other() -> None:
    data = MemoryData()
    backend = MemoryBackend(data)
    await backend.open()
    stored = stored_session()
    await backend.create(stored)
    store = SessionStore(backend, clock=ManualClock())
    for number in range(3):
        await store.track_query(stored.id, QueryRecord(query_type=f"q{number}"))

    data.sessions[stored.id].queries[1] = "{broken"

    assert [query.query_type for query in await store.get_queries(stored.id)] == ["q0", "unreadable", "q2"]
    history = present(await store.get_session(stored.id)).state.history
    assert [query.query_type for query in history.queries] == ["q0", "unreadable", "q2"]


async def test_many_verbs_at_once_lose_nothing(store: SessionStore, session: Session) -> None:
    await asyncio.gather(
        *(store.update_context(session.id, **{f"k{number}": number}) for number in range(20)),
        *(store.track_query(session.id, price()) for _ in range(20)),
        *(store.remove_context(session.id, "never") for _ in range(5)),
    )

    found = present(await store.get_session(session.id))
    assert found.state.context == {f"k{number}": number for number in range(20)}
    assert found.state.history.total_queries == 20
