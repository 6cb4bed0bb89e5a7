"""Two copies of one session become one: nothing of either history is lost, and doing it again changes nothing."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from itertools import permutations
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import given

from perdure.changes import REMEMBERED_WRITERS, Applied, SessionChange, advance, count_queries, entry_bytes, recall
from perdure.errors import OutcomeUnknownError
from perdure.merging import AbsorbOutcome, merge
from perdure.models import StoredQuery, StoredSession
from perdure.testing import START, ChangeMaker, stored_query, stored_session

ID = UUID(int=1)
POOL = [stored_query(f"q{n}", timestamp=START + timedelta(minutes=n), cache_hit=n % 2 == 0) for n in range(6)]
GARBAGE = [
    "garbage",
    "5",
    "[]",
    "",
    json.dumps({"id": "no uuid", "timestamp": START.isoformat()}),
    json.dumps({"id": str(UUID(int=9)), "timestamp": "2026-01-01T00:00:00"}),  # no time zone: comparable with nothing
    json.dumps({"id": str(UUID(int=9)), "timestamp": 7}),
    json.dumps({"id": 9, "timestamp": START.isoformat()}),
]
BODIES = [query.body for query in POOL] + GARBAGE


@st.composite
def copies(draw: st.DrawFn, number: int = 2) -> list[StoredSession]:
    """Copies of one session, no two of the same version and head."""
    entries = st.dictionaries(st.sampled_from("kl"), st.integers(0, 3), max_size=2)
    made: list[StoredSession] = []
    for index in range(number):
        session = stored_session(
            id=ID,
            version=draw(st.integers(1, 4)),
            head=f"head {index}",
            expires_at=START + timedelta(hours=draw(st.integers(1, 3))),
            last_accessed_at=START + timedelta(minutes=draw(st.integers(0, 3))),
            tags=tuple(draw(st.lists(st.sampled_from("xy"), unique=True))),
            sections={"context": draw(entries), "metadata": draw(entries)},
        )
        shared = draw(st.booleans())
        if made and shared:
            session.queries = list(made[0].queries)
        session.queries += draw(st.lists(st.sampled_from(BODIES), max_size=5))
        session.queries = list(dict.fromkeys(session.queries))
        made.append(session)
    return made


def merged(kept: StoredSession, incoming: StoredSession) -> StoredSession:
    return merge(kept, incoming)[1]


@given(copies())
def test_nothing_is_lost_and_nothing_is_there_twice(both: list[StoredSession]) -> None:
    kept, incoming = both
    result = merged(kept, incoming)
    assert set(result.queries) == {*kept.queries, *incoming.queries}
    assert len(result.queries) == len(set(result.queries))
    assert result.expires_at == max(kept.expires_at, incoming.expires_at)


@given(copies())
def test_what_was_acknowledged_keeps_its_position(both: list[StoredSession]) -> None:
    kept, incoming = both
    result = merged(kept, incoming)
    assert result.queries[: len(kept.queries)] == kept.queries


@given(copies())
def test_the_same_again_changes_nothing(both: list[StoredSession]) -> None:
    kept, incoming = both
    result = merged(kept, incoming)
    for again in (incoming, kept, result):
        assert merge(result, again) == (AbsorbOutcome.UNCHANGED, result)


@given(copies())
def test_what_is_equal_to_neither_copy_gets_a_version_above_both_and_a_head_of_its_own(
    both: list[StoredSession],
) -> None:
    kept, incoming = both
    outcome, result = merge(kept, incoming)
    match outcome:
        case AbsorbOutcome.UNCHANGED:
            assert result == kept
        case AbsorbOutcome.MERGED:
            assert result == incoming
            assert incoming.version > kept.version
        case AbsorbOutcome.FORKED:
            assert result.version > max(kept.version, incoming.version)
            assert result.head not in (kept.head, incoming.head)
        case _:
            pytest.fail(f"{outcome} is not for this function to say")


@given(copies())
def test_both_ways_round_the_outcome_is_the_same_but_for_the_order_of_the_queries(both: list[StoredSession]) -> None:
    one, other = merged(*both), merged(*reversed(both))
    assert sorted(one.queries) == sorted(other.queries)
    for name in ("expires_at", "assets", "tags", "archived_at", "sections"):
        assert getattr(one, name) == getattr(other, name)
    if one.queries != other.queries:
        assert one.head != other.head  # two copies of one version and head are the same


@given(copies(3))
def test_in_whatever_order_copies_meet_all_queries_are_there_in_the_end(three: list[StoredSession]) -> None:
    everything = {body for session in three for body in session.queries}
    for first, second, third in permutations(three):
        assert set(merged(merged(first, second), third).queries) == everything
        assert set(merged(first, merged(second, third)).queries) == everything


@given(copies())
def test_the_counters_of_a_fork_fit_what_it_holds(both: list[StoredSession]) -> None:
    outcome, result = merge(*both)
    if outcome is not AbsorbOutcome.FORKED:
        return
    known = {query.body: query for query in POOL}
    readable = [known[body] for body in result.queries if body in known]
    assert result.total_queries == len(result.queries)
    assert result.first_position == 1
    assert result.cache_hits == sum(query.cache_hit for query in readable)
    assert result.history_bytes == sum(len(body.encode()) for body in result.queries)
    assert result.state_bytes == sum(
        entry_bytes(key, text) for entries in result.sections.values() for key, text in entries.items()
    )
    if readable:
        assert result.last_query_at == max(query.timestamp for query in readable)


@given(copies())
def test_the_copies_themselves_stay_as_they_were(both: list[StoredSession]) -> None:
    before = copy.deepcopy(both)
    result = merged(*both)
    assert both == before
    if result is not both[0] and result is not both[1]:
        result.sections["context"]["new"] = "1"
        result.queries.append("new")
        assert both == before


# One by one ----------------------------------------------------------------------------------------


def _copy(version: int, head: str, *queries: StoredQuery, context: dict[str, int] | None = None) -> StoredSession:
    return stored_session(id=ID, version=version, head=head, queries=queries, sections={"context": context or {}})


def test_a_later_state_takes_the_place_of_an_earlier_one() -> None:
    earlier, later = _copy(2, "a", POOL[0]), _copy(5, "b", POOL[0], POOL[1])
    assert merge(earlier, later) == (AbsorbOutcome.MERGED, later)
    assert merge(later, earlier) == (AbsorbOutcome.UNCHANGED, later)


def test_the_same_version_and_head_is_the_same_copy_whoever_holds_it() -> None:
    one, same = _copy(2, "a", POOL[0]), _copy(2, "a", POOL[0])
    outcome, result = merge(one, same)
    assert (outcome, result is one) == (AbsorbOutcome.UNCHANGED, True)


def test_of_two_different_copies_of_one_version_the_keys_of_both_are_kept_and_the_last_write_wins() -> None:
    one = _copy(3, "a", POOL[0], POOL[1], context={"k": 1, "mine": 1})
    other = _copy(3, "b", POOL[0], POOL[2], context={"k": 2, "yours": 2})
    other.last_accessed_at += timedelta(seconds=1)

    for kept, incoming in ((one, other), (other, one)):
        outcome, result = merge(kept, incoming)
        assert outcome is AbsorbOutcome.FORKED
        assert result.version == 4
        assert result.sections["context"] == {"k": "2", "mine": "1", "yours": "2"}


def test_of_two_versions_the_higher_one_says_what_the_keys_are() -> None:
    lower = _copy(2, "a", POOL[0], POOL[1], context={"k": 1, "removed": 1})
    higher = _copy(3, "b", POOL[0], POOL[2], context={"k": 2})
    assert merged(lower, higher).sections["context"] == {"k": "2"}
    assert merged(higher, lower).sections["context"] == {"k": "2"}


def test_a_later_expiry_is_never_lost_to_a_higher_version() -> None:
    extended, written = _copy(2, "a"), _copy(3, "b", POOL[0])
    extended.expires_at += timedelta(hours=9)
    for kept, incoming in ((extended, written), (written, extended)):
        outcome, result = merge(kept, incoming)
        assert outcome is AbsorbOutcome.FORKED
        assert (result.expires_at, result.queries) == (extended.expires_at, written.queries)


@pytest.mark.parametrize("days", [(0, 40), (40, 0)])
def test_a_fork_has_been_archived_for_no_longer_than_what_came_last(days: tuple[int, int]) -> None:
    longer, shorter = stored_session(id=ID, queries=tuple(POOL[:2]), version=3), stored_session(id=ID, version=2)
    shorter.queries = [POOL[3].body]
    longer.archived_at, shorter.archived_at = (START + timedelta(days=day) for day in days)

    assert merged(longer, shorter).archived_at == START + timedelta(days=40)


@pytest.mark.parametrize("archived", [True, False])
def test_whether_a_fork_is_archived_the_higher_version_says(archived: bool) -> None:
    higher, lower = stored_session(id=ID, version=3), stored_session(id=ID, queries=(POOL[0],), version=2)
    (higher if archived else lower).archived_at = START

    assert merged(higher, lower).archived_at == (START if archived else None)


def test_a_query_that_was_stored_in_other_words_is_known_by_its_id() -> None:
    written = json.loads(POOL[1].body)
    in_other_words = json.dumps(written, indent=1)
    one, other = _copy(2, "a", POOL[0], POOL[1]), _copy(2, "b", POOL[0])
    other.queries.append(in_other_words)
    assert merged(one, other).queries == one.queries


@pytest.mark.parametrize("body", GARBAGE)
def test_a_query_that_cannot_be_read_is_kept_once(body: str) -> None:
    one, other = _copy(2, "a", POOL[0]), _copy(2, "b", POOL[1])
    one.queries.append(body)
    other.queries.insert(0, body)

    result = merged(one, other)

    assert result.queries == [POOL[0].body, body, POOL[1].body]
    assert result.total_queries == 3


def test_repeats_are_remembered_by_both_sides() -> None:
    one, other = _copy(2, "a"), _copy(2, "b")
    mine, yours = ChangeMaker().query(), ChangeMaker().query()
    for session, change in ((one, mine), (other, yours)):
        advance(session, change, freed_bytes=0)
        session.queries += [query.body for query in change.queries]

    result = merged(one, other)

    for change in (mine, yours):
        assert recall(result, change.repeated()) == Applied(3, 1)


def test_no_more_writers_are_remembered_than_a_session_can_and_those_of_the_newer_copy_first() -> None:
    older, newer = _copy(1, "a"), _copy(1, "b")
    changes: dict[str, list[SessionChange]] = {"older": [], "newer": []}
    for name, session in (("older", older), ("newer", newer)):
        for _ in range(REMEMBERED_WRITERS - 10):
            change = ChangeMaker().query(at=START + timedelta(minutes=5 if name == "newer" else 1))
            advance(session, change, freed_bytes=0)
            session.queries += [query.body for query in change.queries]
            changes[name].append(change)

    result = merged(older, newer)

    assert len(result.writers) == len(newer.writers) // (REMEMBERED_WRITERS - 10) * REMEMBERED_WRITERS
    assert all(recall(result, change.repeated()) is not None for change in changes["newer"])
    with pytest.raises(OutcomeUnknownError):
        recall(result, changes["older"][0].repeated())


def test_counters_of_copies_are_those_of_their_queries() -> None:
    """The builders of this page: what is merged is whole."""
    session = stored_session(queries=tuple(POOL))
    counted = stored_session()
    count_queries(counted, POOL)
    assert (session.total_queries, session.cache_hits) == (counted.total_queries, counted.cache_hits) == (6, 3)
