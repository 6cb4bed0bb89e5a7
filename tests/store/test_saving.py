"""Load, change, save: only what changed is written, merged with what others wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

import pytest
from tests.store.stores import Stores, present

from perdure import QueryRecord, Session, SessionStore
from perdure.errors import (
    InvalidInputError,
    InvalidTTLError,
    QueryLimitExceededError,
    SessionArchivedError,
    SessionExpiredError,
    SessionNotFoundError,
    StateLimitExceededError,
    ValueTooLargeError,
    VersionConflictError,
)
from perdure.testing import START, ManualClock

HOUR = timedelta(hours=1)


def price(**fields: Any) -> QueryRecord:
    return QueryRecord(query_type="price", timestamp=START, **fields)


@pytest.fixture
async def full(store: SessionStore, session: Session) -> Session:
    """A session with something in every part of it."""
    session.state.context.update(kept={"deep": [1, {"deeper": 2}]}, gone=1)
    session.state.preferences["detail"] = "high"
    session.state.intermediate_results["sum"] = [1.5]
    session.state.metadata["source"] = "desk"
    for _ in range(3):
        session.add_query(price())
    await store.save(session)
    return present(await store.get_session(session.id))


async def test_a_session_that_was_not_changed_is_not_written(stores: Stores, full: Session) -> None:
    store, spy = await stores.spied()
    session = present(await store.get_session(full.id))
    assert session.state.context["kept"] == {"deep": [1, {"deeper": 2}]}
    spy.forget()

    assert await store.save(session) is session

    assert spy.calls == []


async def test_only_the_difference_is_written(stores: Stores, full: Session) -> None:
    store, spy = await stores.spied()
    session = present(await store.get_session(full.id))
    session.state.context["kept"]["deep"][1]["deeper"] = 3
    del session.state.context["gone"]
    session.state.metadata["added"] = None
    session.tags.append("new")
    session.tags.remove("tech")
    session.assets = ["MSFT", "AAPL"]
    session.expires_at += HOUR
    query = price(parameters={"symbol": "MSFT"})
    session.add_query(query)
    spy.forget()

    await store.update_session(session.id, session)

    (change,) = spy.changes
    assert spy.calls == ["apply"]
    assert change.set_entries == {"context": {"kept": '{"deep":[1,{"deeper":3}]}'}, "metadata": {"added": "null"}}
    assert change.unset_entries == {"context": ("gone",)}
    assert (change.add_tags, change.remove_tags) == (("new",), ("tech",))
    assert (change.add_assets, change.remove_assets) == (("MSFT",), ("GOOGL",))
    assert [stored.id for stored in change.queries] == [query.id]
    assert change.expires_at == START + 25 * HOUR
    assert (change.if_version, change.archive) == (None, False)


CHANGES: dict[str, Callable[[Session], Any]] = {
    "deep in a value": lambda s: s.state.context["kept"]["deep"].append(1),
    "set a key": lambda s: s.state.update_context("k", {"v": None}),
    "remove a key": lambda s: s.state.context.pop("gone"),
    "remove all keys": lambda s: s.state.context.clear(),
    "replace a section": lambda s: setattr(s.state, "context", {"other": 1}),
    "a preference": lambda s: s.state.preferences.update(detail="low"),
    "a result": lambda s: s.state.store_intermediate_result("sum", []),
    "metadata": lambda s: s.state.metadata.pop("source"),
    "a query": lambda s: s.add_query(price(cache_hit=True, error="down", metadata={"m": [1]})),
    "three queries": lambda s: list(map(s.add_query, [price(), price(), price()])),
    "a tag": lambda s: s.tags.append("é"),
    "no tags": lambda s: setattr(s, "tags", []),
    "an asset in front": lambda s: s.assets.insert(0, "ZZZ"),
    "other assets": lambda s: setattr(s, "assets", ["B", "A"]),
    "a later expiry": lambda s: s.extend(1.5),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("history", [None, 0])
async def test_after_a_save_the_object_is_what_is_stored(
    change: Callable[[Session], Any],
    history: int | None,
    store: SessionStore,
    full: Session,
    clock: ManualClock,
) -> None:
    session = present(await store.get_session(full.id, history=history))
    clock.advance(HOUR)
    change(session)
    total = session.state.history.total_queries

    await store.save(session)

    assert session.version == full.version + 1
    assert session.state.history.total_queries == total
    assert session == await store.get_session(full.id, history=len(session.state.history.queries))
    await store.save(session)
    assert session.version == full.version + 1


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("history", [None, 1])
async def test_after_a_save_the_object_also_has_what_others_wrote_in_between(
    change: Callable[[Session], Any], history: int | None, stores: Stores, full: Session, clock: ManualClock
) -> None:
    store, other = await stores.open(), await stores.open()
    session = present(await store.get_session(full.id, history=history))
    session.state.context.get("kept")
    theirs = present(await other.get_session(full.id))
    theirs.state.preferences["theirs"] = True
    theirs.state.intermediate_results.clear()
    theirs.tags.append("theirs")
    theirs.add_query(price(cache_hit=True))
    clock.advance(HOUR)
    theirs.touch()
    await other.save(theirs)
    change(session)

    await store.save(session)

    fresh = present(await store.get_session(full.id))
    loaded = len(session.state.history.queries)
    assert session == await store.get_session(full.id, history=loaded)
    assert fresh.state.preferences["theirs"] is True
    assert "theirs" in fresh.tags or session.tags == fresh.tags
    assert fresh.version == full.version + 2
    assert [query.position for query in fresh.state.history.queries] == [
        *range(1, fresh.state.history.total_queries + 1)
    ]


async def test_two_who_changed_different_keys_both_win(store: SessionStore, session: Session) -> None:
    one, two = present(await store.get_session(session.id)), present(await store.get_session(session.id))
    one.state.context["one"] = 1
    two.state.context["two"] = 2
    one.tags.append("one")
    two.tags.append("two")

    await store.save(one)
    await store.save(two)

    assert two.state.context == {"one": 1, "two": 2}
    assert two.tags == ["tech", "one", "two"]
    assert two == await store.get_session(session.id)


async def test_the_same_key_goes_to_the_last_writer(store: SessionStore, session: Session) -> None:
    one, two = present(await store.get_session(session.id)), present(await store.get_session(session.id))
    one.state.context["k"] = 1
    two.state.context["k"] = 2

    await store.save(two)
    await store.save(one)

    assert present(await store.get_session(session.id)).state.context == {"k": 1}


async def test_with_a_version_the_second_writer_conflicts_and_changes_nothing(
    store: SessionStore, session: Session
) -> None:
    one, two = present(await store.get_session(session.id)), present(await store.get_session(session.id))
    one.state.context["k"] = 1
    two.state.context["k"] = 2
    two.add_query(price())
    await store.save(one, if_version=one.version)

    with pytest.raises(VersionConflictError, match="is at version 2, not 1") as caught:
        await store.update_session(two.id, two, if_version=two.version)

    assert (caught.value.expected, caught.value.found) == (1, 2)
    assert await store.get_session(session.id) == one
    assert two.state.context == {"k": 2}  # and what was not saved is still in hand
    assert len(two.state.history.queries.new) == 1
    await store.save(two)
    assert present(await store.get_session(session.id)).state.context == {"k": 2}


async def test_a_version_is_checked_even_where_nothing_was_changed(store: SessionStore, session: Session) -> None:
    stale = present(await store.get_session(session.id))
    await store.update_context(session.id, k=1)

    with pytest.raises(VersionConflictError):
        await store.save(stale, if_version=stale.version)
    fresh = present(await store.get_session(session.id))
    await store.save(fresh, if_version=fresh.version)


async def test_a_partly_loaded_session_takes_new_queries_at_their_true_positions(
    store: SessionStore, full: Session
) -> None:
    session = present(await store.get_session(full.id, history=1))

    session.add_query(price())
    await store.save(session)
    session.add_query(price())

    assert [query.position for query in session.state.history.queries] == [3, 4, None]
    assert session.state.history.total_queries == 5


async def test_what_is_changed_while_a_save_is_on_its_way_is_not_lost(stores: Stores, full: Session) -> None:
    store, spy = await stores.spied()
    session = present(await store.get_session(full.id))
    session.state.context["kept"]["deep"].append("first")
    session.state.context["new"] = 1
    session.add_query(price())
    session.tags.append("first")
    spy.gate.clear()
    saving = asyncio.create_task(store.save(session))
    await spy.arrived.wait()

    session.state.context["kept"]["deep"].append("second")
    del session.state.context["new"], session.state.context["gone"]
    session.state.preferences["late"] = True
    session.add_query(price())
    session.tags.extend(["second"])
    session.assets.remove("AAPL")
    session.extend(1)
    spy.gate.set()
    await saving
    as_wished = session.to_dict()

    between = present(await store.get_session(full.id))
    assert (between.state.context["kept"]["deep"][-1], between.state.context["new"]) == ("first", 1)
    assert (between.tags, between.state.history.total_queries) == (["tech", "first"], 4)
    await store.save(session)
    stored = present(await store.get_session(full.id))
    assert stored == session
    wished = Session.from_dict(as_wished)
    assert stored.state.context == wished.state.context == {"kept": {"deep": [1, {"deeper": 2}, "first", "second"]}}
    assert (stored.tags, stored.assets, stored.expires_at) == (wished.tags, wished.assets, wished.expires_at)
    assert stored.state.history.total_queries == 5


async def test_what_is_changed_while_a_save_meets_others_is_not_lost(stores: Stores, full: Session) -> None:
    store, spy = await stores.spied()
    other = await stores.open()
    session = present(await store.get_session(full.id))
    session.state.context["first"] = 1
    spy.gate.clear()
    saving = asyncio.create_task(store.save(session))
    await spy.arrived.wait()

    session.state.context["second"] = 2
    session.state.context["bad"] = b"not to be kept"
    session.add_query(price())
    session.extend(2)
    await other.update_context(full.id, theirs=3)
    spy.gate.set()
    await saving

    assert session.state.context["theirs"] == 3
    assert session.version == full.version + 2
    with pytest.raises(InvalidInputError, match=r"context\['bad'\]: bytes"):
        await store.save(session)
    del session.state.context["bad"]
    await store.save(session)
    assert session.state.context == {**full.state.context, "first": 1, "second": 2, "theirs": 3}
    assert session == await store.get_session(full.id)
    assert session.expires_at == START + 26 * HOUR


async def test_saving_one_object_twice_at_once_writes_what_is_new_in_it_once(stores: Stores, full: Session) -> None:
    store, spy = await stores.spied()
    session = present(await store.get_session(full.id))
    session.add_query(price())
    session.state.context["k"] = 1

    await asyncio.gather(*(store.save(session) for _ in range(5)))

    assert len(spy.changes) == 1
    assert session == await store.get_session(full.id)
    assert session.state.history.total_queries == 4


async def test_a_session_from_a_dict_is_saved_as_if_it_had_been_loaded_like_that(stores: Stores, full: Session) -> None:
    store, spy = await stores.spied()
    session = Session.from_dict(full.to_dict())
    await store.save(session)
    assert spy.calls == []
    session.state.context["kept"]["deep"][0] = 2
    session.state.history.add_query(price())

    await store.save(session)

    assert spy.changes[0].set_entries == {"context": {"kept": '{"deep":[2,{"deeper":2}]}'}}
    assert len(spy.changes[0].queries) == 1
    assert session == await store.get_session(full.id)


async def test_queries_without_position_in_a_dict_are_saved(store: SessionStore, full: Session) -> None:
    full.add_query(price())
    session = Session.from_dict(full.to_dict())

    await store.save(session)

    assert session.state.history.total_queries == 4
    assert session == await store.get_session(full.id)


async def test_a_session_is_saved_under_its_own_id_only(store: SessionStore, session: Session) -> None:
    session.state.context["k"] = 1
    other = await store.create_session(["B"], "equity")

    for wrong in (other.id, str(uuid4())):
        with pytest.raises(InvalidInputError, match=f"session {session.id} cannot be saved as {wrong}"):
            await store.update_session(wrong, session)
    assert present(await store.get_session(other.id)).state.context == {}
    await store.update_session(str(session.id), session)


async def test_an_expiry_is_moved_later_only(store: SessionStore, session: Session) -> None:
    session.expires_at -= HOUR

    with pytest.raises(InvalidInputError, match="an expiry can only be moved later"):
        await store.save(session)
    assert present(await store.get_session(session.id)).expires_at == START + 24 * HOUR


async def test_an_expiry_is_moved_within_the_maximum_only(store: SessionStore, session: Session) -> None:
    session.expires_at = START + 169 * HOUR

    with pytest.raises(InvalidTTLError, match="at most 168 hours from now; 169 hours were asked for"):
        await store.save(session)
    assert present(await store.get_session(session.id)).expires_at == START + 24 * HOUR


async def test_of_two_later_expiries_the_latest_stands(store: SessionStore, session: Session) -> None:
    one, two = present(await store.get_session(session.id)), present(await store.get_session(session.id))
    one.extend(10)
    two.extend(2)

    await store.save(one)
    await store.save(two)

    assert two.expires_at == START + 34 * HOUR
    assert two == await store.get_session(session.id)


BAD_CHANGES: dict[str, tuple[Callable[[Session], Any], type[InvalidInputError], str]] = {
    "no assets": (lambda s: s.assets.clear(), InvalidInputError, "assets must not be empty"),
    "an asset that is no text": (
        lambda s: s.assets.extend(cast("list[str]", [5])),
        InvalidInputError,
        "each of assets must be text",
    ),
    "an empty tag": (lambda s: s.tags.append(""), InvalidInputError, "each of tags must not be empty"),
    "bytes": (lambda s: s.state.context.update(k=b""), InvalidInputError, r"context\['k'\]: bytes"),
    "a deep NaN": (
        lambda s: s.state.metadata.update(k=[{"d": float("nan")}]),
        InvalidInputError,
        r"metadata\['k'\]\[0\]\['d'\]: nan",
    ),
    "a large value": (lambda s: s.state.preferences.update(k="x" * 10_000), ValueTooLargeError, r"preferences\['k'\]"),
    "a long key": (lambda s: s.state.context.update({"k" * 300: 1}), ValueTooLargeError, "the key 'kkk"),
    "an empty key": (lambda s: s.state.context.update({"": 1}), InvalidInputError, "a key of context must not be"),
    "a large query": (lambda s: s.add_query(price(result_summary="x" * 10_000)), ValueTooLargeError, "query of type"),
    "a bad query": (lambda s: s.add_query(price(parameters={"k": {1: 2}})), InvalidInputError, "keys must be text"),
}


@pytest.mark.parametrize(("change", "error", "message"), BAD_CHANGES.values(), ids=BAD_CHANGES.keys())
async def test_what_cannot_be_kept_is_named_and_nothing_is_sent(
    change: Callable[[Session], Any], error: type[InvalidInputError], message: str, stores: Stores, session: Session
) -> None:
    store, spy = await stores.spied(max_value_bytes=10_000)
    loaded = present(await store.get_session(session.id))
    spy.forget()
    loaded.state.context["good"] = 1
    change(loaded)

    with pytest.raises(error, match=message):
        await store.save(loaded)
    assert spy.calls == []
    assert await store.get_session(session.id) == session


async def test_a_session_that_is_gone_expired_or_archived_takes_no_save(
    store: SessionStore, session: Session, clock: ManualClock
) -> None:
    deleted, archived = [await store.create_session(["B"], "equity") for _ in range(2)]
    for each in (session, deleted, archived):
        each.state.context["k"] = 1
    await store.delete_session(deleted.id)
    await store.archive_session(archived.id)
    clock.advance(24 * HOUR)

    with pytest.raises(SessionNotFoundError, match=f"no session {deleted.id}"):
        await store.save(deleted)
    with pytest.raises(SessionArchivedError, match="extend_session"):
        await store.save(archived)
    with pytest.raises(SessionExpiredError, match="extend_session"):
        await store.save(session)
    assert present(await store.get_session(session.id)).state.context == {}


async def test_extending_in_hand_revives_an_expired_and_restores_an_archived_session(
    store: SessionStore, session: Session, clock: ManualClock
) -> None:
    archived = await store.create_session(["B"], "equity")
    await store.archive_session(archived.id)
    clock.advance(25 * HOUR)

    for session_id in (session.id, archived.id):
        loaded = present(await store.get_session(session_id))
        loaded.extend(1)
        loaded.add_query(price())
        await store.save(loaded)

        assert not loaded.is_archived
        assert loaded.expires_at == START + 26 * HOUR
        assert loaded == await store.get_session(session_id)


async def test_the_query_limit_holds_for_saves_with_the_counts_and_nothing_changes(stores: Stores) -> None:
    store = await stores.open(session_max_queries_per_session=3)
    session = await store.create_session(["A"], "equity")
    other = present(await store.get_session(session.id))
    for _ in range(2):
        session.add_query(price())
        other.add_query(price())
    other.state.context["k"] = 1
    await store.save(session)

    with pytest.raises(QueryLimitExceededError, match="holds 2 queries and 2 more would pass the limit of 3") as caught:
        await store.save(other)

    assert (caught.value.count, caught.value.adding, caught.value.limit) == (2, 2, 3)
    assert await store.get_session(session.id) == session


async def test_the_state_limit_holds_with_both_sizes_and_nothing_changes(stores: Stores) -> None:
    store = await stores.open(max_state_bytes=100)
    session = await store.create_session(["A"], "equity", context={"a": "x" * 50})
    session.state.context["b"] = "y" * 44  # 1 + 52 and 1 + 46 bytes: exactly as many as fit
    await store.save(session)
    session.state.context["c"] = 1

    with pytest.raises(StateLimitExceededError, match="would have 102 bytes; at most 100") as caught:
        await store.save(session)

    assert (caught.value.size_bytes, caught.value.limit_bytes) == (102, 100)
    assert "c" not in present(await store.get_session(session.id)).state.context
    del session.state.context["b"]
    await store.save(session)
    assert session.state.context == {"a": "x" * 50, "c": 1}
