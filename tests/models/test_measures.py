"""What a session counts, and the buckets in which durations are counted."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perdure.models import Measured, Measures, SessionMetrics
from perdure.models.measures import MEASURED_MOST, bucket_of, counts_of, micros_of, middle_of
from perdure.testing import START, stored_query, stored_session

HOUR = timedelta(hours=1)

values = st.integers(0, MEASURED_MOST)


@given(values)
@example(31)
@example(32)
@example(MEASURED_MOST)
def test_a_bucket_is_the_least_number_in_it(value: int) -> None:
    bucket = bucket_of(value)
    assert bucket <= value
    assert bucket_of(bucket) == bucket
    assert bucket == 0 or bucket_of(bucket - 1) < bucket


@given(values)
@example(32)
@example(2**40 - 1)
def test_the_middle_of_a_bucket_is_off_by_a_thirtysecond_at_most(value: int) -> None:
    assert abs(middle_of(bucket_of(value)) - value) <= value / 32


@given(values, values)
def test_buckets_keep_the_order(one: int, other: int) -> None:
    assert (bucket_of(one) <= bucket_of(other)) == (one <= other or bucket_of(one) == bucket_of(other))


def test_a_power_of_two_has_sixteen_buckets() -> None:
    assert len({bucket_of(value) for value in range(1024, 2048)}) == 16
    assert len({bucket_of(value) for value in range(32)}) == 32


@pytest.mark.parametrize(
    ("milliseconds", "micros"),
    [
        (0, 0),
        (0.0004, 0),
        (0.0005, 1),
        (1.5, 1500),
        (2910.26, 2_910_260),
        (1e300, MEASURED_MOST),
        (10**400, MEASURED_MOST),
    ],
)
def test_milliseconds_are_counted_to_the_microsecond(milliseconds: float, micros: int) -> None:
    assert micros_of(milliseconds) == micros


@pytest.mark.parametrize(
    ("archived_after", "now_after", "expired"),
    [(None, 59, False), (None, 60, True), (59, 600, False), (60, 0, True)],
)
@pytest.mark.parametrize(("queries", "abandoned"), [(0, True), (1, True), (2, False)])
def test_abandoned_is_what_expired_with_fewer_than_two_queries(
    archived_after: int | None, now_after: int, expired: bool, queries: int, abandoned: bool
) -> None:
    archived_at = None if archived_after is None else START + timedelta(minutes=archived_after)
    session = stored_session(archived_at=archived_at, queries=tuple(stored_query() for _ in range(queries)))
    counts = counts_of(session, session.queries, now=START + timedelta(minutes=now_after))
    assert (counts.get("expired", 0), counts.get("abandoned", 0)) == (expired, expired and abandoned)


@pytest.mark.parametrize(
    ("facts", "counted"),
    [
        ({"execution_time_ms": None}, {}),
        ({"execution_time_ms": True}, {}),
        ({"execution_time_ms": "5"}, {}),
        ({"execution_time_ms": -1}, {}),
        ({"execution_time_ms": 0}, {"timed": 1, "took:0:price": 1}),
        ({"error": None}, {}),
        ({"error": ""}, {"errors": 1}),
        ({"timestamp": "2026-01-01T07:30:00+00:00"}, {"asked:2026-01-01T07": 1}),
        ({"timestamp": "yesterday"}, {"asked:2026-01-01T00": 1}),
        ({"timestamp": 5}, {"asked:2026-01-01T00": 1}),
    ],
)
def test_what_is_no_fact_of_a_query_does_not_count(facts: dict[str, Any], counted: dict[str, int]) -> None:
    session = stored_session(queries=(stored_query(),))
    session.queries = [json.dumps({"query_type": "price", **facts})]
    counts = counts_of(session, session.queries, now=START)
    assert counts["query:price"] == 1
    assert counted.items() <= counts.items()
    for key in ("timed", "took_us", "errors"):
        assert counts.get(key, 0) == counted.get(key, 0)


def test_sums_are_added_key_by_key_and_nothing_is_not_named() -> None:
    one, other = Measures({"queries": 2, "asset:A": 1}), Measures({"queries": 3, "asset:A": -1, "asset:B": 1})
    assert (one + other).counts == {"queries": 5, "asset:B": 1}
    assert (one + other)["asset:A"] == 0
    assert (one + other).named("asset") == {"B": 1}


def test_metrics_of_what_was_counted_are_those_of_the_session() -> None:
    stored = stored_session(
        queries=(stored_query("a", execution_time_ms=1.25, error="x"), stored_query("b:c", cache_hit=True)),
        last_accessed_at=START + HOUR,
        tags=("t",),
    )
    measured = Measured.of(stored, now=START)
    metrics = SessionMetrics.counted(measured.facts, measured.counts)
    assert (metrics.errors, metrics.timed_queries, metrics.execution_time_ms, metrics.cache_hits) == (1, 1, 1.25, 1)
    assert (metrics.query_types, metrics.duration_seconds) == ({"a": 1, "b:c": 1}, 3600)
