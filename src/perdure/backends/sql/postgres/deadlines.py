"""Time-outs for many short calls: one timer looks after all of them, to within half a second."""

from __future__ import annotations

import asyncio
from types import TracebackType

__all__ = ["Deadlines"]

LOOK_S = 0.5
"""How often the timer looks while something is under way."""


class Deadlines:
    """Ends what takes too long, as `asyncio.timeout` does, without making a timer for each call."""

    def __init__(self) -> None:
        self._watched: set[_Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def until(self, deadline: float) -> _Watched:
        """Raises `TimeoutError` in a block that is not left when the loop's clock passes `deadline`."""
        return _Watched(self, deadline)

    def watch(self, watched: _Watched) -> None:
        """Begin to look after a block."""
        self._watched.add(watched)
        if self._timer is None:
            self._look()

    def let_go(self, watched: _Watched) -> None:
        """End to look after it."""
        self._watched.discard(watched)

    def _look(self) -> None:
        self._timer = None
        if not self._watched:
            return
        loop = asyncio.get_running_loop()
        now, pause = loop.time(), LOOK_S
        for watched in self._watched:
            if watched.deadline > now:
                pause = min(pause, watched.deadline - now)
            else:
                watched.expire()
        self._timer = loop.call_later(max(pause, 0.001), self._look)


class _Watched:
    """A block with a deadline."""

    __slots__ = ("_deadlines", "_expired", "_requests", "_task", "deadline")

    def __init__(self, deadlines: Deadlines, deadline: float) -> None:
        self.deadline = deadline
        self._deadlines = deadlines
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._requests = task.cancelling()
        self._deadlines.watch(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._deadlines.let_go(self)
        # Unless somebody else wants the task cancelled as well.
        if self._expired and self._task.uncancel() <= self._requests and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Interrupt the block."""
        if not self._expired:
            self._expired = True
            self._task.cancel()
