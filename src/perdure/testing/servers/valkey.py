"""A Valkey, or a Redis, of one's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGTERM
from typing import ClassVar, Literal, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from perdure.testing.servers.binaries import RedisBinary, default_redis_binary
from perdure.testing.servers.errors import ServerError
from perdure.testing.servers.ports import HOST, free_port
from perdure.testing.servers.process import LocalServer

__all__ = ["Durability", "ValkeyServer"]

Durability: TypeAlias = Literal["always", "everysec", "none"]

_PERSISTENCE: Mapping[Durability, Mapping[str, str]] = {
    "always": {"appendonly": "yes", "appendfsync": "always"},
    "everysec": {"appendonly": "yes", "appendfsync": "everysec"},
    "none": {"appendonly": "no"},
}


class ValkeyServer(LocalServer):
    """A Valkey or Redis on 127.0.0.1: `with ValkeyServer() as server: redis.Redis.from_url(server.url)`.

    `durability`: with `always` (default) a write is synced to the disk before it is answered, with `everysec` within
    about a second, with `none` nothing is kept. `config` is any setting of the server's own, by its name in
    `valkey.conf`; it wins. `binary`: one of `available_redis_binaries()`, the first if not given. `folder` and `port`
    are chosen if not given.

    Raises:
        MissingExtraError: no server is installed.
    """

    kind: ClassVar[str] = "valkey"
    _end_signal = SIGTERM

    def __init__(
        self,
        *,
        folder: str | os.PathLike[str] | None = None,
        port: int | None = None,
        durability: Durability = "always",
        maxmemory_policy: str = "noeviction",
        config: Mapping[str, str] | None = None,
        binary: RedisBinary | None = None,
    ) -> None:
        super().__init__(folder=folder, port=port)
        self.binary = default_redis_binary() if binary is None else binary
        self.durability: Durability = durability
        self._config = {"maxmemory-policy": maxmemory_policy, **_PERSISTENCE[durability], **(config or {})}

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:PORT/0`."""
        return f"redis://{HOST}:{self.port}/0"

    def client(self, *, timeout_seconds: float = 5.0) -> redis.Redis:
        """A new client, which gives up after that time, never repeats, and decodes answers. The caller closes it."""
        return _client(self.port, timeout_seconds=timeout_seconds)

    def clear(self) -> None:
        """Forget every key, script and function. A few milliseconds."""
        with self.client() as client:
            client.flushall()
            client.script_flush()
            if self.binary.version >= (7,):
                client.function_flush()

    def truncate_aof(self, size_bytes: int) -> int:
        """Cut bytes off the end of the append-only file, as a torn write does; gives how many there were to cut.

        The server, which must not run, drops at its next start what is no longer whole: the last writes.

        Raises:
            ServerError: it runs, or has no append-only file.
        """
        if self.running:
            raise ServerError("valkey runs: its append-only file is cut only after `kill` or `terminate`")
        path = self.aof_path
        before = path.stat().st_size
        os.truncate(path, max(0, before - size_bytes))
        return min(before, size_bytes)

    @property
    def aof_path(self) -> Path:
        """The append-only file to which it writes now: `appendonlydir/….incr.aof`, before Redis 7 `appendonly.aof`.

        Raises:
            ServerError: there is none.
        """
        manifests = list(self.folder.glob("appendonlydir/*.manifest"))
        if manifests:
            lines = [line.split() for line in manifests[0].read_text().splitlines()]
            growing = [facts["file"] for facts in map(_pairs, lines) if facts.get("type") == "i"]
            if growing:
                return manifests[0].with_name(growing[-1])
        single = self.folder / "appendonly.aof"
        if not single.exists():
            raise ServerError("valkey has no append-only file here: it was started with durability='none', or never")
        return single

    def _command(self, port: int) -> Sequence[str | os.PathLike[str]]:
        settings = {"bind": HOST, "port": str(port), "daemonize": "no", "save": "", **self._config}
        return [self.binary.server, *(word for name, value in settings.items() for word in (f"--{name}", value))]

    def _answers(self, process: subprocess.Popen[bytes], port: int) -> bool:
        try:
            with _client(port, timeout_seconds=1.0) as client:
                # The id tells it from another server on that port, of which this one is about to complain.
                return bool(client.info("server")["process_id"] == process.pid and client.ping())
        except redis.RedisError:
            return False

    def _free_port(self) -> int:
        return free_port()


def _client(port: int, *, timeout_seconds: float) -> redis.Redis:
    return redis.Redis(
        HOST,
        port,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def _pairs(words: Sequence[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=False))
