"""Whole months and days, which the roll-up has, and what is left of a period at its two ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from perdure.models import StatsFilter
from perdure.models.times import to_micros

__all__ = ["DAY", "Days", "day_of"]

DAY = 86_400_000_000
"""Microseconds of a day."""

FOREVER = 2**62

_EPOCH = date(1970, 1, 1)
_EVER = FOREVER // DAY


def day_of(instant: datetime) -> int:
    """The number of the day: 0 for 1970-01-01, in UTC."""
    return to_micros(instant) // DAY


@dataclass(frozen=True, slots=True)
class Days:
    """A period in parts: the days from `first` to before `end`, and what lies around them, in microseconds."""

    first: int
    end: int
    edges: tuple[tuple[int, int], ...]
    """From, to before."""

    @property
    def months(self) -> tuple[int, int]:
        """From which day to before which one there are whole months; the same twice where there are none."""
        start, stop = _first_of_month(self.first, later=True), _first_of_month(self.end, later=False)
        return (start, stop) if start < stop else (self.end, self.end)

    @classmethod
    def of(cls, wanted: StatsFilter) -> Days:
        """The parts of the period that a filter names."""
        since = -FOREVER if wanted.since is None else to_micros(wanted.since)
        until = FOREVER if wanted.until is None else to_micros(wanted.until)
        first, end = -(-since // DAY), until // DAY
        if first >= end:
            return cls(first, first, ((since, until),) if since < until else ())
        edges = ((since, first * DAY), (end * DAY, until))
        open_ended = (wanted.since is None, wanted.until is None)
        kept = (edge for edge, is_open in zip(edges, open_ended, strict=True) if not is_open and edge[0] < edge[1])
        return cls(first, end, tuple(kept))


def _first_of_month(day: int, *, later: bool) -> int:
    """The day itself where a month begins with it, else the first of its month, or of the one after it."""
    if abs(day) >= _EVER:
        return day
    try:
        at = _EPOCH + timedelta(days=day)
        first = at.replace(day=1)
        if later and first < at:
            first = (first + timedelta(days=31)).replace(day=1)
    except OverflowError:  # the last month that there is has begun
        return _EVER
    return (first - _EPOCH).days
