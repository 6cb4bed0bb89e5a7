"""One writer with one change in flight for each session; what waits is merged, and everybody gets their own answer."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from tests.store.stores import SpyingBackend, Stores, present

from perdure import QueryRecord, Session, SessionStore
from perdure.changes import Applied, SessionChange
from perdure.errors import (
    BackendUnavailableError,
    QueryLimitExceededError,
    SessionExpiredError,
    SessionNotFoundError,
    StateLimitExceededError,
)
from perdure.store import TrackedQuery
from perdure.testing import Fault, ManualClock, Moment


def price(**fields: Any) -> QueryRecord:
    return QueryRecord(query_type="price", **fields)


async def held_up(store: SessionStore, spy: SpyingBackend, session: Session) -> asyncio.Task[TrackedQuery]:
    """A query on its way that does not arrive before the gate opens, so that what comes next has to wait."""
    spy.gate.clear()
    spy.arrived.clear()
    first = asyncio.create_task(store.track_query(session.id, price()))
    await spy.arrived.wait()
    return first


async def started(*calls: Any) -> list[asyncio.Task[Any]]:
    """The calls, begun and waiting, in that order."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_of_fifty_concurrent_queries_none_is_lost_and_each_caller_hears_its_own_position(
    stores: Stores, session: Session
) -> None:
    store, spy = await stores.spied()
    queries = [price(parameters={"number": number}) for number in range(50)]

    spy.gate.clear()
    waiting = await started(*(store.track_query(session.id, query) for query in queries))
    spy.gate.set()
    answers: list[TrackedQuery] = await asyncio.gather(*waiting)

    assert sorted(answer.position for answer in answers) == [*range(1, 51)]
    kept = await store.get_queries(session.id)
    assert [query.position for query in kept] == [*range(1, 51)]
    for query, answer in zip(queries, answers, strict=True):
        assert kept[answer.position - 1] == query.placed(answer.position)
        assert answer.total_queries == answer.position
    assert spy.most_in_flight[session.id] == 1
    assert len(spy.changes) == 2  # the first, and all that waited meanwhile


async def test_fifty_writers_of_five_stores_get_fifty_positions(stores: Stores, session: Session) -> None:
    opened = [await stores.open() for _ in range(5)]

    answers = await asyncio.gather(*(opened[number % 5].track_query(session.id, price()) for number in range(50)))

    assert sorted(answer.position for answer in answers) == [*range(1, 51)]
    assert len(await opened[0].get_queries(session.id)) == 50


async def test_a_session_never_has_two_changes_in_flight_and_others_do_not_wait_for_it(
    stores: Stores, session: Session
) -> None:
    store, spy = await stores.spied()
    other = await store.create_session(["B"], "equity")
    first = await held_up(store, spy, session)
    waiting = await started(
        *(store.track_query(session.id, price()) for _ in range(10)),
        store.archive_session(session.id),
        *(store.update_context(session.id, k=number) for number in range(5)),
        store.track_query(other.id, price()),
    )

    assert len(spy.changes) == 2  # one for each session
    spy.gate.set()
    await asyncio.gather(first, *waiting, return_exceptions=True)

    assert spy.most_in_flight == {session.id: 1, other.id: 1}


