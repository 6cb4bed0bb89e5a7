"""Percentiles from buckets, against the exact ones."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perdure.analytics.percentiles import percentile
from perdure.models.measures import MEASURED_MOST, bucket_of, micros_of

PERCENTS = (50, 95, 99)


def exact(values: list[int], percent: int) -> int:
    """The least value that so many of a hundred do not exceed: the definition, spelt out."""
    return next(
        value for value in sorted(values) if 100 * sum(each <= value for each in values) >= percent * len(values)
    )


wide = st.integers(0, 43).flatmap(lambda bits: st.integers(0, 2**bits))


@given(st.lists(wide, min_size=1, max_size=60), st.sampled_from(PERCENTS))
@example([32], 50)
@example([MEASURED_MOST], 99)
@example([0] * 99 + [1000], 99)
def test_a_percentile_is_off_by_a_thirtysecond_of_itself_at_most(values: list[int], percent: int) -> None:
    found = percentile(Counter(map(bucket_of, values)), percent)
    assert found is not None
    assert abs(found - exact(values, percent)) <= exact(values, percent) / 32


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=40), st.sampled_from(PERCENTS))
def test_of_milliseconds_it_is_off_by_half_a_microsecond_more(values: list[float], percent: int) -> None:
    found = percentile(Counter(bucket_of(micros_of(value)) for value in values), percent)
    assert found is not None
    truth = sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]
    assert abs(found / 1000 - truth) <= truth / 32 + 0.0005 * (1 + 1 / 32)


@given(st.lists(st.integers(0, 31), min_size=1), st.sampled_from(PERCENTS))
def test_of_small_numbers_it_is_exact(values: list[int], percent: int) -> None:
    assert percentile(Counter(values), percent) == exact(values, percent)


@pytest.mark.parametrize("percent", PERCENTS)
def test_of_nothing_there_is_none(percent: int) -> None:
    assert percentile({}, percent) is None


def test_the_ranks_are_those_of_the_definition() -> None:
    values = dict.fromkeys(range(20), 1)
    assert [percentile(values, percent) for percent in (50, 95, 99, 100)] == [9, 18, 19, 19]
