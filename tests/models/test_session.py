"""The session as people hold it in their hands."""

from __future__ import annotations

import copy
import json
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from pydantic import ValidationError
from tests.models.strategies import NAIVE, few, sessions

from perdure import QueryRecord, Session, SessionMetrics, SessionSummary, SessionType
from perdure.errors import (
    InvalidInputError,
    InvalidTTLError,
    QueryLimitExceededError,
    SessionArchivedError,
    SessionExpiredError,
)
from perdure.models.session import Loaded
from perdure.testing import START, ManualClock, stored_query, stored_session

HOUR = timedelta(hours=1)


def loaded(clock: ManualClock, *, history: int | None = None, **facts: Any) -> Session:
    """A session as a store hands it out, an hour to live."""
    return Session.of(stored_session(**facts), Loaded(clock=clock, history=history))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


def test_a_session_needs_type_assets_and_expiry() -> None:
    session = Session(type=SessionType.EQUITY, assets=["AAPL"], expires_at=START)

    assert isinstance(session.id, UUID)
    assert (session.user_id, session.tags, session.version, session.archived_at) == (None, [], 0, None)
    assert session.created_at.tzinfo is UTC
    assert session.state.history.total_queries == 0


def test_known_types_are_members_and_other_slugs_are_taken_as_they_are() -> None:
    known = Session(type="equity", assets=["A"], expires_at=START)
    other = Session(type="fixed-income", assets=["A"], expires_at=START)

    assert known.type is SessionType.EQUITY
    assert other.type == "fixed-income"
    assert [str(member) for member in SessionType] == ["equity", "crypto", "portfolio", "comparative", "macro"]


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("type", "Equity"),
        ("type", "fixed income"),
        ("type", "-fixed"),
        ("type", "fixed-"),
        ("type", "1d"),
        ("type", ""),
        ("type", None),
        ("type", "x" * 257),
        ("assets", "AAPL"),
        ("assets", b"AAPL"),
        ("assets", 5),
        ("assets", [5]),
        ("assets", [""]),
        ("assets", ["nul\0"]),
        ("assets", ["\udc00"]),
        ("assets", ["x" * 257]),
        ("assets", [f"a{number}" for number in range(257)]),
        ("tags", "tech"),
        ("tags", ["tech", " "]),
        ("user_id", ""),
        ("user_id", 7),
        ("created_at", NAIVE),
        ("expires_at", NAIVE),
        ("expires_at", "soon"),
        ("last_accessed_at", NAIVE),
        ("archived_at", NAIVE),
        ("id", "no-id"),
        ("unknown", 1),
    ],
)
def test_the_constructor_refuses_what_cannot_be_and_names_the_field(field: str, bad: Any) -> None:
    facts: dict[str, Any] = {"type": "equity", "assets": ["AAPL"], "expires_at": START}

    with pytest.raises(ValidationError, match=field):
        Session(**{**facts, field: bad})


@pytest.mark.parametrize("field", ["id", "user_id", "type", "created_at", "archived_at", "version", "head", "state"])
def test_what_only_a_store_may_change_is_read_only(field: str, clock: ManualClock) -> None:
    session = loaded(clock)

    with pytest.raises(ValidationError, match="frozen"):
        setattr(session, field, getattr(session, field))


def test_the_history_of_the_state_is_not_replaced(clock: ManualClock) -> None:
    session = loaded(clock)

    with pytest.raises(ValidationError, match="frozen"):
        session.state.history = session.state.history  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "bad"),
    [("assets", "AAPL"), ("tags", [5]), ("expires_at", NAIVE), ("last_accessed_at", NAIVE)],
)
def test_an_assignment_is_checked_at_once(field: str, bad: Any, clock: ManualClock) -> None:
    session = loaded(clock)
    before = session.to_dict()

    with pytest.raises(ValidationError, match=field):
        setattr(session, field, bad)
    assert session.to_dict() == before


def test_names_are_kept_once_and_in_order() -> None:
    session = Session(type="equity", assets=("B", "A", "B"), expires_at=START)  # type: ignore[arg-type]

    assert session.assets == ["B", "A"]


def test_a_session_expires_at_its_expiry_and_not_before(clock: ManualClock) -> None:
    session = loaded(clock)

    clock.advance(HOUR - timedelta(microseconds=1))
    assert (session.is_expired, session.time_remaining) == (False, timedelta(microseconds=1))
    clock.advance(timedelta(microseconds=1))
    assert (session.is_expired, session.time_remaining) == (True, timedelta(0))
    clock.advance(HOUR)
    assert session.time_remaining == timedelta(0)


def test_the_duration_is_from_creation_to_the_last_touch(clock: ManualClock) -> None:
    session = loaded(clock)

    assert session.duration == timedelta(0)
    clock.advance(timedelta(minutes=5))
    session.touch()
    assert session.last_accessed_at == clock()
    assert session.duration == timedelta(minutes=5)


