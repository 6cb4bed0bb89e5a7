"""A clock that stands still until it is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from perdure.models.times import to_utc

__all__ = ["ManualClock"]


class ManualClock:
    """Gives the instant that it was set to: `SessionStore.open(…, clock=ManualClock())`."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = to_utc(start)

    def __call__(self) -> datetime:
        """The instant it was set to."""
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move it, forward or back; gives the new instant."""
        self._now += by
        return self._now

    def set(self, instant: datetime) -> None:
        """Put it to an instant."""
        self._now = to_utc(instant)
