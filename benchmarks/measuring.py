"""How things are timed: interleaved, warm, medians; ratios count, not numbers."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Timing:
    """Microseconds of one call."""

    p50: float
    p99: float


@dataclass(frozen=True)
class Row:
    """One line of the results; `met` is None where there is no target."""

    work: str
    raw: str
    perdure: str
    ratio: str
    target: str
    met: bool | None


async def interleaved(calls: dict[str, Call], *, rounds: int, block: int = 25) -> dict[str, Timing]:
    """Time each call `rounds` times, in alternating blocks, so that whatever else the machine does hits all alike."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(block):
            await call()
    gc.collect()
    for _ in range(max(1, rounds // block)):
        for name, call in calls.items():
            for _ in range(block):
                began = time.perf_counter()
                await call()
                samples[name].append((time.perf_counter() - began) * 1e6)
    return {name: summary(times) for name, times in samples.items()}


def summary(times: list[float]) -> Timing:
    """Median and 99th percentile of microseconds."""
    ordered = sorted(times)
    return Timing(statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))])


def at_most(ratio: float, limit: float) -> tuple[str, bool]:
    """The text of an upper target, and whether it is met."""
    return f"≤ {limit:g}", ratio <= limit


def at_least(ratio: float, limit: float) -> tuple[str, bool]:
    """The text of a lower target, and whether it is met."""
    return f"≥ {limit:g}", ratio >= limit