def test_a_touch_never_moves_back(clock: ManualClock) -> None:
    session = loaded(clock)

    clock.advance(-HOUR)
    session.touch()

    assert session.last_accessed_at == START


@pytest.mark.parametrize(
    ("moved", "hours", "expected"),
    [
        (timedelta(0), 24, HOUR + 24 * HOUR),  # from the present expiry
        (timedelta(hours=5), 24, 5 * HOUR + 24 * HOUR),  # from now, where that is later
        (timedelta(0), 0.5, 1.5 * HOUR),
        (timedelta(0), 168, 168 * HOUR),  # at most the maximum from now
        (timedelta(hours=5), 168, 173 * HOUR),
    ],
)
def test_extending_is_from_the_later_of_now_and_the_expiry_within_the_maximum(
    moved: timedelta, hours: float, expected: timedelta, clock: ManualClock
) -> None:
    session = loaded(clock)
    clock.advance(moved)

    session.extend(hours)

    assert session.expires_at == START + expected


def test_extending_never_shortens(clock: ManualClock) -> None:
    session = loaded(clock, expires_at=START + 500 * HOUR)

    session.extend(1)

    assert session.expires_at == START + 500 * HOUR


@pytest.mark.parametrize("hours", [0, -1, 168.001, 10_000, 1e300])
def test_extending_by_what_is_out_of_range_names_the_range(hours: float, clock: ManualClock) -> None:
    session = loaded(clock)

    with pytest.raises(InvalidTTLError, match="more than 0 and at most 168 hours"):
        session.extend(hours)
    assert session.expires_at == START + HOUR


@pytest.mark.parametrize("hours", [float("nan"), float("inf"), True, "24", None])
def test_extending_by_what_is_no_number_of_hours_is_refused(hours: Any, clock: ManualClock) -> None:
    session = loaded(clock)

    with pytest.raises(InvalidInputError, match="hours must be a number"):
        session.extend(hours)


def test_a_query_added_is_the_last_and_counts_as_use(clock: ManualClock) -> None:
    session = loaded(clock)
    before = session.last_query
    clock.advance(timedelta(minutes=1))

    session.add_query(QueryRecord(query_type="price", cache_hit=True))

    assert before is None
    assert session.last_query == session.state.history.queries[0]
    assert session.state.history.total_queries == 1
    assert session.last_accessed_at == clock()


def test_the_thousand_and_first_query_is_refused_with_the_counts(clock: ManualClock) -> None:
    queries = tuple(stored_query() for _ in range(1000))
    session = loaded(clock, history=1, queries=queries)

    with pytest.raises(QueryLimitExceededError, match="holds 1000 queries and 1 more") as refused:
        session.add_query(QueryRecord(query_type="price"))
    assert (refused.value.count, refused.value.adding, refused.value.limit) == (1000, 1, 1000)
    assert session.state.history.total_queries == 1000
    assert session.state.history.queries.new == []


def test_the_thousandth_query_fits(clock: ManualClock) -> None:
    session = loaded(clock, queries=tuple(stored_query() for _ in range(999)))

    session.add_query(QueryRecord(query_type="price"))

    assert session.state.history.total_queries == 1000


def test_an_expired_session_takes_no_query_until_it_is_extended(clock: ManualClock) -> None:
    session = loaded(clock)
    clock.advance(HOUR)

    with pytest.raises(SessionExpiredError, match=r"extend_session\(id, hours=…\) revives it"):
        session.add_query(QueryRecord(query_type="price"))
    assert session.state.history.total_queries == 0
    session.extend()
    session.add_query(QueryRecord(query_type="price"))
    assert session.state.history.total_queries == 1


def test_an_archived_session_takes_no_query_until_it_is_extended(clock: ManualClock) -> None:
    session = loaded(clock, archived_at=START)

    with pytest.raises(SessionArchivedError, match=r"extend_session\(id, hours=…\) restores it"):
        session.add_query(QueryRecord(query_type="price"))
    assert session.is_archived
    session.extend()
    session.add_query(QueryRecord(query_type="price"))
    assert session.state.history.total_queries == 1


@few
@given(sessions())
def test_a_session_goes_to_a_dict_and_back_exactly(session: Session) -> None:
    described = session.to_dict()

    back = Session.from_dict(described)

    assert back == session
    assert back.to_dict() == described
    assert Session.from_dict(json.loads(json.dumps(described))) == session


@few
@given(sessions())
def test_queries_without_position_stay_new_through_a_dict(session: Session) -> None:
    back = Session.from_dict(session.to_dict())

    unplaced = [query for query in session.state.history.queries if query.position is None]
    assert back.state.history.queries.new == unplaced


