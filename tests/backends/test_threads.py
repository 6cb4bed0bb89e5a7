"""The thread that work on SQLite is done on."""

from __future__ import annotations

import asyncio
import functools
import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest

from perdure.backends.sql.threads import WorkThread

PATIENCE_S = 20.0


def running(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


async def test_work_is_done_in_order_on_a_thread_of_its_own() -> None:
    thread, seen = WorkThread("order"), list[tuple[int, str]]()
    try:
        await asyncio.gather(
            *(
                thread.run(lambda number=number: seen.append((number, threading.current_thread().name)))  # type: ignore[misc]
                for number in range(50)
            )
        )
    finally:
        thread.end()
    assert seen == [(number, "order") for number in range(50)]


async def test_what_work_raises_reaches_its_caller_and_disturbs_no_other() -> None:
    thread = WorkThread("raises")
    try:
        with pytest.raises(ZeroDivisionError):
            await thread.run(lambda: 1 // 0)
        assert await thread.run(lambda: 42) == 42
    finally:
        thread.end()


async def test_work_whose_caller_was_cancelled_before_its_turn_is_not_begun() -> None:
    thread, gate, done = WorkThread("cancelled"), threading.Event(), list[str]()
    try:
        first = asyncio.create_task(thread.run(gate.wait))
        second = asyncio.create_task(thread.run(lambda: done.append("second")))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        gate.set()
        assert await first
        await thread.run(lambda: done.append("third"))
    finally:
        gate.set()
        thread.end()
    assert done == ["third"]


@pytest.mark.parametrize("fails", [True, False])
async def test_what_comes_of_work_whose_caller_was_cancelled_meanwhile_is_dropped(fails: bool) -> None:
    thread, began, gate, complaints = WorkThread("late"), threading.Event(), threading.Event(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))

    def work() -> float:
        began.set()
        gate.wait(PATIENCE_S)
        return 1 / (0 if fails else 1)

    try:
        caller = asyncio.create_task(thread.run(work))
        assert await asyncio.to_thread(began.wait, PATIENCE_S)
        caller.cancel()
        await asyncio.wait([caller])
        gate.set()
        assert await thread.run(lambda: 42) == 42
    finally:
        gate.set()
        thread.end()
    assert complaints == []


async def test_what_work_held_is_let_go_while_the_thread_waits() -> None:
    class Large:
        """Stands for a page of sessions."""

    def size_of(held: Large) -> int:
        return 1 if isinstance(held, Large) else 0

    thread, large = WorkThread("lets go"), Large()
    held = weakref.ref(large)
    try:
        assert await thread.run(functools.partial(size_of, large)) == 1
        del large
        deadline = time.monotonic() + PATIENCE_S
        while held() is not None and time.monotonic() < deadline:
            gc.collect()
        assert held() is None
    finally:
        thread.end()


def test_a_process_does_not_wait_for_a_thread_that_nobody_ended() -> None:
    program = "from perdure.backends.sql.threads import WorkThread; kept = WorkThread('kept')"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE_S)


def test_a_loop_that_was_closed_meanwhile_does_not_end_the_thread() -> None:
    thread, gate, landed = WorkThread("closed loop"), threading.Event(), list[bool]()

    async def leave() -> None:
        thread.start(lambda: gate.wait(PATIENCE_S), landed.append)

    async def ask() -> int:
        return await thread.run(lambda: 42)

    try:
        asyncio.run(leave())
        gate.set()
        assert asyncio.run(ask()) == 42
    finally:
        thread.end()
    assert landed == []


async def test_ending_waits_for_what_was_given_and_can_be_repeated() -> None:
    thread, done = WorkThread("ends"), list[int]()
    thread.start(lambda: done.append(1), lambda _: None)
    thread.end()
    thread.end()
    assert (done, running("ends")) == ([1], [])


async def test_a_thread_that_nobody_holds_any_more_ends() -> None:
    thread = WorkThread("forgotten")
    assert await thread.run(lambda: len(running("forgotten"))) == 1
    del thread
    deadline = time.monotonic() + PATIENCE_S
    while running("forgotten") and time.monotonic() < deadline:
        gc.collect()
    assert running("forgotten") == []
