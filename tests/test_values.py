"""What can be kept comes back equal; what cannot is refused, and the error names where it is."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
from collections import OrderedDict, UserDict, deque, namedtuple
from collections.abc import Callable
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import given
from pydantic import BaseModel

from perdure.errors import InvalidValueError, ValueTooLargeError
from perdure.values import MAX_DEPTH, decode, encode, encode_default, plain, repr_of

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
numbers = st.integers() | st.integers(-(10**60), 10**60) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=30,
)


def kept(value: Any) -> Any:
    """What a value comes back as."""
    return decode(encode(value, name="value", encoder=encode_default))


def refusal(value: Any) -> InvalidValueError:
    with pytest.raises(InvalidValueError) as caught:
        encode(value, name="context['k']", encoder=encode_default)
    return caught.value


def same(value: Any, other: Any) -> bool:
    """Equal, of the same types, and zero with the same sign."""
    if isinstance(value, float) and type(other) is float:
        return value == other and math.copysign(1, value) == math.copysign(1, other)
    if isinstance(value, dict) and isinstance(other, dict):
        return list(value) == list(other) and all(same(value[key], other[key]) for key in value)
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(same, value, other))
    return type(value) is type(other) and bool(value == other)


# What goes in comes out ----------------------------------------------------------------------------


@given(json_values)
def test_json_comes_back_equal(value: Any) -> None:
    assert same(plain(value, name="value", encoder=encode_default), value)
    assert same(kept(value), value)


@given(json_values)
def test_what_is_stored_is_json_that_anybody_can_read(value: Any) -> None:
    assert json.loads(encode(value, name="value", encoder=encode_default)) == value


@given(json_values)
def test_encoding_what_was_decoded_gives_the_same_text(value: Any) -> None:
    text = encode(value, name="value", encoder=encode_default)
    assert encode(decode(text), name="value", encoder=encode_default) == text


@pytest.mark.parametrize(
    "value",
    [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1e22, 2**53 + 1, 2**64, -(2**200), 1e16, 123456789.123456789],
)
def test_numbers_are_exact(value: float) -> None:
    assert same(kept(value), value)


def test_a_copy_shares_nothing_with_the_original() -> None:
    inner = [1]
    copied = plain({"a": inner}, name="value", encoder=encode_default)
    inner.append(2)
    assert copied == {"a": [1]}


def test_lists_and_maps_may_be_nested_as_deep_as_is_said_and_no_deeper() -> None:
    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return value

    assert kept(nested(MAX_DEPTH + 1)) == nested(MAX_DEPTH + 1)
    assert "nested deeper" in refusal(nested(MAX_DEPTH + 2)).reason


# What people pass without thinking -----------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


class TextColour(str, enum.Enum):  # noqa: UP042 (the older kind, whose `str` is not its value)
    RED = "red"


class NewTextColour(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    SEVEN = 7


class Flags(enum.Flag):
    A = 1
    B = 2


class Text(str):
    def __str__(self) -> str:
        return "something else"


class Int(int):
    pass


class Float(float):
    pass


class Model(BaseModel):
    name: str
    at: dt.datetime | None = None
    price: Decimal = Decimal("1.10")


@dataclasses.dataclass
class Data:
    name: str
    when: dt.date
    inner: Data | None = None


Point = namedtuple("Point", "x y")


class NumpyScalar:
    """What a numpy scalar shows of itself."""

    dtype = "float64"

    def __init__(self, value: Any) -> None:
        self._value = value

    def tolist(self) -> Any:
        return self._value


UTC = dt.UTC
AT = dt.datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
FROM_PEOPLE: list[tuple[Any, Any]] = [
    (AT, "2026-01-02T03:04:05.000678+00:00"),
    (AT.astimezone(dt.timezone(dt.timedelta(hours=2))), "2026-01-02T05:04:05.000678+02:00"),
    (dt.date(2026, 1, 2), "2026-01-02"),
    (dt.time(3, 4), "03:04:00"),
    (dt.timedelta(minutes=1, milliseconds=500), 60.5),
    (Decimal("175.430"), "175.430"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (PurePosixPath("/data/closes.csv"), "/data/closes.csv"),
    (Colour.RED, "red"),
    (TextColour.RED, "red"),
    (NewTextColour.RED, "red"),
    (Number.SEVEN, 7),
    (Flags.A | Flags.B, 3),
    (Text("plain"), "plain"),
    (Int(5), 5),
    (Float(0.5), 0.5),
    (True, True),
    ({1, 2, 3}, [1, 2, 3]),
    (frozenset({"b", "a"}), ["a", "b"]),
    ((1, (2, 3)), [1, [2, 3]]),
    (Point(1, 2), [1, 2]),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (MappingProxyType({"a": {1}}), {"a": [1]}),
    (UserDict({"a": 1}), {"a": 1}),
    (Model(name="x", at=AT), {"name": "x", "at": "2026-01-02T03:04:05.000678Z", "price": "1.10"}),
    (
        Data("x", dt.date(2026, 1, 2), Data("y", dt.date(2026, 1, 3))),
        {"name": "x", "when": "2026-01-02", "inner": {"name": "y", "when": "2026-01-03", "inner": None}},
    ),
    (NumpyScalar(0.25), 0.25),
    (NumpyScalar([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    ({TextColour.RED: 1, NewTextColour.RED: 1}, {"red": 1}),
    ({Text("plain"): 1}, {"plain": 1}),
]


@pytest.mark.parametrize(("value", "expected"), FROM_PEOPLE, ids=lambda value: type(value).__name__)
def test_each_kind_of_value_becomes_the_json_that_is_documented(value: Any, expected: Any) -> None:
    assert same(kept(value), expected)
    assert same(kept({"deep": [value]}), {"deep": [expected]})


def test_a_replaced_encoder_is_asked_for_what_is_not_json_and_for_nothing_else() -> None:
    asked: list[Any] = []

    def encoder(value: Any) -> Any:
        asked.append(value)
        return {"complex": [value.real, value.imag]}

    text = encode({"a": [1, "b", 2j]}, name="value", encoder=encoder)
    assert decode(text) == {"a": [1, "b", {"complex": [0.0, 2.0]}]}
    assert asked == [2j]


# What cannot be kept -------------------------------------------------------------------------------


class Refusing:
    """What an encoder does not know."""


CYCLE: list[Any] = []
CYCLE.append(CYCLE)

REFUSED: list[tuple[Any, str]] = [
    (math.nan, "nan"),
    (math.inf, "inf"),
    (-math.inf, "inf"),
    (Float(math.nan), "nan"),
    (b"bytes", "bytes"),
    (bytearray(b"bytes"), "bytes"),
    (memoryview(b"bytes"), "bytes"),
    ("with \0 in it", "NUL"),
    ("lone \ud800 surrogate", "surrogate"),
    (Text("with \0 in it"), "NUL"),
    (dt.datetime(2026, 1, 1), "time zone"),  # noqa: DTZ001 (that is the point)
    (Refusing(), "Refusing has no JSON form"),
    (Refusing, "no JSON form"),
    (Data, "no JSON form"),
    (1j, "complex"),
    (len, "no JSON form"),
    ((number for number in range(3)), "generator"),
    (deque([1]), "deque"),
    (CYCLE, "cycle"),
    (NumpyScalar(math.nan), "nan"),
    (NumpyScalar(b"x"), "bytes"),
    ({1: "one"}, "keys must be text, not int"),
    ({None: 1}, "keys must be text, not NoneType"),
    ({("a", "b"): 1}, "keys must be text, not tuple"),
    ({"a\0b": 1}, "NUL"),
    ({"\udfff": 1}, "surrogate"),
    (10**5_000, "digits"),
]
AROUND: list[tuple[Callable[[Any], Any], str]] = [
    (lambda value: value, ""),
    (lambda value: [0, value], "[1]"),
    (lambda value: {"key": value}, "['key']"),
    (lambda value: {"a": [{"b": (1, 2, value)}]}, "['a'][0]['b'][2]"),
    (lambda value: Data("x", value), "['when']"),
]


@pytest.mark.parametrize(("around", "path"), AROUND, ids=[path or "itself" for _, path in AROUND])
@pytest.mark.parametrize(("value", "reason"), REFUSED, ids=[f"{n}-{reason}" for n, (_, reason) in enumerate(REFUSED)])
def test_what_cannot_be_kept_is_refused_by_its_path(
    value: Any, reason: str, around: Callable[[Any], Any], path: str
) -> None:
    error = refusal(around(value))
    assert error.path.startswith(f"context['k']{path}")
    assert reason in error.reason
    assert str(error) == f"{error.path}: {error.reason}"


def test_an_encoder_that_breaks_is_a_refusal_like_any_other() -> None:
    class Breaking(NumpyScalar):
        def tolist(self) -> Any:
            raise KeyError("swordfish")

    error = refusal({"a": Breaking(1)})
    assert (error.path, error.reason) == ("context['k']['a']", "encoding it raises KeyError")


def test_a_subclass_of_a_number_may_have_no_more_digits_than_a_number() -> None:
    class Count(int):
        pass

    assert "digits" in refusal(Count(10**4_300)).reason
    assert decode(encode(Count(-(10**4_299)), name="value", encoder=encode_default)) == -(10**4_299)


def test_the_path_of_a_bad_key_ends_with_the_key() -> None:
    assert refusal({"a": [{"b": 1, 7: 2}]}).path == "context['k']['a'][0][7]"


def test_an_encoder_that_never_comes_nearer_is_stopped() -> None:
    with pytest.raises(InvalidValueError, match="nested deeper"):
        encode(Refusing(), name="value", encoder=lambda value: value)


def test_an_encoder_that_refuses_is_quoted() -> None:
    def encoder(value: Any) -> Any:
        raise ValueError("we keep no frames here")

    with pytest.raises(InvalidValueError, match=r"value\['f'\]: we keep no frames here"):
        encode({"f": Refusing()}, name="value", encoder=encoder)


@given(json_values, st.integers(0, 60))
def test_the_limit_is_in_bytes_of_utf8(value: Any, limit: int) -> None:
    size = len(encode(value, name="value", encoder=encode_default).encode())
    if size <= limit:
        encode(value, name="value", encoder=encode_default, limit=limit)
    else:
        with pytest.raises(ValueTooLargeError) as caught:
            encode(value, name="value", encoder=encode_default, limit=limit)
        assert (caught.value.size, caught.value.limit) == (size, limit)


# The last resort -----------------------------------------------------------------------------------


class BrokenRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class NoTextRepr:
    def __repr__(self) -> str:
        return 5  # type: ignore[return-value]


class OddRepr:
    def __repr__(self) -> str:
        return "odd \ud800 \0 repr"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (BrokenRepr(), "<BrokenRepr whose repr raises RuntimeError>"),
        (NoTextRepr(), "<NoTextRepr whose repr raises TypeError>"),
        (OddRepr(), "odd \\ud800 \\x00 repr"),
        (b"bytes", "b'bytes'"),
        (math.nan, "nan"),
    ],
)
def test_the_repr_of_anything_can_be_kept(value: Any, expected: str) -> None:
    text = repr_of(value, limit=100)
    assert text == expected
    assert kept(text) == text


@given(json_values | st.binary() | st.text(), st.integers(1, 40))
def test_the_repr_is_bounded(value: Any, limit: int) -> None:
    text = repr_of(value, limit=limit)
    assert len(text) <= limit
    assert kept(text) == text
    assert text == repr(value) or text.endswith("…")


def test_a_repr_that_is_too_deep_does_not_raise() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    assert len(repr_of(value, limit=50)) <= 50