def test_a_dict_is_ready_for_json_and_says_whether_the_session_is_archived(clock: ManualClock) -> None:
    described = loaded(clock, archived_at=START, sections={"context": {"k": [1]}}).to_dict()

    assert described["is_archived"] is True
    assert described["type"] == "equity"
    assert described["expires_at"] == "2026-01-01T01:00:00Z"
    assert described["state"]["context"] == {"k": [1]}
    assert json.loads(json.dumps(described)) == described


def test_changing_the_dict_afterwards_does_not_reach_the_session(clock: ManualClock) -> None:
    described = loaded(clock, sections={"context": {"k": [1]}}).to_dict()
    session = Session.from_dict(described)

    described["state"]["context"]["k"].append(2)

    assert session.state.context == {"k": [1]}


@pytest.mark.parametrize("positions", [[1, 3], [2, 1], [None, 1], [1, 1], [4, 5]])
def test_positions_with_gaps_are_refused(positions: list[int | None], clock: ManualClock) -> None:
    described = loaded(clock, queries=(stored_query(), stored_query())).to_dict()
    for query, position in zip(described["state"]["history"]["queries"], positions, strict=True):
        query["position"] = position

    with pytest.raises(InvalidInputError, match=r"the positions of the queries must end at \d and have no gaps"):
        Session.from_dict(described)


def test_fewer_in_total_than_there_are_is_refused(clock: ManualClock) -> None:
    described = loaded(clock, queries=(stored_query(), stored_query())).to_dict()
    described["state"]["history"]["total_queries"] = 1

    with pytest.raises(InvalidInputError, match="positions"):
        Session.from_dict(described)


@pytest.mark.parametrize("missing", ["type", "assets", "expires_at"])
def test_a_dict_that_describes_no_session_is_refused(missing: str, clock: ManualClock) -> None:
    described = loaded(clock).to_dict()
    del described[missing]

    with pytest.raises(ValidationError, match=missing):
        Session.from_dict(described)


def test_sessions_are_equal_when_they_look_the_same_however_they_were_loaded(clock: ManualClock) -> None:
    stored = stored_session(queries=(stored_query(),), sections={"context": {"k": {"deep": [1]}}})
    one, other = Session.of(stored, Loaded(clock=clock)), Session.of(stored, Loaded())

    assert one.state.context["k"] == {"deep": [1]}  # decoded in one of them only
    assert one == other
    assert one == Session.from_dict(other.to_dict())
    assert one != stored
    other.tags.append("new")
    assert one != other


def test_a_deep_copy_shares_nothing(clock: ManualClock) -> None:
    session = loaded(clock, sections={"context": {"k": [1]}})

    twin = copy.deepcopy(session)
    twin.state.context["k"].append(2)
    twin.add_query(QueryRecord(query_type="price"))

    assert session.state.context == {"k": [1]}
    assert len(session.state.history.queries) == 0


def test_a_summary_is_one_line_about_a_session() -> None:
    stored = stored_session(type="fixed-income", tags=("t",), queries=(stored_query(cache_hit=True), stored_query()))

    summary = SessionSummary.of(stored)

    assert (summary.id, summary.user_id, summary.type) == (stored.id, "analyst", "fixed-income")
    assert (summary.assets, summary.tags) == (("AAPL",), ("t",))
    assert (summary.total_queries, summary.cache_hits, summary.version) == (2, 1, 1)
    assert (summary.is_archived, SessionSummary.of(stored_session(archived_at=START)).is_archived) == (False, True)
    assert not summary.is_expired(START)
    assert summary.is_expired(START + HOUR)
    with pytest.raises(ValidationError, match="frozen"):
        summary.version = 2  # type: ignore[misc]


@few
@given(sessions())
def test_metrics_are_a_pure_function_of_the_session(session: Session) -> None:
    before = session.to_dict()

    metrics = SessionMetrics.of(session)

    assert metrics == SessionMetrics.of(Session.from_dict(before))
    assert session.to_dict() == before


def test_metrics_add_up_what_the_queries_say(clock: ManualClock) -> None:
    session = loaded(
        clock,
        last_accessed_at=START + timedelta(seconds=90),
        queries=(
            stored_query("price", execution_time_ms=10, cache_hit=True),
            stored_query("price", execution_time_ms=5.5, error="down"),
            stored_query("news"),
        ),
    )

    metrics = SessionMetrics.of(session)

    assert metrics.model_dump() == {
        "session_id": session.id,
        "user_id": "analyst",
        "type": "equity",
        "assets": ("AAPL",),
        "tags": (),
        "created_at": START,
        "expires_at": session.expires_at,
        "archived_at": None,
        "duration_seconds": 90.0,
        "total_queries": 3,
        "cache_hits": 1,
        "errors": 1,
        "query_types": {"price": 2, "news": 1},
        "execution_time_ms": 15.5,
        "timed_queries": 2,
    }
