"""What may be kept, what is refused, and that it comes back equal."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections import OrderedDict, UserDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from tests.models.strategies import NAIVE, values

from perdure.errors import InvalidValueError, ValueTooLargeError
from perdure.values import MAX_DEPTH, decode, encode, encode_default, plain, repr_of


def text_of(value: Any, **options: Any) -> str:
    return encode(value, name="value", encoder=encode_default, **options)


def through(value: Any) -> Any:
    return decode(text_of(value))


@given(values)
def test_json_comes_back_equal_and_of_the_same_types(value: Any) -> None:
    assert repr(through(value)) == repr(value)


@pytest.mark.parametrize(
    "number", [0, -1, 2**63, -(2**64), 10**4299, 1.0, -0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2]
)
def test_numbers_keep_their_type_and_every_digit(number: float) -> None:
    assert repr(through(number)) == repr(number)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_that_could_not_be_read_again_is_refused(sign: int) -> None:
    number = sign * 10**4300

    with pytest.raises(InvalidValueError, match=r"value\['n'\]: a number of more than 4,300 digits"):
        text_of({"n": number})


def test_a_subclass_of_a_number_is_measured_too() -> None:
    class Count(int):
        pass

    assert through(Count(3)) == 3
    with pytest.raises(InvalidValueError, match="4,300 digits"):
        text_of(Count(10**4300))


class Colour(enum.Enum):
    RED = "red"
    NESTED = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


class Side(enum.StrEnum):
    BUY = "buy"


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Trade:
    side: Side
    at: datetime


class Model(BaseModel):
    when: date
    amount: Decimal


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Fraction(float):
    pass


class Array:
    """What numpy's arrays and scalars look like."""

    dtype = "float64"

    def __init__(self, content: Any) -> None:
        self._content = content

    def tolist(self) -> Any:
        return self._content


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (timedelta(minutes=1, milliseconds=500), 60.5),
        (Decimal("1.10"), "1.10"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (PurePosixPath("a/b"), "a/b"),
        (Colour.RED, "red"),
        (Colour.NESTED, [1, 2]),
        (Level.HIGH, 3),
        (Side.BUY, "buy"),
        (Point(1, 2), [1, 2]),
        ((1, (2,)), [1, [2]]),
        ({3}, [3]),
        (frozenset({"a", "b"}), ["a", "b"]),
        (Trade(Side.BUY, datetime(2026, 1, 1, tzinfo=UTC)), {"side": "buy", "at": "2026-01-01T00:00:00+00:00"}),
        (Model(when=date(2026, 1, 1), amount=Decimal("2.50")), {"when": "2026-01-01", "amount": "2.50"}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (UserDict({"a": Decimal(1)}), {"a": "1"}),
        ({Side.BUY: 1, Text("key"): 2}, {"buy": 1, "key": 2}),
        (Text("text"), "text"),
        (Fraction(0.5), 0.5),
        (True, True),
        (Array([[1.0, 2.0]]), [[1.0, 2.0]]),
        (Array(2.5), 2.5),
    ],
)
def test_what_people_pass_without_thinking_has_a_json_form(value: Any, kept: Any) -> None:
    assert through({"k": value}) == {"k": kept}
    assert repr(plain(value, name="value", encoder=encode_default)) == repr(kept)


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "nan is not JSON"),
        (-math.inf, "-inf is not JSON"),
        (Fraction("nan"), "nan is not JSON"),
        (Array(math.inf), "inf is not JSON"),
        (b"raw", "bytes are not JSON"),
        (bytearray(b"raw"), "bytes are not JSON"),
        (memoryview(b"raw"), "bytes are not JSON"),
        ("nul\0", "NUL"),
        ("\ud83d", "lone surrogate"),
        ({"\ud83d": 1}, "lone surrogate"),
        ({"nul\0": 1}, "NUL"),
        ({1: "one"}, "keys must be text, not int"),
        ({None: 1}, "keys must be text, not NoneType"),
        ({("a", "b"): 1}, "keys must be text, not tuple"),
        ({b"k": 1}, "keys must be text, not bytes"),
        (NAIVE, "without time zone"),
        (Colour, "no JSON form"),
        (Trade, "no JSON form"),
        (object(), r"builtins\.object has no JSON form"),
        ({1, Broken()}, "encoding it raises RuntimeError"),
        (iter([1]), "no JSON form"),
        (range(3), "no JSON form"),
        (1j, "no JSON form"),
    ],
)
def test_what_would_not_come_back_is_refused_and_the_way_to_it_named(value: Any, reason: str) -> None:
    with pytest.raises(InvalidValueError, match=reason) as caught:
        text_of({"outer": [0, {"inner": value}]})

    assert caught.value.path.startswith("value['outer'][1]['inner']")


def test_a_cycle_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = [loop]

    with pytest.raises(InvalidValueError, match="a cycle"):
        text_of(loop)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_what_is_nested_as_deep_as_allowed_comes_back_and_no_deeper() -> None:
    deepest = nested(MAX_DEPTH + 1)

    assert through(deepest) == deepest
    with pytest.raises(InvalidValueError, match="nested deeper than 100"):
        text_of([deepest])


def test_an_encoder_that_never_comes_to_an_end_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="nested deeper"):
        encode(object(), name="value", encoder=lambda value: object())


def test_the_encoder_can_be_replaced() -> None:
    assert encode({"z": 1j}, name="value", encoder=lambda value: [value.real, value.imag]) == '{"z":[0.0,1.0]}'


def test_the_bound_is_in_bytes_of_utf8() -> None:
    assert text_of("é" * 10, limit=22) == '"éééééééééé"'
    with pytest.raises(ValueTooLargeError, match="value has 22 bytes; at most 21 are kept"):
        text_of("é" * 10, limit=21)


@given(st.text(st.characters()), st.integers(1, 50))
def test_the_repr_of_anything_is_text_that_can_be_kept_and_bounded(text: str, limit: int) -> None:
    class Odd:
        def __repr__(self) -> str:
            return text

    kept = repr_of(Odd(), limit=limit)

    assert len(kept) <= limit
    assert through(kept) == kept


def test_a_broken_repr_is_said_rather_than_raised() -> None:
    assert repr_of(Broken(), limit=100) == "<Broken whose repr raises RuntimeError>"
