"""One change: told from a repeat, checked in a fixed order, and what it does to a session's facts."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import combinations
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from perdure.changes import (
    REMEMBERED_WRITERS,
    Applied,
    SessionChange,
    advance,
    check,
    count_queries,
    entry_bytes,
    recall,
    relabelled,
)
from perdure.errors import (
    OutcomeUnknownError,
    QueryLimitExceededError,
    SessionArchivedError,
    SessionError,
    SessionExpiredError,
    SessionNotFoundError,
    StateLimitExceededError,
    VersionConflictError,
)
from perdure.models import StoredSession
from perdure.testing import START, ChangeMaker, stored_query, stored_session

HOUR = timedelta(hours=1)
LATER = START + 2 * HOUR


def applied(session: StoredSession, change: SessionChange) -> Applied:
    """Apply a change to the facts, as a backend does."""
    before = recall(session, change)
    if before is not None:
        return before
    check(session, change, freed_bytes=0)
    return advance(session, change, freed_bytes=0)


# Repeats -------------------------------------------------------------------------------------------


def test_a_repeat_gets_the_answer_that_the_first_attempt_got() -> None:
    session, make = stored_session(), ChangeMaker()
    change = make.query()
    first = applied(session, change)
    for _ in range(5):
        applied(session, ChangeMaker().query())

    assert recall(session, change.repeated()) == first == Applied(2, 1)
    assert recall(session, change) == first  # however it calls itself


def test_the_next_change_of_a_writer_is_new() -> None:
    session, make = stored_session(), ChangeMaker()
    applied(session, make.query())
    change = make.query()
    assert recall(session, change) is None
    assert recall(session, change.repeated()) is None  # the first attempt never came: its writer's last one is older


def test_a_repeat_of_what_its_writer_has_written_after_cannot_be_told() -> None:
    session, make = stored_session(), ChangeMaker()
    change = make.query()
    applied(session, change)
    applied(session, make.query())
    with pytest.raises(OutcomeUnknownError) as caught:
        recall(session, change.repeated())
    assert caught.value.session_id == session.id


def test_a_session_remembers_the_last_thirty_two_writers_and_no_more() -> None:
    session = stored_session()
    change = ChangeMaker().query()
    first = applied(session, change)
    for _ in range(REMEMBERED_WRITERS - 1):
        applied(session, ChangeMaker().query())

    assert REMEMBERED_WRITERS == 32
    assert recall(session, change.repeated()) == first
    applied(session, ChangeMaker().query())
    with pytest.raises(OutcomeUnknownError):
        recall(session, change.repeated())
    assert recall(session, change) is None  # a first attempt is no repeat
    assert len(session.writers) == REMEMBERED_WRITERS * 40


def test_a_repeat_of_what_never_came_is_new_while_every_writer_is_remembered() -> None:
    session = stored_session()
    for _ in range(REMEMBERED_WRITERS - 1):
        applied(session, ChangeMaker().query())
    assert recall(session, ChangeMaker().query().repeated()) is None


def test_a_busy_writer_takes_one_place_and_stays_remembered() -> None:
    session, quiet, busy = stored_session(), ChangeMaker(), ChangeMaker()
    change = quiet.query()
    first = applied(session, change)
    for _ in range(100):
        applied(session, busy.query())
    last = busy.query()
    answer = applied(session, last)
    assert recall(session, change.repeated()) == first
    assert recall(session, last.repeated()) == answer
    assert len(session.writers) == 2 * 40


def test_a_repeat_is_the_same_change_but_for_the_number_of_the_attempt() -> None:
    change = ChangeMaker().query(add_tags=("a",))
    again = change.repeated().repeated()
    assert (again.attempt, again.queries, again.add_tags) == (3, change.queries, ("a",))


def test_what_a_backend_sends_again_is_told_from_what_its_caller_repeats() -> None:
    change = ChangeMaker().query()
    attempts = [change, change.repeated(), change.repeated().repeated()]
    heads = [each.head for attempt in attempts for each in (attempt, attempt.resent(), attempt.resent().resent())]
    assert len(set(heads)) == 9
    assert all(change.made(head) for head in heads)
    assert not change.is_repeat
    assert change.resent().is_repeat
    assert change.repeated().is_repeat


def test_each_attempt_has_a_head_of_its_own_and_the_change_knows_them_all() -> None:
    maker = ChangeMaker()
    first, second = [maker.query() for _ in range(10)][:2]
    tenth = maker.query()
    again = first.repeated()
    assert len({first.head, again.head, again.repeated().head, second.head}) == 4
    assert all(one.made(other.head) for one in (first, again) for other in (first, again))
    assert not any(first.made(other.head) for other in (second, second.repeated(), tenth))


# Order of checks -----------------------------------------------------------------------------------

# What speaks against a change: how the session comes to be so, what the change says, and the error. In order.
Refusal = tuple[dict[str, Any], dict[str, Any], type[SessionError]]
REFUSALS: list[Refusal] = [
    ({"user_id": "ann"}, {"owner": "bob"}, SessionNotFoundError),
    ({"archived_at": START}, {}, SessionArchivedError),
    ({"expires_at": START}, {}, SessionExpiredError),
    ({"version": 4}, {"if_version": 3}, VersionConflictError),
    ({}, {"queries": (stored_query(), stored_query()), "max_queries": 1}, QueryLimitExceededError),
    ({}, {"set_entries": {"context": {"key": '"value"'}}, "max_state_bytes": 9}, StateLimitExceededError),
]


@pytest.mark.parametrize(("facts", "content", "error"), REFUSALS, ids=[error.__name__ for *_, error in REFUSALS])
def test_each_reason_alone_refuses_and_changes_nothing(
    facts: dict[str, Any], content: dict[str, Any], error: type[SessionError]
) -> None:
    session = stored_session(**facts)
    untouched = session.copy()
    with pytest.raises(error):
        applied(session, ChangeMaker().change(**content))
    assert session == untouched


@pytest.mark.parametrize(("first", "second"), list(combinations(REFUSALS, 2)), ids=lambda refusal: refusal[2].__name__)
def test_of_two_reasons_the_earlier_one_is_given(first: Refusal, second: Refusal) -> None:
    session = stored_session(**{**first[0], **second[0]})
    with pytest.raises(first[2]):
        applied(session, ChangeMaker().change(**{**first[1], **second[1]}))


def test_the_errors_carry_the_facts() -> None:
    session = stored_session(version=4, queries=(stored_query(),), sections={"context": {"k": 1234}})
    make = ChangeMaker()
    with pytest.raises(VersionConflictError) as conflict:
        check(session, make.change(if_version=3), freed_bytes=0)
    with pytest.raises(QueryLimitExceededError) as full:
        check(session, make.query(max_queries=1), freed_bytes=0)
    with pytest.raises(StateLimitExceededError) as large:
        check(session, make.change(set_entries={"context": {"é": "123"}}, max_state_bytes=6), freed_bytes=2)
    assert (conflict.value.expected, conflict.value.found) == (3, 4)
    assert (full.value.limit, full.value.count, full.value.adding) == (1, 1, 1)
    assert (large.value.limit_bytes, large.value.size_bytes) == (6, 5 - 2 + 5)


def test_what_is_freed_makes_room_and_what_only_removes_always_fits() -> None:
    session = stored_session(sections={"context": {"k": "x" * 10}})
    make = ChangeMaker()
    change = make.change(set_entries={"context": {"k": '"' + "y" * 10 + '"'}}, max_state_bytes=session.state_bytes)
    check(session, change, freed_bytes=session.state_bytes)
    with pytest.raises(StateLimitExceededError):
        check(session, change, freed_bytes=0)
    check(session, make.change(unset_entries={"context": ["k"]}, max_state_bytes=1), freed_bytes=0)
    check(session, make.query(max_state_bytes=1), freed_bytes=0)


# Expiry and archive --------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "refused"), [(HOUR - timedelta(microseconds=1), False), (HOUR, True), (2 * HOUR, True)])
def test_a_session_expires_at_its_very_expiry(at: timedelta, refused: bool) -> None:
    session, change = stored_session(), ChangeMaker().query(at=START + at)
    if refused:
        with pytest.raises(SessionExpiredError):
            check(session, change, freed_bytes=0)
    else:
        check(session, change, freed_bytes=0)


@pytest.mark.parametrize("archived_at", [None, START])
@pytest.mark.parametrize(
    ("expires_at", "revives"),
    [(LATER, False), (LATER + timedelta(microseconds=1), True), (START + HOUR / 2, False), (START + HOUR, False)],
)
def test_only_an_expiry_later_than_now_revives(
    archived_at: datetime | None, expires_at: datetime, revives: bool
) -> None:
    session = stored_session(archived_at=archived_at)
    change = ChangeMaker().query(at=LATER, expires_at=expires_at)
    if revives:
        assert applied(session, change) == Applied(2, 1)
        assert (session.archived_at, session.expires_at) == (None, expires_at)
    else:
        with pytest.raises(SessionArchivedError if archived_at else SessionExpiredError):
            applied(session, change)


def test_an_archived_session_that_has_not_expired_is_revived_by_the_expiry_that_it_has() -> None:
    session = stored_session(archived_at=START)
    applied(session, ChangeMaker().change(expires_at=session.expires_at))
    assert session.archived_at is None


@pytest.mark.parametrize("at", [START, LATER])
def test_archiving_needs_no_time_left(at: datetime) -> None:
    session = stored_session()
    applied(session, ChangeMaker().change(at=at, archive=True))
    assert session.archived_at == at
    with pytest.raises(SessionArchivedError):
        applied(session, ChangeMaker().change(at=at, archive=True, expires_at=LATER + HOUR))


@given(st.lists(st.integers(-60, 240), max_size=8))
def test_an_expiry_only_ever_grows(offsets: list[int]) -> None:
    session, expiries = stored_session(), [START + HOUR]
    for minutes in offsets:
        expiry = START + timedelta(minutes=minutes)
        applied(session, ChangeMaker().change(expires_at=expiry))
        expiries.append(expiry)
        assert session.expires_at == max(expiries)


# What a change does --------------------------------------------------------------------------------


def test_every_change_counts_one_version_and_names_itself_the_head() -> None:
    session, make = stored_session(version=7), ChangeMaker()
    for version in (8, 9):
        change = make.change()
        assert applied(session, change) == Applied(version, 0)
        assert (session.version, session.head) == (version, f"{make.writer.hex}.{change.change_id}")


def test_the_last_access_never_goes_back() -> None:
    session = stored_session()
    applied(session, ChangeMaker().change(at=START + HOUR / 2))
    applied(session, ChangeMaker().change(at=START))
    assert session.last_accessed_at == START + HOUR / 2


def test_counters_know_every_query() -> None:
    session = stored_session()
    times = [START + timedelta(minutes=minutes) for minutes in (5, 1, 9)]
    queries = tuple(
        stored_query(timestamp=at, cache_hit=number == 1, result_summary="ü" * number)
        for number, at in enumerate(times)
    )

    applied(session, ChangeMaker().change(queries=queries[:2]))
    applied(session, ChangeMaker().change(queries=queries[2:]))

    assert (session.total_queries, session.cache_hits) == (3, 1)
    assert (session.first_query_at, session.last_query_at) == (times[1], times[2])
    assert session.history_bytes == sum(len(query.body.encode()) for query in queries)


def test_counting_in_parts_is_counting_at_once() -> None:
    queries = [stored_query(timestamp=START + timedelta(minutes=n), cache_hit=n > 1) for n in (3, 1, 2)]
    whole = stored_session()
    parts = whole.copy()
    count_queries(whole, queries)
    for query in queries:
        count_queries(parts, [query])
    assert parts == whole


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4))
def test_sizes_are_of_utf8(entries: dict[str, str]) -> None:
    entries = {
        key.encode(errors="replace").decode(): text.encode(errors="replace").decode() for key, text in entries.items()
    }
    session = stored_session()
    applied(session, ChangeMaker().change(set_entries={"context": entries}))
    expected = sum(len(key.encode()) + len(text.encode()) for key, text in entries.items())
    assert session.state_bytes == expected == sum(entry_bytes(key, text) for key, text in entries.items())


@pytest.mark.parametrize(
    ("present", "added", "removed", "expected"),
    [
        (("a", "b"), (), (), ("a", "b")),
        (("a", "b"), ("c",), (), ("a", "b", "c")),
        (("a", "b"), ("b", "c", "c"), (), ("a", "b", "c")),
        (("a", "b"), (), ("a", "z"), ("b",)),
        (("a", "b"), ("c",), ("a",), ("b", "c")),
        ((), ("c",), ("c",), ()),
    ],
)
def test_labels_keep_their_order_and_are_there_once(
    present: tuple[str, ...], added: tuple[str, ...], removed: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert relabelled(present, added, removed) == expected


def test_a_change_cannot_be_changed() -> None:
    change: Any = ChangeMaker().query()
    with pytest.raises(AttributeError):
        change.attempt = 2
