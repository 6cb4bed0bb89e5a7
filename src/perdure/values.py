"""What a value must be to be kept, and how it becomes the text that every backend stores.

A value is JSON (text, numbers, booleans, None, lists, maps with text keys), plus what people pass without
thinking: `encode_default` turns dates, decimals, UUIDs, enums, numpy scalars, pydantic models, dataclasses, sets
and tuples into JSON. Everything that would not come back as it went in is refused, and the error names the key.

The text is written once, here, and never re-encoded on its way: what was stored comes back equal on every backend.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import from_json, to_json

from perdure.errors import InvalidValueError, ValueTooLargeError

__all__ = ["MAX_DEPTH", "ValueEncoder", "decode", "encode", "encode_default", "plain", "repr_of"]

ValueEncoder: TypeAlias = Callable[[Any], Any]
"""Turns one value that is not JSON into one that is nearer to it; raises `TypeError` where it cannot."""

MAX_DEPTH = 100
"""How deep lists and maps may be nested."""

MAX_DIGITS = 4_300
"""How many digits a whole number may have: those with more could be written, but not read again."""

_ABOVE_ALL = 10**MAX_DIGITS


def encode(value: Any, *, name: str, encoder: ValueEncoder, limit: int | None = None) -> str:
    """The JSON text of `value`, to be stored as it is; `name` stands for it in errors; `limit` is in bytes of UTF-8.

    Raises:
        InvalidValueError: something in it cannot be kept; the message names where.
        ValueTooLargeError: the text has more than `limit` bytes.
    """
    text = to_json(plain(value, name=name, encoder=encoder))
    if limit is not None and len(text) > limit:
        raise ValueTooLargeError(name, size=len(text), limit=limit)
    return text.decode()


def decode(text: str | bytes) -> Any:
    """The value that `encode` made the text of."""
    return from_json(text)


def plain(value: Any, *, name: str, encoder: ValueEncoder) -> Any:
    """A copy of `value` made of nothing but JSON types.

    Raises:
        InvalidValueError: NaN, infinity, bytes, NUL, lone surrogates, cycles, nesting deeper than `MAX_DEPTH`, more
            than `MAX_DIGITS`, keys that are not text, and whatever `encoder` does not know.
    """
    try:
        return _plain(value, encoder, 0)
    except _RefusedError as refused:
        raise InvalidValueError(name + "".join(reversed(refused.steps)), refused.reason) from None


def encode_default(value: Any) -> Any:
    """What perdure does with a value that is not JSON; `Settings.value_encoder` can replace it.

    datetime (aware), date, time → ISO text; timedelta → seconds; Decimal, UUID, path → text; Enum → its value;
    pydantic model → its `model_dump(mode="json")`; dataclass → map of its fields; set, tuple → list; numpy scalar and
    array → the Python number or lists that its `tolist()` gives.

    Raises:
        TypeError: the value is of none of these kinds.
    """
    match value:
        case enum.Enum():
            return value.value
        case dt.datetime() if value.tzinfo is None:
            raise TypeError("a datetime without time zone; use an aware one")
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case Decimal() | UUID() | PurePath():
            return str(value)
        case BaseModel():
            return value.model_dump(mode="json")
        case set() | frozenset():
            return sorted(value, key=repr)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        case _ if hasattr(value, "tolist") and hasattr(value, "dtype"):
            return value.tolist()
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} has no JSON form")


def repr_of(value: Any, *, limit: int) -> str:
    """The `repr` of a value that cannot be encoded, as text that can be: never raises, at most `limit` characters."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 (a broken __repr__ must not lose the work it describes)
        text = f"<{type(value).__qualname__} whose repr raises {type(error).__name__}>"
    text = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    return text if len(text) <= limit else text[: limit - 1] + "…"


class _RefusedError(Exception):
    """Why a value cannot be kept, and the way to it, innermost step first."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.steps: list[str] = []


def _plain(value: Any, encoder: ValueEncoder, depth: int) -> Any:
    # Exact types first: this walk is on the way of every write, and most of what it meets is one of these.
    kind = type(value)
    if kind is str:
        return value if value.isascii() and "\0" not in value else _text(value)
    if kind is int:
        return _whole(value)
    if kind is bool or value is None:
        return value
    if kind is float:
        if math.isfinite(value):
            return value
        raise _RefusedError(f"{value} is not JSON")
    if depth > MAX_DEPTH:
        raise _RefusedError(f"nested deeper than {MAX_DEPTH} levels, or a cycle")
    if kind is dict:
        return _plain_map(value, encoder, depth)
    if kind is list:
        return _plain_list(value, encoder, depth)
    return _plain_other(value, encoder, depth)


def _plain_map(value: Mapping[Any, Any], encoder: ValueEncoder, depth: int) -> dict[str, Any]:
    copy: dict[str, Any] = {}
    key: Any = None
    try:
        for key, item in value.items():
            if not isinstance(key, str):
                raise _RefusedError(f"keys must be text, not {type(key).__name__}")
            copy[_text(str.__str__(key))] = _plain(item, encoder, depth + 1)
    except _RefusedError as refused:
        refused.steps.append(f"[{key!r}]")
        raise
    return copy


def _plain_list(value: Sequence[Any], encoder: ValueEncoder, depth: int) -> list[Any]:
    copy: list[Any] = []
    try:
        for item in value:
            copy.append(_plain(item, encoder, depth + 1))
    except _RefusedError as refused:
        refused.steps.append(f"[{len(copy)}]")
        raise
    return copy


def _plain_other(value: Any, encoder: ValueEncoder, depth: int) -> Any:
    """Subclasses of JSON types, and whatever the encoder knows."""
    if isinstance(value, bytes | bytearray | memoryview):
        raise _RefusedError("bytes are not JSON; decode them, or encode them as base64 text")
    if isinstance(value, enum.Enum) or not isinstance(value, str | int | float | dict | list | tuple | Mapping):
        try:
            nearer = encoder(value)
        except (TypeError, ValueError) as error:
            raise _RefusedError(str(error)) from None
        except Exception as error:
            raise _RefusedError(f"encoding it raises {type(error).__name__}") from error
        return _plain(nearer, encoder, depth + 1)
    if isinstance(value, str):
        return _text(str.__str__(value))
    if isinstance(value, int):
        return _whole(int(value))
    if isinstance(value, float):
        return _plain(float(value), encoder, depth)
    if isinstance(value, Mapping):
        return _plain_map(value, encoder, depth)
    return _plain_list(value, encoder, depth)


def _whole(value: int) -> int:
    if -_ABOVE_ALL < value < _ABOVE_ALL:
        return value
    raise _RefusedError(f"a number of more than {MAX_DIGITS:,} digits")


def _text(value: str) -> str:
    if "\0" in value:
        raise _RefusedError("text with a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _RefusedError("text with a lone surrogate") from None
    return str(value)
