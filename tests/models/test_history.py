"""Queries in order, decoded late, under counters that speak of all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models.strategies import few, records

from perdure import AnalysisHistory, QueryRecord
from perdure.errors import InvalidInputError
from perdure.models import QueryLog, store_query
from perdure.values import encode_default

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def query(number: int, **fields: Any) -> QueryRecord:
    return QueryRecord(query_type=f"q{number}", timestamp=NOON + timedelta(minutes=number), **fields)


def body(number: int, **fields: Any) -> str:
    return store_query(query(number, **fields), encoder=encode_default).body


def types(queries: Any) -> list[str]:
    return [record.query_type for record in queries]


def test_counters_grow_with_each_query() -> None:
    history = AnalysisHistory()

    history.add_query(query(2, cache_hit=True))
    history.add_query(query(1))
    history.add_query(query(3))

    assert (history.total_queries, history.cache_hits) == (3, 1)
    assert (history.first_query_at, history.last_query_at) == (query(1).timestamp, query(3).timestamp)
    assert history.cache_hit_rate == 1 / 3
    assert types(history.queries) == ["q2", "q1", "q3"]


def test_an_empty_history_has_a_hit_rate_of_nothing() -> None:
    history = AnalysisHistory()

    assert history.cache_hit_rate == 0.0
    assert (history.first_query_at, history.last_query_at) == (None, None)
    assert history.get_recent_queries() == []
    assert history.get_query_types_summary() == {}


def test_counters_stay_true_when_only_the_newest_queries_are_loaded() -> None:
    history = AnalysisHistory(
        queries=QueryLog([body(99), body(100)], first=99), total_queries=100, cache_hits=40, first_query_at=NOON
    )

    history.add_query(query(101, cache_hit=True))

    assert (history.total_queries, history.cache_hits, history.cache_hit_rate) == (101, 41, 41 / 101)
    assert history.first_query_at == NOON
    assert [record.position for record in history.queries] == [99, 100, None]


@few
@given(st.lists(records(), max_size=6))
def test_queries_given_without_counters_are_counted(given_records: list[QueryRecord]) -> None:
    history = AnalysisHistory.model_validate({"queries": given_records})

    assert history.total_queries == len(given_records)
    assert history.cache_hits == sum(record.cache_hit for record in given_records)
    if given_records:
        assert history.first_query_at == min(record.timestamp for record in given_records)
        assert history.last_query_at == max(record.timestamp for record in given_records)


def test_the_most_recent_queries_come_oldest_first() -> None:
    history = AnalysisHistory(queries=QueryLog.of([query(number) for number in range(15)]))

    assert types(history.get_recent_queries()) == [f"q{number}" for number in range(5, 15)]
    assert types(history.get_recent_queries(2)) == ["q13", "q14"]
    assert types(history.get_recent_queries(100)) == [f"q{number}" for number in range(15)]
    assert history.get_recent_queries(0) == []


def test_the_summary_of_types_begins_with_the_most_frequent() -> None:
    history = AnalysisHistory(queries=QueryLog.of([query(1), query(2), query(2)]))

    assert list(history.get_query_types_summary().items()) == [("q2", 2), ("q1", 1)]


def test_the_position_of_another_session_is_not_taken_over() -> None:
    history = AnalysisHistory()

    history.add_query(query(1).placed(17))

    assert history.queries[0].position is None


def test_only_queries_can_be_added() -> None:
    history = AnalysisHistory()

    with pytest.raises(InvalidInputError, match="query must be a QueryRecord, not dict"):
        history.add_query({"query_type": "price"})  # type: ignore[arg-type]
    assert (history.total_queries, len(history.queries)) == (0, 0)


def test_a_log_reads_as_a_list_of_records_with_their_positions() -> None:
    log = QueryLog([body(5), body(6), body(7)], first=5, new=[query(8)])

    assert len(log) == 4
    assert types(log) == ["q5", "q6", "q7", "q8"]
    assert [record.position for record in log] == [5, 6, 7, None]
    assert log[0].position == 5
    assert (log[-1].query_type, log[-2].position) == ("q8", 7)
    assert types(log[1:3]) == ["q6", "q7"]
    assert types(log[::-1]) == ["q8", "q7", "q6", "q5"]
    assert log.first_position == 5
    assert "4 queries, 1 of them new" in repr(log)
    for outside in (4, -5):
        with pytest.raises(IndexError, match="4 queries are loaded"):
            log[outside]


def test_logs_are_equal_when_their_records_are() -> None:
    log = QueryLog([body(1)], first=1)

    assert log == QueryLog(log.bodies, first=1)
    assert log == list(log)
    assert log != QueryLog(log.bodies, first=2)
    assert log != []
    assert log != 5


def test_a_body_that_cannot_be_read_hides_none_of_its_neighbours() -> None:
    log = QueryLog([body(1), '{"id": 5', body(3)])

    assert types(log) == ["q1", "unreadable", "q3"]
    assert [record.position for record in log] == [1, 2, 3]
    assert (log[1].query_type, log[2].query_type) == ("unreadable", "q3")


def test_a_record_is_decoded_each_time_it_is_looked_at_so_that_a_change_in_it_reaches_nobody() -> None:
    log = QueryLog([body(1, parameters={"of": [1]})])

    log[0].parameters["of"].append(2)

    assert log[0].parameters == {"of": [1]}


def test_stored_queries_are_new_no_longer() -> None:
    first, second, later = query(1), query(2), query(3)
    log = QueryLog(new=[first, second])
    stored = [store_query(record, encoder=encode_default) for record in log.new]
    log.append(later)

    log.settle(stored, first=41)

    assert [record.position for record in log] == [41, 42, None]
    assert log.new == [later]
