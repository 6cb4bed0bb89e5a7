"""Whether processes have ended."""

from __future__ import annotations

import time
from collections.abc import Callable

from perdure.testing.servers.guard import has_ended

__all__ = ["becomes_true", "gone"]


def gone(pid: int) -> bool:
    """Whether a process ends within some seconds; one that only waits for its end to be noticed has ended."""
    return becomes_true(lambda: has_ended(pid))


def becomes_true(condition: Callable[[], bool], *, within_seconds: float = 20) -> bool:
    """Ask again and again until it is so, or until the time is up."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
