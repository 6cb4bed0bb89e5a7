"""Whole days, which the roll-up has, and what is left of a period at its two ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from perdure.models import StatsFilter
from perdure.models.times import to_micros

__all__ = ["DAY", "Days", "day_of"]

DAY = 86_400_000_000
"""Microseconds of a day."""

FOREVER = 2**62


def day_of(instant: datetime) -> int:
    """The number of the day: 0 for 1970-01-01, in UTC."""
    return to_micros(instant) // DAY


@dataclass(frozen=True, slots=True)
class Days:
    """A period in parts, in microseconds: the days from `first` to before `end`, and what lies around them."""

    first: int
    end: int
    edges: tuple[tuple[int, int], ...]
    """From, to before."""

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