async def test_the_numbers_of_changes_grow_and_heads_differ(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()
    second = await store.create_session(["B"], "equity")

    for _ in range(3):
        await asyncio.gather(*(store.track_query(each.id, price()) for each in (session, second) for _ in range(4)))

    numbers = [change.change_id for change in spy.changes]
    assert numbers == sorted(set(numbers))
    assert len({change.head for change in spy.changes} | {session.head, second.head}) == len(spy.changes) + 2
    assert len({change.writer for change in spy.changes}) == 1


async def test_no_two_stores_are_the_same_writer(stores: Stores, session: Session) -> None:
    (one, spy_one), (two, spy_two) = await stores.spied(), await stores.spied()

    await one.track_query(session.id, price())
    await two.track_query(session.id, price())

    assert spy_one.changes[0].writer != spy_two.changes[0].writer


async def test_what_waited_is_one_change_with_the_effect_of_all_in_their_order(
    stores: Stores, session: Session, clock: ManualClock
) -> None:
    store, spy = await stores.spied()
    await store.update_context(session.id, gone=1, back=1, over=1)
    first = await held_up(store, spy, session)
    clock.advance(timedelta(minutes=1))
    waiting = await started(
        store.update_context(session.id, a=1, b=1, late=1),
        store.track_query(session.id, price()),
        store.remove_context(session.id, "gone", "b", "late"),
        store.update_context(session.id, late=2, over=2),
        store.remove_context(session.id, "back"),
        store.update_preferences(session.id, a=3),
        store.track_query(session.id, price()),
        store.update_context(session.id, back=2),
    )
    spy.gate.set()

    answers = await asyncio.gather(first, *waiting)

    assert len(spy.changes) == 3
    assert spy.changes[2].at == clock()
    found = present(await store.get_session(session.id))
    assert found.state.context == {"a": 1, "late": 2, "over": 2, "back": 2}
    assert found.state.preferences == {"a": 3}
    assert [answer.position for answer in answers if isinstance(answer, TrackedQuery)] == [1, 2, 3]
    assert {answer for answer in answers if isinstance(answer, int)} == {found.version}


async def test_where_what_was_merged_is_refused_each_gets_its_own_answer(stores: Stores) -> None:
    store, spy = await stores.spied(session_max_queries_per_session=5)
    session = await store.create_session(["A"], "equity")
    first = await held_up(store, spy, session)
    waiting = await started(
        *(store.track_query(session.id, price()) for _ in range(3)),
        store.update_context(session.id, k=1),
        *(store.track_query(session.id, price()) for _ in range(3)),
        store.update_context(session.id, last=1),
    )
    spy.gate.set()

    outcomes = await asyncio.gather(first, *waiting, return_exceptions=True)

    positions = [outcome.position for outcome in outcomes if isinstance(outcome, TrackedQuery)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, QueryLimitExceededError)]
    assert positions == [1, 2, 3, 4, 5]
    assert [(error.count, error.adding) for error in refused] == [(5, 1), (5, 1)]
    found = present(await store.get_session(session.id))
    assert found.state.history.total_queries == 5
    assert found.state.context == {"k": 1, "last": 1}


async def test_one_value_too_many_does_not_take_those_that_fit_with_it(stores: Stores) -> None:
    store, spy = await stores.spied(max_state_bytes=100)
    session = await store.create_session(["A"], "equity")
    first = await held_up(store, spy, session)
    waiting = await started(
        store.update_context(session.id, a="x" * 40),
        store.update_context(session.id, b="x" * 90),
        store.update_context(session.id, c="x" * 40),
    )
    spy.gate.set()

    outcomes = await asyncio.gather(first, *waiting, return_exceptions=True)

    assert [isinstance(outcome, StateLimitExceededError) for outcome in outcomes] == [False, False, True, False]
    assert present(await store.get_session(session.id)).state.context.keys() == {"a", "c"}


