"""One thread behind a store, many before it: what they share, how it ends, and what an interruption leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.sync.stores import QUIET, Stuck, eventually, opened, price, url_of

from perdure import Session, hookimpl
from perdure import store as aio
from perdure.backends import MemoryBackend
from perdure.errors import (
    BackendClosedError,
    BackendUnavailableError,
    ConfigurationError,
    InvalidInputError,
    SchemaError,
)
from perdure.sync import SessionStore
from perdure.testing import Fault, FaultyBackend, Moment

POSIX = pytest.mark.skipif(os.name == "nt", reason="fork and signals as on POSIX")


# Many threads ------------------------------------------------------------------------------------------


def test_of_fifty_threads_that_track_at_once_none_loses_a_query(store: SessionStore) -> None:
    session, ready = store.create_session(["A"], "equity"), threading.Barrier(50)

    def work(thread: int) -> list[int]:
        ready.wait()
        positions = []
        for number in range(10):
            with store.tracking(session.id, "price", {"thread": thread, "number": number}) as query:
                pass
            assert query.tracked is not None, query.failure
            positions.append(query.tracked.position)
        return positions

    with ThreadPoolExecutor(50) as pool:
        positions = list(pool.map(work, range(50)))

    queries = store.get_queries(session.id, limit=1000)
    assert [query.position for query in queries] == list(range(1, 501))
    for thread, mine in enumerate(positions):
        assert mine == sorted(mine)
        assert [queries[position - 1].parameters for position in mine] == [
            {"thread": thread, "number": number} for number in range(10)
        ]


def test_one_thread_serves_a_store_and_it_ends_with_it() -> None:
    before = set(threading.enumerate())
    with SessionStore.open("memory://", settings=QUIET) as store:
        store.create_session(["A"], "equity")
        store.for_user("ann").create_session(["A"], "equity")
        assert [thread.name for thread in set(threading.enumerate()) - before] == ["perdure-loop"]

    assert set(threading.enumerate()) <= before


def test_plugins_see_the_context_of_the_thread_that_called() -> None:
    request: ContextVar[str] = ContextVar("request")
    seen: list[tuple[str, str]] = []

    class Looks:
        @hookimpl
        async def session_created(self) -> None:
            seen.append((request.get("none"), threading.current_thread().name))

    with SessionStore.open("memory://", settings=QUIET, plugins=[Looks()]) as store:
        request.set("42")
        store.create_session(["A"], "equity")

    assert seen == [("42", "perdure-loop")]


def test_a_hook_that_would_wait_for_itself_is_told_so() -> None:
    refused: list[Exception] = []

    class Echo:
        store: SessionStore

        @hookimpl
        def session_created(self, session: Session) -> None:
            for call in (self.store.health, self.store.close):
                try:
                    call()
                except InvalidInputError as error:
                    refused.append(error)

    echo = Echo()
    with SessionStore.open("memory://", settings=QUIET, plugins=[echo]) as store:
        echo.store = store
        store.create_session(["A"], "equity")

    assert len(refused) == 2


# Opening and closing -----------------------------------------------------------------------------------


def test_what_cannot_be_opened_says_why_and_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    (tmp_path / "kept.db").write_text("this is no database, and long enough to tell" * 50)

    with pytest.raises(SchemaError):
        SessionStore.open(url_of(tmp_path), settings=QUIET)
    with pytest.raises(ConfigurationError):
        SessionStore.open("carrier-pigeon://")

    eventually(lambda: set(threading.enumerate()) <= before)


def test_after_closing_nothing_is_done(store: SessionStore, session: Session) -> None:
    ann = store.for_user("ann")
    store.close()
    store.close()

    calls: list[Callable[[], object]] = [
        lambda: store.get_session(session.id),
        lambda: ann.get_session(session.id),
        store.health,
    ]
    for call in calls:
        with pytest.raises(BackendClosedError, match="with SessionStore"):
            call()


def test_writes_under_way_are_finished_before_it_is_closed(tmp_path: Path) -> None:
    store = SessionStore.open(url_of(tmp_path), settings=QUIET)
    session = store.create_session(["A"], "equity")

    def work() -> int:
        tracked = 0
        try:
            while True:
                tracked = store.track_query(session.id, price()).position
        except BackendClosedError:
            return tracked

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work) for _ in range(4)]
        eventually(lambda: store.get_totals().total_queries > 20)
        store.close()
        acknowledged = max(done.result(timeout=30) for done in working)

    with SessionStore.open(url_of(tmp_path), settings=QUIET) as again:
        assert again.get_totals().total_queries >= acknowledged > 20


def test_a_call_that_is_under_way_when_it_is_closed_is_told_so() -> None:
    stuck = Stuck()
    store = opened(stuck)
    session = store.create_session(["A"], "equity")
    stuck.held = True
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(store.get_session, session.id)
        assert stuck.arrived.wait(10)

        store.close()

        with pytest.raises(BackendClosedError, match="under way"):
            reading.result(timeout=10)


def test_what_closing_raises_is_raised() -> None:
    class Fails(FaultyBackend):
        async def aclose(self) -> None:
            raise BackendUnavailableError("mine", "the cable is out")

    store = opened(Fails(MemoryBackend()))

    with pytest.raises(BackendUnavailableError, match="cable"):
        store.close()


def test_one_that_is_forgotten_is_complained_of_and_closed() -> None:
    before = set(threading.enumerate())
    store = SessionStore.open("memory://", settings=QUIET)
    store.create_session(["A"], "equity")

    stores = [store]
    del store
    with pytest.warns(ResourceWarning, match="never closed"):
        stores.clear()

    eventually(lambda: set(threading.enumerate()) <= before)


# Being interrupted -------------------------------------------------------------------------------------


def test_a_verb_that_takes_too_long_is_given_up_and_the_store_goes_on() -> None:
    stuck = Stuck()
    with opened(stuck, timeout=timedelta(seconds=0.05)) as store:
        session = store.create_session(["A"], "equity")
        stuck.held = True
        with pytest.raises(BackendUnavailableError, match=r"no answer within 0\.05 s"):
            store.get_session(session.id)
        with store.for_user("nobody").tracking(session.id, "price") as query:
            pass
        stuck.held = False

        assert isinstance(query.failure, BackendUnavailableError)
        assert store.get_session(session.id) is not None
        assert stuck.cancelled >= 1


def test_a_time_out_of_the_work_itself_is_not_taken_for_one_of_the_call() -> None:
    async def times_out(_: aio.SessionStore) -> None:
        raise TimeoutError("its own")

    with opened(Stuck(), timeout=timedelta(seconds=5)) as store, pytest.raises(TimeoutError, match="its own"):
        store.run(times_out)


def test_an_answer_that_comes_just_when_the_time_is_up_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    submit = asyncio.run_coroutine_threadsafe

    def answered_too_late(work: Any, loop: asyncio.AbstractEventLoop) -> Future[Any]:
        future = submit(work, loop)
        result = future.result

        def time_is_up(timeout: float | None = None) -> Any:
            answer = result()
            if timeout is not None:
                raise TimeoutError
            return answer

        monkeypatch.setattr(future, "result", time_is_up)
        return future

    with opened(FaultyBackend(MemoryBackend()), timeout=timedelta(seconds=5)) as store:
        monkeypatch.setattr("perdure.sync.loop_thread.asyncio.run_coroutine_threadsafe", answered_too_late)
        assert store.create_session(["A"], "equity").version == 1


def test_a_call_that_is_cancelled_on_its_loop_says_so() -> None:
    faulty = FaultyBackend(MemoryBackend(), [Fault(1, Moment.CANCEL_BEFORE, "read")])
    with opened(faulty) as store:
        with pytest.raises(Exception, match=r"^$") as caught:
            store.get_session(UUID(int=1))
        assert type(caught.value).__name__ == "CancelledError"
        assert store.get_session(UUID(int=1)) is None


@POSIX
def test_whoever_presses_ctrl_c_is_free_at_once_and_the_call_is_cancelled() -> None:
    stuck = Stuck()
    with opened(stuck) as store:
        session = store.create_session(["A"], "equity")
        stuck.arrived.clear()
        stuck.held = True

        def press() -> None:
            assert stuck.arrived.wait(10)
            os.kill(os.getpid(), signal.SIGINT)

        finger = threading.Thread(target=press)
        finger.start()
        with pytest.raises(KeyboardInterrupt):
            store.get_session(session.id)
        finger.join()

        eventually(lambda: stuck.cancelled == 1)
        stuck.held = False
        assert store.get_session(session.id) is not None


def test_whoever_is_interrupted_while_handing_a_call_over_has_cancelled_it(monkeypatch: pytest.MonkeyPatch) -> None:
    submit = asyncio.run_coroutine_threadsafe
    stuck = Stuck()

    def interrupted(work: Any, loop: asyncio.AbstractEventLoop) -> Future[Any]:
        submit(work, loop)
        assert stuck.arrived.wait(10)
        raise KeyboardInterrupt

    with opened(stuck) as store:
        stuck.held = True
        with monkeypatch.context() as patched:
            patched.setattr("perdure.sync.loop_thread.asyncio.run_coroutine_threadsafe", interrupted)
            with pytest.raises(KeyboardInterrupt):
                store.get_session(UUID(int=1))

        eventually(lambda: stuck.cancelled == 1)


def test_a_call_that_is_given_up_before_it_began_never_begins() -> None:
    stuck, busy, free = Stuck(), threading.Event(), threading.Event()

    async def keep_the_loop_busy(_: aio.SessionStore) -> None:
        busy.set()
        free.wait(10)

    with opened(stuck, timeout=timedelta(seconds=0.01)) as store, ThreadPoolExecutor(1) as pool:
        keeping = pool.submit(store.run, keep_the_loop_busy)
        assert busy.wait(10)
        with pytest.raises(BackendUnavailableError):
            store.get_session(UUID(int=1))
        free.set()
        keeping.result()
        store.run(lambda _: asyncio.sleep(0))

    assert not stuck.arrived.is_set()


# Processes ---------------------------------------------------------------------------------------------


def child(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@POSIX
def test_a_forked_process_is_told_to_open_its_own_and_disturbs_nobody(tmp_path: Path) -> None:
    ran = child(
        """
        import os, sys
        from perdure import Settings
        from perdure.errors import BackendClosedError
        from perdure.sync import SessionStore
        with SessionStore.open("sqlite:///kept.db", settings=Settings(sweep_on_open=False)) as store:
            session = store.create_session(["A"], "equity")
            if (child := os.fork()) == 0:
                try:
                    store.get_session(session.id)
                except BackendClosedError as error:
                    print(error, flush=True)
                with store.tracking(session.id, "price") as query:
                    pass
                print(type(query.failure).__name__, flush=True)
                store.close()
                with SessionStore.open("memory://") as own:
                    print(own.health().ok, flush=True)
                sys.exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            print(store.get_session(session.id) == session)
        """,
        tmp_path,
    )

    said, *seen = ran.stdout.splitlines()
    assert "this one was forked: open a store after forking, in each process" in said
    assert (seen, ran.returncode) == (["BackendClosedError", "True", "7", "True"], 0), ran.stderr


def test_a_program_that_forgets_to_close_ends_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    ran = child(
        """
        from perdure import Settings
        from perdure.sync import SessionStore
        store = SessionStore.open("sqlite:///kept.db", settings=Settings(sweep_on_open=False))
        print(store.create_session(["A"], "equity").id)
        """,
        tmp_path,
    )

    assert (ran.stderr, ran.returncode) == ("", 0)
    with SessionStore.open(url_of(tmp_path), settings=QUIET) as store:
        assert store.get_session(ran.stdout.strip()) is not None
