"""One thread for work that blocks: less than an executor, since it is on the way of every call."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["WorkThread"]

T = TypeVar("T")
Jobs = SimpleQueue[Callable[[], None] | None]


class WorkThread:
    """Does what it is given on a thread of its own, in the order given.

    The thread ends with `end`, with this object, or with the process, which does not wait for it. An executor of one
    thread makes two futures and a lock for each piece of work, which costs as much again as handing it over.
    """

    def __init__(self, name: str) -> None:
        self._jobs: Jobs = SimpleQueue()
        self._thread = threading.Thread(target=_work_through, args=(self._jobs,), name=name, daemon=True)
        self._thread.start()
        self._end = weakref.finalize(self, self._jobs.put, None)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, or what it raises. It is not begun if the caller was cancelled before its turn."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            if outcome.cancelled():
                return
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 (it is raised where the result is awaited)
                _tell(loop, _fail, outcome, error)
            else:
                _tell(loop, _succeed, outcome, result)

        self._jobs.put(job)
        return await outcome

    def start(self, work: Callable[[], T], landed: Callable[[T], None]) -> None:
        """Let `landed` be called with the result of `work` in the running loop; `work` must not raise."""
        loop = asyncio.get_running_loop()
        self._jobs.put(lambda: _tell(loop, landed, work()))

    def end(self, *, wait: bool = True) -> None:
        """End the thread once it has done what it was given, and wait for that if wanted. Repeatable."""
        self._end()
        if wait:
            self._thread.join()


def _work_through(jobs: Jobs) -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # waiting for the next one must not keep what the last one held


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[..., None], *facts: Any) -> None:
    with suppress(RuntimeError):  # the loop was closed meanwhile: nobody is left to hear of it
        loop.call_soon_threadsafe(what, *facts)


def _succeed(outcome: asyncio.Future[T], result: T) -> None:
    if not outcome.done():
        outcome.set_result(result)


def _fail(outcome: asyncio.Future[Any], error: BaseException) -> None:
    if not outcome.done():
        outcome.set_exception(error)