async def test_what_came_in_time_is_kept_though_it_waited_with_what_came_late(
    stores: Stores, session: Session, clock: ManualClock
) -> None:
    store, spy = await stores.spied()
    first = await held_up(store, spy, session)
    in_time = await started(store.track_query(session.id, price()))
    clock.advance(timedelta(hours=24))
    late = await started(store.track_query(session.id, price()))
    spy.gate.set()

    outcomes = await asyncio.gather(first, *in_time, *late, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [TrackedQuery, TrackedQuery, SessionExpiredError]


async def test_cancelling_one_that_waits_cancels_no_other_and_its_change_is_not_made(
    stores: Stores, session: Session
) -> None:
    store, spy = await stores.spied()
    first = await held_up(store, spy, session)
    waiting = await started(*(store.update_context(session.id, **{f"k{number}": number}) for number in range(5)))

    waiting[2].cancel()
    await asyncio.sleep(0)
    spy.gate.set()

    outcomes = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [False] * 3 + [True] + [False] * 2
    assert present(await store.get_session(session.id)).state.context == {"k0": 0, "k1": 1, "k3": 3, "k4": 4}


async def test_cancelling_the_one_on_its_way_cancels_none_that_waits(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()
    first = await held_up(store, spy, session)
    waiting = await started(*(store.track_query(session.id, price()) for _ in range(5)))

    first.cancel()
    await asyncio.sleep(0)
    spy.gate.set()

    outcomes = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [outcome.position for outcome in outcomes[1:] if isinstance(outcome, TrackedQuery)] == [1, 2, 3, 4, 5]


async def test_cancelling_one_of_a_merged_change_on_its_way_cancels_no_other(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()
    first = await held_up(store, spy, session)
    waiting = await started(*(store.track_query(session.id, price()) for _ in range(5)))
    spy.gate.set()
    await first
    spy.gate.clear()
    while len(spy.changes) < 2:
        await asyncio.sleep(0)

    waiting[0].cancel()
    waiting[3].cancel()
    await asyncio.sleep(0)
    spy.gate.set()

    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    positions = [outcome.position for outcome in outcomes if isinstance(outcome, TrackedQuery)]
    assert positions == [3, 4, 6]
    assert len(await store.get_queries(session.id)) == 6


async def test_cancelling_all_that_wait_leaves_the_session_free(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()
    first = await held_up(store, spy, session)
    waiting = await started(*(store.track_query(session.id, price()) for _ in range(3)))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    spy.gate.set()

    assert (await first).position == 1
    assert (await store.track_query(session.id, price())).position == 2


async def test_a_backend_that_fails_fails_everybody_who_waited_and_nobody_after(
    stores: Stores, session: Session
) -> None:
    store, spy = await stores.spied(Fault(2, Moment.BEFORE, "apply"))
    first = await held_up(store, spy, session)
    waiting = await started(*(store.track_query(session.id, price()) for _ in range(3)))
    spy.gate.set()

    outcomes = await asyncio.gather(first, *waiting, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes[1:]] == [BackendUnavailableError] * 3
    assert (await store.track_query(session.id, price())).position == 2


async def test_a_backend_that_is_cancelled_leaves_nobody_waiting(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied(Fault(2, Moment.CANCEL_BEFORE, "apply"))
    first = await held_up(store, spy, session)
    waiting = await started(
        store.track_query(session.id, price()),
        store.archive_session(session.id),
        store.track_query(session.id, price()),
    )
    spy.gate.set()

    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(first, *waiting, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes[1:]] == [asyncio.CancelledError] * 3
    assert (await store.track_query(session.id, price())).position == 2


async def test_a_session_deleted_while_writers_wait_is_said_to_each(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()
    first = await held_up(store, spy, session)
    waiting = await started(*(store.track_query(session.id, price()) for _ in range(3)))
    await store.delete_session(session.id)
    spy.gate.set()

    outcomes = await asyncio.gather(first, *waiting, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [SessionNotFoundError] * 4


async def test_a_merged_change_is_bounded_and_everybody_still_has_a_place(stores: Stores) -> None:
    store, spy = await stores.spied(session_max_queries_per_session=5_000)
    session = await store.create_session(["A"], "equity")

    first = await held_up(store, spy, session)
    waiting = await started(*(store.track_query(session.id, price()) for _ in range(1_200)))
    spy.gate.set()
    answers: list[TrackedQuery] = await asyncio.gather(first, *waiting)

    assert [answer.position for answer in answers] == [*range(1, 1_202)]
    assert [len(change.queries) for change in spy.changes] == [1, 500, 500, 200]


async def test_a_change_with_a_condition_of_its_own_goes_alone(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()
    loaded = present(await store.get_session(session.id))
    loaded.state.context["k"] = 1
    first = await held_up(store, spy, session)
    waiting = await started(
        store.track_query(session.id, price()),
        store.save(loaded),
        store.track_query(session.id, price()),
        store.track_query(session.id, price()),
    )
    spy.gate.set()
    await asyncio.gather(first, *waiting)

    assert [len(change.queries) for change in spy.changes] == [1, 1, 0, 2]


async def test_closing_waits_for_what_is_on_its_way(stores: Stores, session: Session) -> None:
    store, spy = await stores.spied()
    first = await held_up(store, spy, session)
    waiting = await started(*(store.track_query(session.id, price()) for _ in range(3)))
    closing = asyncio.create_task(store.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    spy.gate.set()

    await closing

    assert [(await task).position for task in (first, *waiting)] == [1, 2, 3, 4]
    other = await stores.open()
    assert len(await other.get_queries(session.id)) == 4


async def test_closing_while_nothing_is_on_its_way_is_immediate_and_repeatable(stores: Stores) -> None:
    store = await stores.open()

    await store.aclose()
    await store.aclose()


class Slow(SpyingBackend):
    """Answers late, and lets others in meanwhile: as a network does."""

    async def apply(self, session_id: Any, change: SessionChange) -> Applied:
        applied = await super().apply(session_id, change)
        for _ in range(len(change.queries) % 3):
            await asyncio.sleep(0)
        return applied


async def test_many_sessions_and_verbs_at_once_keep_every_answer_true(stores: Stores) -> None:
    store = await stores.open(Slow(stores.backend()))
    sessions = [await store.create_session(["A"], "equity") for _ in range(5)]

    async def worker(number: int) -> None:
        for step in range(6):
            session = sessions[(number + step) % 5]
            query = price(parameters={"of": [number, step]})
            tracked = await store.track_query(session.id, query)
            (kept,) = await store.get_queries(session.id, after=tracked.position - 1, limit=1)
            assert kept == query.placed(tracked.position)
            await store.update_context(session.id, **{f"{number}.{step}": step})

    await asyncio.gather(*(worker(number) for number in range(10)))

    for session in sessions:
        found = present(await store.get_session(session.id))
        assert found.state.history.total_queries == len(found.state.context) == 12
