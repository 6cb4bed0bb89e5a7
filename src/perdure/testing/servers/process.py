"""One server: a process that is started, stalled, killed and started again at will."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from perdure.testing.servers.errors import ServerError
from perdure.testing.servers.guard import Guard, all_ended, children_of

__all__ = ["LocalServer"]

T = TypeVar("T")

START_SECONDS = 30
END_SECONDS = 30
POLL_SECONDS = 0.01

_PORT_TAKEN = "Address already in use"


class LocalServer(ABC):
    """What all servers of this package can do. Not safe for use by several threads at once.

    It listens on 127.0.0.1 only. Its data stay where they are, and its port the same, from the first start to `close`;
    a folder of its own is removed then. A given one is kept, and remembers the port for the next one to start there.
    It never outlives this process, even if that is killed.
    """

    kind: ClassVar[str]
    _end_signal: ClassVar[signal.Signals]
    """Ends it with everything written."""
    _abort_signal: ClassVar[signal.Signals] = signal.SIGKILL
    """Ends it fast, where its data are removed anyhow, and leaves nothing elsewhere."""

    def __init__(self, *, folder: str | os.PathLike[str] | None = None, port: int | None = None) -> None:
        self._given_folder = None if folder is None else Path(folder).absolute()
        self._given_port = port
        self._folder = self._given_folder
        self._port = port
        self._guard: Guard | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._has_been_up = False

    # Facts -------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Where its data and its log are."""
        return self._known(self._folder)

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return self._known(self._port)

    @property
    def pid(self) -> int:
        """The id of its process, while it runs."""
        return self._running_process().pid

    @property
    def running(self) -> bool:
        """Whether there is a process; a stopped one counts."""
        if self._process is not None and self._process.poll() is not None:
            self._forget_process()
        return self._process is not None

    @property
    def stopped(self) -> bool:
        """Whether it was stopped, and not resumed since."""
        return self.running and self._stopped

    @property
    def log_path(self) -> Path:
        """The file to which it writes what it has to say."""
        return self.folder / "server.log"

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it is."""

    # Verbs -------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start it, and return when it answers; does nothing while it runs. About 0.1 s, Postgres at first about 1 s.

        Raises:
            ServerError: it does not start; the message has the end of its log.
        """
        if self.running:
            return self
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix=f"perdure-{self.kind}-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._guard is None:
            self._guard = Guard(first=self._abort_signal)
            if self._is_temporary:
                self._guard.remove_at_the_end(self._folder)
        if self._port is None and self._port_file.exists():
            self._port = int(self._port_file.read_text())
        self._prepare()
        self._start_until(time.monotonic() + START_SECONDS)
        return self

    def stop(self) -> None:
        """SIGSTOP: it keeps its connections and its port, and answers nobody until `resume`."""
        pid = self._running_process().pid
        self._stopped = True
        os.kill(pid, signal.SIGSTOP)
        stopped: set[int] = set()
        while more := children_of(pid) - stopped:
            _signal_all(more, signal.SIGSTOP)
            stopped |= more

    def resume(self) -> None:
        """SIGCONT: it goes on where it was; does nothing to one that was not stopped."""
        self._wake(self._running_process().pid)

    def kill(self) -> None:
        """SIGKILL, to its children too: whatever it had not handed to the system is lost. Returns when it is gone."""
        process = self._running_process()
        self.stop()  # so that it starts no child unseen
        children = children_of(process.pid)
        _signal_all({process.pid, *children}, signal.SIGKILL)
        process.wait()
        self._forget_process()
        # They may hold its port and what they share for as long as they have not heard of their end.
        if not all_ended(children, within_seconds=END_SECONDS):
            raise ServerError(f"children of {self.kind} are still there {END_SECONDS} s after SIGKILL")

    def terminate(self) -> None:
        """Let it end cleanly, everything written; does nothing if it does not run. Its data stay for `start`.

        Raises:
            ServerError: it had to be killed.
        """
        self._ask_to_end(self._end_signal)
        self._wait_for_end()

    def restart(self) -> Self:
        """Start it again on the same port and data, after `kill` or `terminate`; one that runs is terminated first."""
        self.terminate()
        return self.start()

    def close(self) -> None:
        """Let it end, and remove the folder if that is its own; repeatable."""
        try:
            self._ask_to_end(self._abort_signal if self._is_temporary else self._end_signal)
            self._wait_for_end()
        finally:
            if self._guard is not None:
                self._guard.close()  # removes the folder, if that is to be removed
                self._guard = None
            if self._is_temporary and self._folder is not None and self._folder.exists():
                shutil.rmtree(self._folder)  # it could not; this says why
            self._folder, self._port = self._given_folder, self._given_port

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"pid={self.pid}" if self.running else "not running"
        return f"<{type(self).__name__} port={self._port} {state}>"

    # What a kind of server supplies ------------------------------------------------------------------

    def _prepare(self) -> None:
        """Make what must be there before the first start; called before each."""
        return

    @abstractmethod
    def _command(self, port: int) -> Sequence[str | os.PathLike[str]]:
        """The program and its arguments."""

    @abstractmethod
    def _answers(self, process: subprocess.Popen[bytes], port: int) -> bool:
        """Whether it, and not another on that port, takes requests."""

    @abstractmethod
    def _free_port(self) -> int:
        """A port for it."""

    @property
    def _cwd(self) -> Path:
        """Where it runs."""
        return self.folder

    @property
    def _who(self) -> Mapping[str, Any]:
        """The user that it runs as, as `Popen` wants it."""
        return {}

    def _may_start_later(self, said: str) -> bool:
        """Whether what it said at its end is a reason that passes by itself."""
        chosen_by_us = self._given_port is None or self._has_been_up
        return chosen_by_us and _PORT_TAKEN in said

    # -------------------------------------------------------------------------------------------------

    def _start_until(self, deadline: float) -> None:
        while True:
            port = self._free_port() if self._port is None else self._port
            said_before = self.log_path.stat().st_size if self.log_path.exists() else 0
            self._launch(port)
            if self._answers_by(deadline, port):
                self._port, self._has_been_up = port, True
                self._port_file.write_text(f"{port}\n")
                return
            said = self.log_path.read_bytes()[said_before:].decode(errors="replace")
            ended = not self.running
            self._end_now()
            if not ended or not self._may_start_later(said) or time.monotonic() > deadline:
                raise ServerError(f"{self.kind} did not start on port {port}; it said:\n{said[-2000:]}")
            if not self._has_been_up:
                self._port = self._given_port  # a remembered one is taken: another will do
            time.sleep(POLL_SECONDS)

    @property
    def _port_file(self) -> Path:
        return self.folder / "port"

    def _launch(self, port: int) -> None:
        assert self._guard is not None
        env = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}  # what it says is read here
        with self.log_path.open("ab") as log:
            self._process = self._guard.launch(self._command(port), log=log, cwd=self._cwd, env=env, **self._who)

    def _answers_by(self, deadline: float, port: int) -> bool:
        while time.monotonic() < deadline:
            process = self._process
            if process is None or not self.running:
                return False
            if self._answers(process, port):
                return True
            time.sleep(POLL_SECONDS)
        return False

    @property
    def _is_temporary(self) -> bool:
        return self._given_folder is None

    def _ask_to_end(self, by: signal.Signals) -> None:
        if self.running:
            pid = self.pid
            _signal_all({pid}, by)
            self._wake(pid)  # one that was stopped hears of it only then

    def _wake(self, pid: int) -> None:
        _signal_all({pid, *children_of(pid)}, signal.SIGCONT)
        self._stopped = False

    def _wait_for_end(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._end_now()
            raise ServerError(f"{self.kind} did not end within {END_SECONDS} s, and was killed") from None
        self._forget_process()

    def _end_now(self) -> None:
        if self.running:
            self.kill()

    def _forget_process(self) -> None:
        assert self._guard is not None
        self._process, self._stopped = None, False
        self._guard.forget()

    def _running_process(self) -> subprocess.Popen[bytes]:
        if not self.running or self._process is None:
            raise ServerError(f"{self.kind} does not run")
        return self._process

    def _known(self, fact: T | None) -> T:
        if fact is None:
            raise ServerError(f"{self.kind} has not been started yet")
        return fact


def _signal_all(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue  # it ended meanwhile
