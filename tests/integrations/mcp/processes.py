"""Servers and clients in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLIENT = Path(__file__).with_name("official_client.py")
PATIENCE_S = 60.0

CLIENTS = os.environ.get("TEST_MCP_CLIENTS", sys.executable).split(os.pathsep)
"""Interpreters that have the official client; the sessions of nox name some that have nothing else."""


def unmeasured() -> dict[str, str]:
    """The environment without coverage, which doubles what it costs to start a server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def serve_command(url: str, *words: str) -> list[str]:
    """`perdure serve mcp` on a store."""
    return [sys.executable, "-m", "perdure", "serve", "mcp", "--url", url, *words]


@dataclass
class HttpServer:
    """A server process that answers at `url`."""

    process: subprocess.Popen[bytes]
    url: str

    def kill(self) -> None:
        """End it at once, as the machine would."""
        self.process.kill()
        self.process.wait(PATIENCE_S)


@contextmanager
def http_server(command: Sequence[str], port: int, *, log: Path) -> Iterator[HttpServer]:
    """Start a server, wait until its port answers, and end it."""
    with log.open("ab") as stderr:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, env=unmeasured())
    try:
        _wait_for(port, process, log)
        yield HttpServer(process, f"http://127.0.0.1:{port}/mcp")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(PATIENCE_S)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-4000:]
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(log.read_text(errors="replace")[-4000:])


class OfficialClient:
    """The official client in a process of its own; see `official_client.py`."""

    def __init__(
        self, kind: str, target: str, *, era: str, python: str = sys.executable, token: str | None = None
    ) -> None:
        words = [python, str(CLIENT), kind, target, era, *([] if token is None else [token])]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=unmeasured()
        )
        self.hello: dict[str, Any] = self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the client ended with {self._process.wait(PATIENCE_S)}"
        return json.loads(line)

    def all(self, *requests: dict[str, Any]) -> list[dict[str, Any]]:
        """Send requests at the same time; the answers in order."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(requests) + "\n")
        self._process.stdin.flush()
        answers: list[dict[str, Any]] = self._read()
        return answers

    def one(self, **request: Any) -> dict[str, Any]:
        """The answer to one request, which must be one."""
        (told,) = self.all(request)
        assert "answer" in told, told
        found: dict[str, Any] = told["answer"]
        return found

    def tool(self, name: str, meta: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
        """What a tool answers."""
        return self.one(tool=name, arguments=arguments, meta=meta)

    def close(self) -> None:
        """Hang up."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE_S)

    def __enter__(self) -> OfficialClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def eras() -> list[tuple[str, str]]:
    """Every interpreter with each era that its client speaks."""
    found = []
    for python in CLIENTS:
        major = subprocess.run(
            [python, "-c", "from importlib.metadata import version as v; print(v('mcp').partition('.')[0])"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        found.append((python, "legacy"))
        if int(major) >= 2:
            found.append((python, "2026-07-28"))
    return found
