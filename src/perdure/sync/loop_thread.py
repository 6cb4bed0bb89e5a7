"""An event loop on a thread of its own, which opens something there, works with it for other threads, and closes it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeAlias, TypeVar

from perdure.errors import BackendClosedError, BackendUnavailableError, InvalidInputError

__all__ = ["LoopThread"]

T = TypeVar("T")
Started: TypeAlias = tuple[asyncio.AbstractEventLoop, asyncio.Event]

NAME = "store"
REMEDY = "use `with SessionStore.open(…) as store`"


class LoopThread:
    """Enters `opened` on a new thread, and runs there what any number of other threads want done.

    Raises: what entering raises; then no thread is left.
    """

    def __init__(self, opened: AbstractAsyncContextManager[object]) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._closed = True  # as long as it has not been opened
        self._ended: Future[None] = Future()
        started: Future[Started] = Future()
        # A daemon: a program that forgets to close ends all the same. What was acknowledged is kept either way.
        self._thread = threading.Thread(
            target=_serve, args=(opened, started, self._ended), name="perdure-loop", daemon=True
        )
        self._thread.start()
        try:
            self._loop, self._stop = started.result()
        except BaseException:
            started.cancel()  # interrupted: the thread closes what it has opened by then
            raise
        self._closed = False

    def call(self, work: Callable[[], Coroutine[Any, Any, T]], *, timeout_s: float | None = None) -> T:
        """The result of `work()`, awaited on the loop in the context (`contextvars`) of the caller.

        Whoever is interrupted while waiting cancels it there.

        Raises: what `work` raises
            BackendClosedError: nothing was done, or the loop was closed meanwhile.
            BackendUnavailableError: no answer within `timeout_s`; whether a write happened is not known.
            InvalidInputError: called from the loop's own thread, where waiting would never end.
        """
        self._refuse_other_processes()
        if threading.current_thread() is self._thread:
            raise InvalidInputError(
                "a hook, or whatever else runs on the thread of this store, would wait for itself; "
                "there, use the `async` store"
            )
        call = _Call(work, self._loop)
        try:
            return self._answer(call, timeout_s)
        except BaseException:
            call.give_up()
            raise

    def close(self) -> None:
        """Leave what was entered, and end the thread. Repeatable; without effect in a process forked meanwhile.

        Raises: what leaving raises; the thread has ended all the same.
        """
        if os.getpid() != self._process:
            return
        if threading.current_thread() is self._thread:
            raise InvalidInputError("a store is not to be closed by a hook of its own")
        with self._lock:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._ended.result()

    def __del__(self) -> None:
        if not self._closed and os.getpid() == self._process:
            warnings.warn("a perdure.sync.SessionStore was never closed", ResourceWarning, source=self, stacklevel=2)
            self._closed = True
            self._loop.call_soon_threadsafe(self._stop.set)  # not waited for: this may be the loop's own thread

    def _answer(self, call: _Call[T], timeout_s: float | None) -> T:
        with self._lock:
            if self._closed:
                raise BackendClosedError(NAME, f"not open; {REMEDY}")
            future = asyncio.run_coroutine_threadsafe(call.run(), self._loop)
        try:
            return future.result(timeout_s)
        except CancelledError:
            if not self._closed:
                raise
            raise BackendClosedError(NAME, "closed while the call was under way") from None
        except TimeoutError:
            if future.done():  # answered in the last moment, if only by a TimeoutError of its own
                return future.result()
            raise BackendUnavailableError(NAME, f"no answer within {timeout_s:g} s") from None

    def _refuse_other_processes(self) -> None:
        """Before any lock: in a forked process it may be held by a thread that does not exist there."""
        if os.getpid() != self._process:
            raise BackendClosedError(
                NAME,
                f"opened in process {self._process}, of which this one was forked: "
                "open a store after forking, in each process",
            )


class _Call(Generic[T]):
    """Work on its way to a loop, which may be given up at any moment.

    The future that handing it over gives is not enough for that: whoever is interrupted meanwhile does not have it.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]], loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._loop = loop
        self._given_up = False
        self._task: asyncio.Task[Any] | None = None

    async def run(self) -> T:
        if self._given_up:
            raise asyncio.CancelledError
        self._task = asyncio.current_task()
        return await self._work()

    def give_up(self) -> None:
        """Cancel it, from any thread, whether it has begun or not. Without effect on one that is over."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, which has cancelled whatever ran on it
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        self._given_up = True
        if self._task is not None:
            self._task.cancel()


def _serve(opened: AbstractAsyncContextManager[object], started: Future[Started], ended: Future[None]) -> None:
    """What the thread runs. It holds nothing of `LoopThread`, so that one that is forgotten can be noticed."""
    try:
        asyncio.run(_until_stopped(opened, started))
    except BaseException as error:  # noqa: BLE001 (whoever opened or closes it is told)
        if started.done():
            ended.set_exception(error)
        else:
            started.set_exception(error)
    finally:
        if not ended.done():
            ended.set_result(None)


async def _until_stopped(opened: AbstractAsyncContextManager[object], started: Future[Started]) -> None:
    async with opened:
        stop = asyncio.Event()
        try:
            started.set_result((asyncio.get_running_loop(), stop))
        except InvalidStateError:  # nobody waits for it any more
            return
        await stop.wait()
