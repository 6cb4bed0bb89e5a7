"""A period in months, days and what is left at its ends: all of it, and nothing twice."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perdure.backends.sql.periods import DAY, Days, day_of
from perdure.models import StatsFilter
from perdure.models.times import from_micros, to_micros

instants = st.integers(-60 * DAY, 365 * 61 * DAY).map(from_micros)
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


def parts_of(since: datetime | None, until: datetime | None, at: datetime) -> list[str]:
    """The parts of the period in which an instant is."""
    days = Days.of(StatsFilter(since=since, until=until))
    start, stop = days.months
    day, micros = day_of(at), to_micros(at)
    if start < stop:
        assert days.first <= start
        assert stop <= days.end
    found = ["days" for low, high in ((days.first, start), (stop, days.end)) if low <= day < high]
    found += ["months"] if start <= day < stop else []
    return found + ["edge" for low, high in days.edges if low <= micros < high]


@given(st.none() | instants, st.none() | instants, instants)
@example(MIDNIGHT, MIDNIGHT, MIDNIGHT)
@example(MIDNIGHT, MIDNIGHT + timedelta(days=31), MIDNIGHT + timedelta(days=30))
@example(None, None, MIDNIGHT)
@example(MIDNIGHT + timedelta(hours=1), MIDNIGHT + timedelta(hours=2), MIDNIGHT + timedelta(minutes=90))
@example(datetime(1970, 1, 1, 1, tzinfo=UTC), None, datetime(1969, 12, 31, 23, tzinfo=UTC))
@example(datetime(9999, 12, 15, tzinfo=UTC), None, datetime(9999, 12, 20, tzinfo=UTC))
@example(datetime.max.replace(tzinfo=UTC), None, MIDNIGHT)
@example(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
def test_every_instant_of_a_period_is_in_one_part_and_no_other_in_any(
    since: datetime | None, until: datetime | None, at: datetime
) -> None:
    within = (since is None or at >= since) and (until is None or at < until)
    assert len(parts_of(since, until, at)) == within


@given(instants, instants)
def test_months_are_whole(since: datetime, until: datetime) -> None:
    for day in set(Days.of(StatsFilter(since=since, until=until)).months):
        months = Days.of(StatsFilter(since=since, until=until)).months
        assert months[0] == months[1] or from_micros(day * DAY).day == 1


@pytest.mark.parametrize(
    ("since", "until", "months"),
    [
        (date(2026, 1, 1), date(2027, 1, 1), (date(2026, 1, 1), date(2027, 1, 1))),
        (date(2026, 1, 2), date(2026, 12, 31), (date(2026, 2, 1), date(2026, 12, 1))),
        (date(2026, 1, 2), date(2026, 2, 28), None),
        (date(2026, 12, 1), date(2026, 12, 31), None),
    ],
)
def test_a_year_is_taken_by_the_month(since: date, until: date, months: tuple[date, date] | None) -> None:
    start, stop = (datetime(at.year, at.month, at.day, tzinfo=UTC) for at in (since, until))
    days = Days.of(StatsFilter(since=start, until=stop))
    assert days.edges == ()
    expected = (days.end, days.end) if months is None else tuple((at - date(1970, 1, 1)).days for at in months)
    assert days.months == expected
