"""Metrics of sessions as files: JSON, JSON lines, and CSV that no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any, BinaryIO, Literal, Protocol, get_args

from perdure.errors import InvalidInputError
from perdure.models import SessionMetrics

__all__ = ["ExportFormat", "checked_format", "write_metrics"]

ExportFormat = Literal["json", "jsonl", "csv"]

_FORMULA = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""What a cell begins with that a spreadsheet takes for more than text; the last four are those of East Asian width."""


def checked_format(given: str) -> ExportFormat:
    """The format of that name.

    Raises:
        InvalidInputError: there is none.
    """
    for known in get_args(ExportFormat):
        if given == known:
            return known  # type: ignore[no-any-return]
    raise InvalidInputError(f"format must be 'json', 'jsonl' or 'csv', not {given!r}")


async def write_metrics(
    metrics: AsyncIterable[SessionMetrics],
    stream: BinaryIO,
    *,
    form: ExportFormat,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write the metrics of sessions, and tell how many they were; `progress` is told how many there are so far."""
    writer = _WRITERS[form](stream)
    count = 0
    writer.begin()
    async for each in metrics:
        writer.write(each)
        count += 1
        progress(count)
    writer.end()
    return count


class _Writer(Protocol):
    def begin(self) -> None: ...
    def write(self, metrics: SessionMetrics) -> None: ...
    def end(self) -> None: ...


class _JsonLines:
    """One object a line."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def begin(self) -> None:
        pass

    def write(self, metrics: SessionMetrics) -> None:
        self._stream.write(_json(metrics) + b"\n")

    def end(self) -> None:
        pass


class _Json:
    """One list of objects, one a line."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._between = b"\n"

    def begin(self) -> None:
        self._stream.write(b"[")

    def write(self, metrics: SessionMetrics) -> None:
        self._stream.write(self._between + _json(metrics))
        self._between = b",\n"

    def end(self) -> None:
        self._stream.write(b"\n]\n")


class _Csv:
    """A line of names, then one line for each session; lists and counts in one cell, parted by semicolons."""

    def __init__(self, stream: BinaryIO) -> None:
        self._rows = csv.DictWriter(_Encoded(stream), list(SessionMetrics.model_fields))

    def begin(self) -> None:
        self._rows.writeheader()

    def write(self, metrics: SessionMetrics) -> None:
        self._rows.writerow({name: _cell(value) for name, value in metrics.model_dump(mode="json").items()})

    def end(self) -> None:
        pass


class _Encoded:
    """Text that goes into a stream as UTF-8. A `TextIOWrapper` would close the stream when it is forgotten."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(text.encode())


_WRITERS: Mapping[str, Callable[[BinaryIO], _Writer]] = {"json": _Json, "jsonl": _JsonLines, "csv": _Csv}


def _json(metrics: SessionMetrics) -> bytes:
    return json.dumps(metrics.model_dump(mode="json"), ensure_ascii=False, allow_nan=False).encode()


def _cell(value: Any) -> Any:
    match value:
        case str():
            return _text(value)
        case list():
            return _joined(map(_text, value))
        case dict():
            return _joined(f"{_text(name)}={count}" for name, count in value.items())
        case _:
            return value


def _text(value: str) -> str:
    """The text, behind an apostrophe where a spreadsheet would take it for a formula."""
    return f"'{value}" if value.lstrip(" ")[:1] in _FORMULA and value else value


def _joined(parts: Iterable[str]) -> str:
    return "; ".join(parts)
