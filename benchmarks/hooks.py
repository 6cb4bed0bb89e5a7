"""What a hook costs to which nobody listens."""

from __future__ import annotations

import timeit
from statistics import median

from benchmarks.measuring import Row
from perdure.store.hooks import HookRelay

CALLS = 10_000
TARGET_S = 1e-6


def unheard() -> list[Row]:
    """The question whether anybody listens, which is all that is done then."""
    hooks = HookRelay(timeout_seconds=1)
    took_s = median(timeit.repeat(lambda: hooks.listens("query_tracked"), number=CALLS, repeat=50)) / CALLS
    return [Row("a hook to which nobody listens", "–", f"{took_s * 1e6:.2f} µs", "–", "≤ 1 µs", took_s <= TARGET_S)]
