"""Starting `sqlite_child.py`, and making sure that it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["Child", "children"]

SCRIPT = Path(__file__).with_name("sqlite_child.py")


class Child:
    """One process that has said it is ready, and waits for `go`."""

    def __init__(self, verb: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(SCRIPT), verb, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )

    def until_ready(self) -> None:
        first = self._out.readline()
        assert first == "ready\n", self._err.read()

    def go(self) -> None:
        self._in.write("go\n")
        self._in.flush()

    def line(self) -> list[str]:
        """The words of the next line that it says."""
        line = self._out.readline()
        assert line.endswith("\n"), self._err.read()
        return line.split()

    def ended(self) -> list[list[str]]:
        """The words of every line it still says; it must end by itself, and well."""
        out, err = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, err
        return [line.split() for line in out.splitlines()]

    def killed(self) -> list[list[str]]:
        """Kill it with SIGKILL; the words of every whole line that it had still said."""
        self._process.kill()
        out, _ = self._process.communicate(timeout=60)
        return [line.split() for line in out.splitlines(keepends=True) if line.endswith("\n")]

    @property
    def _in(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _out(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def _err(self) -> IO[str]:
        assert self._process.stderr is not None
        return self._process.stderr


@contextmanager
def children(number: int, verb: str, *arguments: object) -> Iterator[list[Child]]:
    """That many processes, all of them ready to begin at once; killed at the end if they still run."""
    started = [Child(verb, *arguments) for _ in range(number)]
    try:
        for child in started:
            child.until_ready()
        yield started
    finally:
        for child in started:
            child.killed()
