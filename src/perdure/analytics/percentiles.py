"""Percentiles of values that were counted by `perdure.models.measures.bucket_of`."""

from __future__ import annotations

from collections.abc import Mapping

from perdure.models.measures import middle_of

__all__ = ["percentile"]


def percentile(buckets: Mapping[int, int], percent: int) -> float | None:
    """The least value that at least `percent` of 100 of the values do not exceed; None where there are none.

    It is taken for the middle of its bucket, and so off by 1/32 of itself at most, and exact below 32.
    """
    total = sum(buckets.values())
    rank = max(1, -(-total * percent // 100))
    for bucket in sorted(buckets):
        rank -= buckets[bucket]
        if rank <= 0:
            return middle_of(bucket)
    return None
