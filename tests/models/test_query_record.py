from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.models.strategies import NAIVE, few, records

from perdure import QueryRecord
from perdure.errors import InvalidValueError, ValueTooLargeError
from perdure.models import read_query, store_query
from perdure.values import encode_default


def test_a_record_needs_nothing_but_its_type() -> None:
    record = QueryRecord(query_type="price")

    assert isinstance(record.id, UUID)
    assert record.position is None
    assert record.timestamp.tzinfo is UTC
    assert (record.parameters, record.metadata) == ({}, {})
    assert (record.result_summary, record.execution_time_ms, record.error) == (None, None, None)
    assert record.cache_hit is False


def test_no_two_records_have_the_same_id() -> None:
    assert len({QueryRecord(query_type="price").id for _ in range(100)}) == 100


@pytest.mark.parametrize("field", QueryRecord.model_fields)
def test_a_record_is_frozen(field: str) -> None:
    record = QueryRecord(query_type="price")

    with pytest.raises(ValidationError, match="frozen"):
        setattr(record, field, getattr(record, field))


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("query_type", ""),
        ("query_type", "   "),
        ("query_type", None),
        ("query_type", 7),
        ("query_type", "x" * 257),
        ("query_type", "nul\0"),
        ("query_type", "\ud800"),
        ("timestamp", NAIVE),
        ("position", 0),
        ("execution_time_ms", -1),
        ("execution_time_ms", float("nan")),
        ("execution_time_ms", float("inf")),
        ("parameters", ["symbol"]),
        ("parameters", {1: "one"}),
        ("parameters", "symbol"),
        ("result_summary", 5),
        ("cache_hit", "perhaps"),
        ("id", "not-an-id"),
        ("unknown", 1),
    ],
)
def test_the_constructor_refuses_what_cannot_be_and_names_the_field(field: str, bad: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        QueryRecord(**{"query_type": "price", field: bad})


def test_a_timestamp_of_any_zone_is_kept_in_utc() -> None:
    tokyo = datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))

    record = QueryRecord(query_type="price", timestamp=tokyo)

    assert record.timestamp == tokyo
    assert record.timestamp.utcoffset() == timedelta(0)


def test_a_placed_record_is_the_same_query_elsewhere() -> None:
    record = QueryRecord(query_type="price", parameters={"symbol": "AAPL"})

    placed = record.placed(7)

    assert placed.position == 7
    assert placed.model_copy(update={"position": None}) == record


@few
@given(records())
def test_what_is_stored_of_a_record_reads_back_as_it_was(record: QueryRecord) -> None:
    stored = store_query(record, encoder=encode_default)

    assert read_query(stored.body, 3) == record.placed(3)
    assert (stored.id, stored.timestamp, stored.cache_hit) == (record.id, record.timestamp, record.cache_hit)
    assert stored.size_bytes == len(stored.body.encode())


def test_what_can_be_encoded_is_stored_in_its_json_form() -> None:
    record = QueryRecord(query_type="price", parameters={"limit": Decimal("1.50"), "days": (1, 2)})

    stored = store_query(record, encoder=encode_default)

    assert read_query(stored.body, 1).parameters == {"limit": "1.50", "days": [1, 2]}


def test_a_parameter_that_cannot_be_kept_is_named() -> None:
    record = QueryRecord(query_type="price", parameters={"of": {"raw": b"bytes"}})

    with pytest.raises(InvalidValueError, match=r"query\['parameters'\]\['of'\]\['raw'\]: bytes"):
        store_query(record, encoder=encode_default)


def test_a_record_over_the_bound_is_refused_with_both_sizes() -> None:
    record = QueryRecord(query_type="price", result_summary="é" * 100)
    size = store_query(record, encoder=encode_default).size_bytes

    assert store_query(record, encoder=encode_default, limit=size).size_bytes == size
    with pytest.raises(ValueTooLargeError, match=f"{size} bytes; at most {size - 1}") as caught:
        store_query(record, encoder=encode_default, limit=size - 1)
    assert (caught.value.size, caught.value.limit) == (size, size - 1)


@given(st.text() | st.sampled_from(["", "{", "{}", '{"id":1}', '{"query_type":"price","surprise":1}']))
def test_a_body_that_cannot_be_read_comes_back_as_an_unreadable_record_in_its_place(body: str) -> None:
    record = read_query(body, 5)

    assert (record.query_type, record.position) == ("unreadable", 5)
    assert "position 5" in (record.error or "")
