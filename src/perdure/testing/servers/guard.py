"""Seeing to it that no server outlives the process that started it, however that ends."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, Signals
from typing import IO, Any

__all__ = ["Guard", "all_ended", "children_of", "has_ended"]

POLL_SECONDS = 0.01

# It reads the id of the process that is to die with us, an empty line when there is none any more, folders to remove,
# and the end of the pipe when we are gone. A process may have been stopped, and is woken to hear its signal; if it does
# not end by that, it is stopped so that it starts no child unseen, and killed with them.
_WATCH = """
children() { cat /proc/"$pid"/task/*/children 2>/dev/null || pgrep -P "$pid"; }
first=$1; shift
while read -r line; do
  case $line in
    /*) set -- "$@" "$line" ;;
    *) pid=$line ;;
  esac
done
if [ -n "$pid" ]; then
  if [ "$first" != KILL ]; then
    kill -"$first" "$pid"; kill -CONT "$pid" $(children)
    for wait in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" && sleep 0.1; done
  fi
  kill -STOP "$pid"
  kill -KILL "$pid" $(children)
fi
for attempt in 1 2 3 4 5; do
  [ $# -eq 0 ] || rm -rf -- "$@" && break
  sleep 0.2
done
"""

# The server tells its id itself, before it becomes the server: at no moment is it there and unknown.
_ANNOUNCE = 'echo "$$" >&0 && exec "$@" </dev/null'


class Guard:
    """A small process that waits for the end of this one; then it kills the server started last, and its children.

    It sees the end by a pipe, so that SIGKILL is no exception, nor does it matter which thread started the server. It
    lives in a session of its own, where neither Ctrl-C nor the end of a terminal reaches it. `first` is a milder signal
    to try for a second.
    """

    def __init__(self, *, first: Signals = SIGKILL) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "guard", first.name.removeprefix("SIG")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def launch(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        log: IO[bytes],
        cwd: Path,
        env: Mapping[str, str],
        **who: Any,
    ) -> subprocess.Popen[bytes]:
        """Start a server that dies with this process; `who` are the `user`, `group` and the like of `Popen`."""
        return subprocess.Popen(
            ["/bin/sh", "-c", _ANNOUNCE, "server", *command],
            stdin=self._pipe,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            start_new_session=True,
            **who,
        )

    def remove_at_the_end(self, folder: Path) -> None:
        """A folder, absolute, that is not to outlive us."""
        line = os.fsencode(folder)
        if not folder.is_absolute() or b"\n" in line:
            raise ValueError(f"not a folder that can be told apart from others: {folder!r}")
        os.write(self._pipe.fileno(), line + b"\n")

    def forget(self) -> None:
        """The server is gone: its id may soon be another process's."""
        os.write(self._pipe.fileno(), b"\n")

    def close(self) -> None:
        """End the guard; what it still knows dies, and the folders are removed."""
        self._pipe.close()
        self._process.wait()

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin


def children_of(pid: int) -> set[int]:
    """The processes that a process has started and that still run; none if it is gone itself."""
    tasks = Path(f"/proc/{pid}/task")
    if not Path("/proc/self/task").exists():  # no Linux
        return set(map(int, subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, check=False).stdout.split()))
    found: set[int] = set()
    for task in tasks.glob("*/children"):
        try:
            found.update(map(int, task.read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue  # that thread has ended meanwhile
    return found


def all_ended(pids: Iterable[int], *, within_seconds: float) -> bool:
    """Wait for the end of processes, which need not be our own children; False if some are still there."""
    deadline = time.monotonic() + within_seconds
    while not all(map(has_ended, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def has_ended(pid: int) -> bool:
    """Whether a process, which need not be our own child, holds nothing any more; that of nobody has ended, too."""
    if not Path("/proc/self/stat").exists():  # no Linux
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"  # its parent has only not noticed yet
