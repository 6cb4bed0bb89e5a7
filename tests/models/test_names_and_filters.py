from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from pydantic import ValidationError
from tests.models.strategies import NAIVE, instants

from perdure import Page, SessionFilter, SessionType
from perdure.errors import InvalidInputError, ValueTooLargeError
from perdure.models import utc_now
from perdure.models.names import checked_key, checked_name, checked_names
from perdure.models.times import from_micros, to_micros, to_utc


def test_a_filter_of_nothing_asks_for_everything() -> None:
    wanted = SessionFilter()

    assert (wanted.user_id, wanted.session_type, wanted.assets, wanted.tags, wanted.archived) == (
        None,
        None,
        (),
        (),
        None,
    )


def test_a_filter_takes_lists_and_members() -> None:
    wanted = SessionFilter(session_type=SessionType.MACRO, assets=["B", "A", "B"], tags=["t"])  # type: ignore[arg-type]

    assert (wanted.session_type, wanted.assets, wanted.tags) == ("macro", ("B", "A"), ("t",))


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("user_id", ""),
        ("session_type", "No Slug"),
        ("assets", "AAPL"),
        ("tags", "tech"),
        ("tags", [1]),
        ("created_after", NAIVE),
        ("created_before", NAIVE),
        ("archived", "perhaps"),
        ("owner", "ann"),
    ],
)
def test_a_filter_refuses_what_cannot_be_and_names_the_field(field: str, bad: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        SessionFilter(**{field: bad})


def test_a_page_is_what_is_on_it() -> None:
    page = Page([1, 2], "next")

    assert (list(page), len(page), page.items, page.next_cursor) == ([1, 2], 2, [1, 2], "next")
    assert Page([]).next_cursor is None


def test_a_name_of_the_greatest_length_fits_and_none_longer() -> None:
    assert checked_name("é" * 256, what="tag") == "é" * 256
    with pytest.raises(ValueTooLargeError, match="tag has 257 characters; at most 256 are kept"):
        checked_name("x" * 257, what="tag")


def test_a_key_too_long_is_named_by_its_beginning() -> None:
    assert checked_key("k" * 10, section="context", limit=10) == "k" * 10
    with pytest.raises(ValueTooLargeError, match=r"the key 'kkkkk.*of context has 50 characters; at most 10"):
        checked_key("k" * 50, section="context", limit=10)


@pytest.mark.parametrize("bad", [None, 5, b"k", "", " \t", "nul\0", "\ud800"])
def test_a_key_must_be_text_with_something_in_it(bad: Any) -> None:
    with pytest.raises(InvalidInputError, match="a key of context must"):
        checked_key(bad, section="context", limit=10)


def test_names_may_come_from_any_iterable_but_a_text() -> None:
    assert checked_names((name for name in "ab"), what="tags") == ["a", "b"]
    assert checked_names(None, what="tags") == []
    with pytest.raises(InvalidInputError, match="tags must be a list of texts, not str: 'ab'"):
        checked_names("ab", what="tags")


@given(instants)
def test_an_instant_survives_as_microseconds(instant: datetime) -> None:
    assert from_micros(to_micros(instant)) == instant


def test_an_instant_is_turned_to_utc_and_a_naive_one_refused() -> None:
    tokyo = datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))

    assert to_utc(tokyo).isoformat() == "2026-01-01T00:00:00+00:00"
    assert utc_now().tzinfo is UTC
    with pytest.raises(InvalidInputError, match="since must be an aware datetime"):
        to_utc(NAIVE, name="since")
