"""A save that failed may simply be made again: nothing is written twice, and nothing is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.store.stores import SpyingBackend, Stores, present

from perdure import QueryRecord, Session, SessionStore
from perdure.errors import (
    BackendUnavailableError,
    OutcomeUnknownError,
    PerdureError,
    SessionNotFoundError,
    VersionConflictError,
)
from perdure.testing import START, Fault, ManualClock, Moment

HOUR = timedelta(hours=1)
FAILED = (BackendUnavailableError, asyncio.CancelledError)


def price(**fields: Any) -> QueryRecord:
    return QueryRecord(query_type="price", timestamp=START, **fields)


@pytest.fixture
async def start(store: SessionStore, session: Session) -> Session:
    """What is stored before anything fails: version 2, one query, some keys."""
    session.state.context.update(kept=1, gone=1, deep=[1])
    session.add_query(price())
    return await store.save(session)


def change(session: Session) -> QueryRecord:
    """Something in every part; gives the query that it adds."""
    session.state.context["new"] = 1
    session.state.context["deep"].append(2)
    del session.state.context["gone"]
    session.state.preferences["detail"] = "high"
    session.tags[:] = ["mine"]
    session.assets.append("MSFT")
    session.extend(1)
    query = price()
    session.add_query(query)
    return query


def assert_all_is_there(stored: Session, query: QueryRecord) -> None:
    """What `change` did is stored, once."""
    assert stored.state.context["new"] == 1
    assert stored.state.context["deep"] == [1, 2]
    assert "gone" not in stored.state.context
    assert stored.state.preferences["detail"] == "high"
    assert "tech" not in stored.tags
    assert "mine" in stored.tags
    assert "MSFT" in stored.assets
    assert stored.expires_at == START + 25 * HOUR
    queries = list(stored.state.history.queries)
    assert [kept.id for kept in queries].count(query.id) == 1
    assert [kept.position for kept in queries] == [*range(1, stored.state.history.total_queries + 1)]
    assert len(queries) == stored.state.history.total_queries


Meanwhile = Callable[[SessionStore, SessionStore, Session], Awaitable[Any]]


async def nothing(store: SessionStore, other: SessionStore, session: Session) -> None:
    """Nobody writes."""


async def same_store_tracks(store: SessionStore, other: SessionStore, session: Session) -> None:
    await store.track_query(session.id, price())


async def same_store_sets_a_key(store: SessionStore, other: SessionStore, session: Session) -> None:
    await store.update_context(session.id, theirs=1)


async def other_store_tracks(store: SessionStore, other: SessionStore, session: Session) -> None:
    await other.track_query(session.id, price())


async def other_store_sets_keys(store: SessionStore, other: SessionStore, session: Session) -> None:
    await other.update_context(session.id, theirs=1, kept=2)


async def both_write(store: SessionStore, other: SessionStore, session: Session) -> None:
    await other.track_query(session.id, price())
    await store.update_preferences(session.id, theirs=1)
    await other.update_context(session.id, theirs=1)


async def many_writers(store: SessionStore, other: SessionStore, session: Session) -> None:
    """So many that the session forgets who wrote before them."""
    backend = other._core.backend
    for number in range(33):
        another = SessionStore(backend, settings=other.settings, clock=other._core.clock)
        await another.update_context(session.id, number=number)


MEANWHILE: list[Meanwhile] = [
    nothing,
    same_store_tracks,
    same_store_sets_a_key,
    other_store_tracks,
    other_store_sets_keys,
    both_write,
    many_writers,
]
FAILURES = [(moment, meanwhile) for meanwhile in MEANWHILE for moment in (Moment.BEFORE, Moment.AFTER)]
FAILURES += [(Moment.CANCEL_BEFORE, nothing), (Moment.CANCEL_AFTER, same_store_tracks)]
each_failure = pytest.mark.parametrize(
    ("moment", "meanwhile"), FAILURES, ids=[f"{moment.value}, {meanwhile.__name__}" for moment, meanwhile in FAILURES]
)
each_moment = pytest.mark.parametrize("moment", Moment, ids=lambda moment: str(moment.value))


async def failing_once(store: SessionStore, spy: SpyingBackend, session: Session, moment: Moment, **how: Any) -> None:
    spy.fail(Fault(1, moment, "apply"))
    with pytest.raises(FAILED):
        await store.save(session, **how)
    spy.fail()


@each_failure
@pytest.mark.parametrize("history", [None, 0])
async def test_a_save_made_again_is_complete_and_nothing_is_written_twice(
    moment: Moment, meanwhile: Meanwhile, history: int | None, stores: Stores, start: Session
) -> None:
    (store, spy), other = await stores.spied(), await stores.open()
    session = present(await store.get_session(start.id, history=history))
    query = change(session)
    await failing_once(store, spy, session, moment)
    await meanwhile(store, other, session)

    await store.save(session)
    await store.save(session)

    stored = present(await store.get_session(start.id))
    assert_all_is_there(stored, query)
    if meanwhile is not nothing:
        theirs = {**stored.state.context, **stored.state.preferences}
        assert "theirs" in theirs or "number" in theirs or stored.state.history.total_queries == 3
    # The object is one that was stored: the last one, unless somebody wrote after the change was applied.
    current = present(await store.get_session(start.id, history=len(session.state.history.queries)))
    assert session == current or session.version < current.version
    session.state.context["then"] = 1
    await store.save(session)
    assert session == await store.get_session(start.id, history=len(session.state.history.queries))


@each_moment
async def test_with_a_version_a_save_made_again_is_complete(moment: Moment, stores: Stores, start: Session) -> None:
    store, spy = await stores.spied()
    session = present(await store.get_session(start.id))
    query = change(session)
    version = session.version
    await failing_once(store, spy, session, moment, if_version=version)

    await store.save(session, if_version=version)

    assert_all_is_there(session, query)
    assert session == await store.get_session(start.id)
    assert session.version == version + 1


@each_moment
async def test_with_a_version_a_save_made_again_also_writes_what_was_changed_since(
    moment: Moment, stores: Stores, start: Session
) -> None:
    store, spy = await stores.spied()
    session = present(await store.get_session(start.id))
    query = change(session)
    version = session.version
    await failing_once(store, spy, session, moment, if_version=version)
    session.state.context["late"] = 1
    del session.state.context["new"]

    await store.save(session, if_version=version)

    assert session == await store.get_session(start.id)
    assert (session.state.context.get("late"), "new" in session.state.context) == (1, False)
    assert [kept.id for kept in session.state.history.queries].count(query.id) == 1


@each_failure
async def test_with_a_version_a_save_made_again_succeeds_if_and_only_if_it_had_been_applied(
    moment: Moment, meanwhile: Meanwhile, stores: Stores, start: Session
) -> None:
    (store, spy), other = await stores.spied(), await stores.open()
    session = present(await store.get_session(start.id))
    query = change(session)
    version = session.version
    await failing_once(store, spy, session, moment, if_version=version)
    was_applied = present(await other.get_session(start.id)).version == version + 1
    await meanwhile(store, other, session)
    before = present(await store.get_session(start.id))

    if was_applied or meanwhile is nothing:
        await store.save(session, if_version=version)
        assert_all_is_there(present(await store.get_session(start.id)), query)
    else:
        with pytest.raises(VersionConflictError):
            await store.save(session, if_version=version)
    if was_applied or meanwhile is not nothing:
        assert await store.get_session(start.id) == before


@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AFTER])
@pytest.mark.parametrize("same_store", [True, False])
async def test_with_a_version_a_change_without_queries_never_overwrites_what_came_in_between(
    moment: Moment, same_store: bool, stores: Stores, start: Session
) -> None:
    (store, spy), other = await stores.spied(), await stores.open()
    session = present(await store.get_session(start.id))
    session.state.context["kept"] = "mine"
    version = session.version
    await failing_once(store, spy, session, moment, if_version=version)
    await (store if same_store else other).update_context(start.id, kept="theirs")

    if moment is Moment.AFTER and not same_store:
        await store.save(session, if_version=version)  # it had been applied, and is remembered
    else:
        with pytest.raises(VersionConflictError):
            await store.save(session, if_version=version)
    assert present(await store.get_session(start.id)).state.context["kept"] == "theirs"


async def test_a_version_given_only_the_second_time_counts(stores: Stores, start: Session) -> None:
    (store, spy), other = await stores.spied(), await stores.open()
    session = present(await store.get_session(start.id))
    session.state.context["kept"] = "mine"
    await failing_once(store, spy, session, Moment.BEFORE)
    await other.update_context(start.id, kept="theirs")

    with pytest.raises(VersionConflictError):
        await store.save(session, if_version=session.version)
    assert present(await store.get_session(start.id)).state.context["kept"] == "theirs"
    await store.save(session)
    assert present(await store.get_session(start.id)).state.context["kept"] == "mine"


async def test_a_version_given_only_the_first_time_does_not_count_the_second(stores: Stores, start: Session) -> None:
    (store, spy), other = await stores.spied(), await stores.open()
    session = present(await store.get_session(start.id))
    query = change(session)
    await failing_once(store, spy, session, Moment.BEFORE, if_version=session.version)
    await other.track_query(start.id, price())

    await store.save(session)

    assert_all_is_there(session, query)
    assert session == await store.get_session(start.id)


@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AFTER])
@pytest.mark.parametrize("with_query", [True, False])
async def test_what_was_taken_back_before_a_forgotten_save_is_made_again_stays_taken_back(
    moment: Moment, with_query: bool, stores: Stores, start: Session
) -> None:
    store, spy = await stores.spied()
    session = present(await store.get_session(start.id))
    session.state.context["new"] = 1
    session.state.context["kept"] = 2
    del session.state.context["gone"]
    session.tags[:] = ["mine"]
    session.assets.append("MSFT")
    if with_query:
        session.add_query(price())
    await failing_once(store, spy, session, moment)
    await store.track_query(start.id, price())  # so that the session remembers another change of this store

    del session.state.context["new"]
    session.state.context["kept"] = 1
    session.state.context["gone"] = 1
    session.tags[:] = ["tech"]
    session.assets.remove("MSFT")
    await store.save(session)

    assert session.state.context == {"kept": 1, "gone": 1, "deep": [1]}
    assert (session.tags, session.assets) == (["tech"], ["AAPL", "GOOGL"])
    assert session.state.history.total_queries == 2 + with_query
    assert session == await store.get_session(start.id)


async def test_what_others_wrote_after_a_forgotten_save_is_not_written_over(stores: Stores, start: Session) -> None:
    (store, spy), other = await stores.spied(), await stores.open()
    session = present(await store.get_session(start.id))
    query = change(session)
    await failing_once(store, spy, session, Moment.AFTER)
    await store.track_query(start.id, price())
    await other.update_context(start.id, new="theirs")

    await store.save(session)

    assert session.state.context["new"] == "theirs"
    assert [kept.id for kept in session.state.history.queries].count(query.id) == 1
    assert session == await store.get_session(start.id)


@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AFTER, Moment.CANCEL_BEFORE])
async def test_a_save_whose_last_reading_failed_brings_the_object_up_to_date_when_made_again(
    moment: Moment, stores: Stores, start: Session
) -> None:
    (store, spy), other = await stores.spied(), await stores.open()
    session = present(await store.get_session(start.id))
    query = change(session)
    theirs = price()
    await other.track_query(start.id, theirs)
    await other.update_context(start.id, kept="theirs")
    version = session.version
    spy.fail(Fault(1, moment, "read"))
    with pytest.raises(FAILED):
        await store.save(session)
    spy.fail()
    assert session.version == version  # so that it cannot pass for one that has what others wrote

    await store.save(session)

    assert len(spy.changes) == 1
    assert_all_is_there(session, query)
    assert [kept.id for kept in session.state.history.queries][1:] == [theirs.id, query.id]
    assert session.state.context["kept"] == "theirs"
    assert session == await store.get_session(start.id)


async def test_an_object_that_missed_what_others_wrote_conflicts_with_their_version(
    stores: Stores, start: Session
) -> None:
    (store, spy), other = await stores.spied(), await stores.open()
    session = present(await store.get_session(start.id))
    session.state.context["new"] = 1
    await other.update_context(start.id, kept="theirs")
    spy.fail(Fault(1, Moment.BEFORE, "read"))
    with pytest.raises(BackendUnavailableError):
        await store.save(session)
    spy.fail()
    session.state.context["kept"] = "mine"

    with pytest.raises(VersionConflictError):
        await store.save(session, if_version=session.version)
    assert present(await store.get_session(start.id)).state.context["kept"] == "theirs"


@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=lambda meanwhile: str(meanwhile.__name__))
async def test_a_save_may_fail_at_every_call_in_turn_and_still_be_complete_in_the_end(
    meanwhile: Meanwhile, stores: Stores, start: Session
) -> None:
    (store, spy), other = await stores.spied(), await stores.open()
    moments = [Moment.BEFORE, Moment.AFTER, Moment.CANCEL_AFTER]
    for number, moment in [(number, moment) for number in range(1, 4) for moment in moments]:
        session = present(await store.get_session(start.id))
        session.state.context["kept"] = f"{number} {moment}"
        query = price()
        session.add_query(query)
        spy.fail(Fault(1, moment), Fault(1 + number, moment))
        failures = 0
        while True:
            try:
                await store.save(session)
                break
            except FAILED:
                failures += 1
                if failures == 1:
                    await _undisturbed(spy, meanwhile, store, other, session)
        spy.fail()

        stored = present(await store.get_session(start.id))
        assert [kept.id for kept in stored.state.history.queries].count(query.id) == 1
        assert stored.state.context["kept"] in (f"{number} {moment}", 2)
        assert len(session.state.history.queries.new) == 0


async def _undisturbed(
    spy: SpyingBackend, meanwhile: Meanwhile, store: SessionStore, other: SessionStore, session: Session
) -> None:
    faults, calls = spy.faults, list(spy.calls)
    spy.faults = []
    await meanwhile(store, other, session)
    spy.faults, spy.calls = faults, calls


async def test_a_save_that_was_refused_is_made_anew(stores: Stores, start: Session, clock: ManualClock) -> None:
    store, spy = await stores.spied()
    session = present(await store.get_session(start.id))
    session.add_query(price())
    await failing_once(store, spy, session, Moment.BEFORE)
    clock.advance(30 * HOUR)
    await store.extend_session(start.id, 1)
    session.state.context["late"] = 1

    await store.save(session)

    assert session == await store.get_session(start.id)
    assert (session.state.history.total_queries, session.state.context["late"]) == (2, 1)


async def test_a_save_of_a_session_deleted_meanwhile_says_so(stores: Stores, start: Session) -> None:
    store, spy = await stores.spied()
    for forgotten in (False, True):
        session = await store.create_session(["A"], "equity")
        session.add_query(price())
        await failing_once(store, spy, session, Moment.AFTER)
        if forgotten:
            await store.track_query(session.id, price())
        await store.delete_session(session.id)

        for _ in range(2):
            with pytest.raises(SessionNotFoundError):
                await store.save(session)


async def test_a_session_deleted_between_a_forgotten_save_and_its_reading_is_not_found(
    stores: Stores, start: Session
) -> None:
    store, spy = await stores.spied()
    session = present(await store.get_session(start.id))
    session.add_query(price())
    await failing_once(store, spy, session, Moment.AFTER)
    await store.track_query(start.id, price())
    spy.gate.clear()
    spy.arrived.clear()
    saving = asyncio.create_task(store.save(session))
    await spy.arrived.wait()
    read, spy.inner.read = spy.inner.read, _absent  # type: ignore[method-assign]
    spy.gate.set()

    with pytest.raises(SessionNotFoundError):
        await saving
    spy.inner.read = read  # type: ignore[method-assign]
    await store.save(session)
    assert session.state.history.total_queries == 3


async def _absent(session_id: Any, *, history: int | None = None) -> None:
    return None


async def test_a_session_deleted_right_after_its_save_is_not_found(stores: Stores, start: Session) -> None:
    (store, spy), other = await stores.spied(), await stores.open()
    session = present(await store.get_session(start.id))
    session.state.context["new"] = 1
    await other.update_context(start.id, kept=2)
    spy.inner.read = _absent  # type: ignore[method-assign]

    with pytest.raises(SessionNotFoundError):
        await store.save(session)


async def test_a_save_that_is_cancelled_before_it_was_sent_is_never_sent(stores: Stores, start: Session) -> None:
    store, spy = await stores.spied()
    session = present(await store.get_session(start.id))
    query = price()
    session.add_query(query)
    spy.gate.clear()
    busy = asyncio.create_task(store.update_context(start.id, k=1))
    await spy.arrived.wait()
    waiting = asyncio.create_task(store.save(session))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    spy.gate.set()
    await busy
    await store.save(session)

    assert [kept.id for kept in session.state.history.queries].count(query.id) == 1
    assert session == await store.get_session(start.id)
    assert len(spy.changes) == 2


@pytest.mark.parametrize("behind", [True, False])
async def test_a_save_that_is_cancelled_while_on_its_way_is_complete_when_made_again(
    behind: bool, stores: Stores, start: Session
) -> None:
    store, spy = await stores.spied()
    session = present(await store.get_session(start.id))
    query = change(session)
    spy.gate.clear()
    before: asyncio.Task[int] | None = None
    if behind:  # sent by a task of its own, after what was before it
        before = asyncio.create_task(store.update_context(start.id, k=1))
        await spy.arrived.wait()
    saving = asyncio.create_task(store.save(session))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if behind:
        spy.gate.set()
        await asyncio.sleep(0)
        spy.gate.clear()
        while len(spy.changes) < 2:
            await asyncio.sleep(0)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    spy.gate.set()
    if before is not None:
        await before

    await store.save(session)

    assert_all_is_there(present(await store.get_session(start.id)), query)
    assert session == await store.get_session(start.id)


async def test_a_first_attempt_of_unknown_outcome_is_settled_by_reading(stores: Stores, start: Session) -> None:
    class Overtaken(SpyingBackend):
        """The change is applied, and another of the same writer before the answer: what a lost connection can do."""

        async def apply(self, session_id: Any, change: Any) -> Any:
            applied = await super().apply(session_id, change)
            if len(self.changes) == 1:
                raise OutcomeUnknownError(session_id)
            return applied

    spy = Overtaken(stores.backend())
    store = await stores.open(spy)
    session = present(await store.get_session(start.id))
    query = change(session)
    with pytest.raises(OutcomeUnknownError):
        await store.save(session)

    await store.save(session)

    assert_all_is_there(session, query)
    assert session == await store.get_session(start.id)


async def test_every_error_of_a_save_is_one_of_perdures(stores: Stores, start: Session) -> None:
    store, _ = await stores.spied(Fault(1, Moment.BEFORE, "apply"))
    start.state.context["k"] = 1

    with pytest.raises(PerdureError):
        await store.save(start)
