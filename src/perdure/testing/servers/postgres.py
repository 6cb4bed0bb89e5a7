"""A Postgres of one's own."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from signal import SIGINT, SIGQUIT
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

import asyncpg

from perdure.testing.servers.binaries import PostgresBinaries, default_postgres_binaries
from perdure.testing.servers.errors import ServerError
from perdure.testing.servers.ports import HOST, free_port
from perdure.testing.servers.process import LocalServer

__all__ = ["PostgresServer"]

T = TypeVar("T")

USER = "perdure"
DATABASE = "postgres"
PATIENCE_SECONDS = 30.0

_CLEAR = """
DO $$
DECLARE name text;
BEGIN
  PERFORM pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend';
  FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', name);
  END LOOP;
  CREATE SCHEMA public;
END $$
"""

_QUICK_RECOVERY = {"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}
"""After a kill: one call syncs the disk, instead of one for each of thousands of files."""

_UNPRIVILEGED = "nobody"

_HERE = "/proc/self/cwd"
"""Where Linux has it: the folder that a process runs in, reachable even if the folders above it are closed to it."""

_KNOWS_HERE = (16,)
"""Older ones leave the folder to look for their programs, and cannot come back."""


class PostgresServer(LocalServer):
    """A Postgres on 127.0.0.1 whose one user, `perdure`, needs no password. UTF-8, compared by code point.

    `max_connections`, and `config` with any setting of the server's own by its name in `postgresql.conf`, which wins.
    With `unix_socket` it listens in its folder as well. `binaries`: one of `available_postgres_binaries()`, the first
    if not given. `folder` and `port` are chosen if not given. Postgres refuses root: then it runs as `nobody`.

    Raises:
        MissingExtraError: no server is installed.
    """

    kind: ClassVar[str] = "postgres"
    _end_signal = SIGINT  # "fast": clients are sent away instead of waited for
    _abort_signal = SIGQUIT  # "immediate": no checkpoint, but the memory that it shares is given back

    def __init__(
        self,
        *,
        folder: str | os.PathLike[str] | None = None,
        port: int | None = None,
        max_connections: int = 200,
        unix_socket: bool = False,
        config: Mapping[str, str] | None = None,
        binaries: PostgresBinaries | None = None,
    ) -> None:
        super().__init__(folder=folder, port=port)
        self.binaries = default_postgres_binaries() if binaries is None else binaries
        self._config = {
            "listen_addresses": HOST,
            "unix_socket_directories": "." if unix_socket else "",
            "max_connections": str(max_connections),
            "fsync": "on",
            **_QUICK_RECOVERY,
            "dynamic_shared_memory_type": "mmap",  # in its folder, so that SIGKILL leaves nothing behind elsewhere
            **(config or {}),
        }
        self._copied: Path | None = None

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.folder / "data"

    @property
    def url(self) -> str:
        """`postgresql://perdure@127.0.0.1:PORT/postgres`."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://{USER}@{HOST}:{self.port}/{quote(database, safe='')}"

    @property
    def socket_url(self) -> str:
        """The same as `url` by its Unix socket; only with `unix_socket`. The path of a socket has 100 bytes at most."""
        return f"postgresql://{USER}@/{DATABASE}?host={quote(str(self.data))}&port={self.port}"

    def execute(self, *statements: str, database: str = DATABASE) -> list[tuple[Any, ...]]:
        """Run statements one by one, each its own transaction; the rows of the last. About 10 ms for the connection.

        Raises:
            TimeoutError: a statement took longer than 30 s.
        """

        async def run() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(
                self.url_of(database), ssl=False, timeout=PATIENCE_SECONDS, command_timeout=PATIENCE_SECONDS
            )
            try:
                rows: list[Any] = []
                for statement in statements:
                    rows = await connection.fetch(statement)
                return [tuple(row) for row in rows]
            finally:
                await connection.close()

        return _run_elsewhere(run)

    def create_database(self, name: str) -> str:
        """Make an empty database, unless it is there; gives its URL. 30 to 200 ms."""
        with suppress(asyncpg.DuplicateDatabaseError):
            self.execute(f"CREATE DATABASE {_quoted(name)} TEMPLATE template0")
        return self.url_of(name)

    def clear(self, database: str = DATABASE) -> str:
        """End the sessions in a database and drop all that is in it, or make it; gives its URL. About 15 ms."""
        try:
            self.execute(_CLEAR, database=database)
        except asyncpg.InvalidCatalogNameError:
            self.create_database(database)
        return self.url_of(database)

    def drop_database(self, name: str) -> None:
        """Drop a database, with the connections to it; does nothing if it is not there."""
        self.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    def close(self) -> None:
        """Let it end, and remove the folder if that is its own; repeatable."""
        super().close()
        self._copied = None

    # -------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        unfinished = self.folder / "data.unfinished"  # a crash must leave no half of a database behind
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        if self._who:
            for folder in (unfinished, *([self.folder] if self._is_temporary else [])):
                os.chown(folder, self._who["user"], self._who["group"])
        options = ["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        ran = subprocess.run(
            [self._program(self.binaries.initdb), "-D", self._as_seen_by_it(unfinished), *options],
            cwd=unfinished,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            start_new_session=True,  # Ctrl-C is for us to judge
            **self._who,
        )
        if ran.returncode != 0:
            raise ServerError(f"initdb failed:\n{(ran.stdout + ran.stderr).decode(errors='replace')[-4000:]}")
        unfinished.rename(self.data)

    def _command(self, port: int) -> Sequence[str | os.PathLike[str]]:
        settings = {"port": str(port), **self._config}
        return [
            self._program(self.binaries.postgres),
            *("-D", self._as_seen_by_it(self.data)),
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ]

    def _answers(self, process: subprocess.Popen[bytes], port: int) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(process.pid) and lines[7].strip() == "ready"

    def _free_port(self) -> int:
        return free_port()

    def _may_start_later(self, said: str) -> bool:
        # After SIGKILL its children may need a moment to let go of what they share.
        return super()._may_start_later(said) or "pre-existing shared memory block" in said

    @property
    def _cwd(self) -> Path:
        return self.data

    @functools.cached_property
    def _who(self) -> Mapping[str, Any]:
        if os.geteuid() != 0:
            return {}
        import pwd

        entry = pwd.getpwnam(_UNPRIVILEGED)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def _as_seen_by_it(self, folder: Path) -> str:
        """The folder that it runs in, by a name that works where `nobody` may not enter the folders above it."""
        if not self._who or _can_run(["/bin/sh", "-c", 'cd -- "$1"', "sh", folder], self._who):
            return str(folder)
        if Path(_HERE).exists() and self.binaries.version >= _KNOWS_HERE:
            return _HERE
        raise ServerError(f"Postgres would run as {_UNPRIVILEGED}, who may not enter {folder}; choose another folder")

    def _program(self, program: Path) -> Path:
        """The program, or a copy of it where `nobody` cannot reach the installed one."""
        if not self._who:
            return program
        if self._copied is None:
            if _can_run([program, "--version"], self._who):
                return program
            assert self._guard is not None
            place = Path(tempfile.mkdtemp(prefix="perdure-postgres-programs-"))
            self._guard.remove_at_the_end(place)
            self._copied = _copy_for_all(program.parent.parent, place)
            if not _can_run([self._copied / "bin" / program.name, "--version"], self._who):
                raise ServerError(
                    f"Postgres would run as {_UNPRIVILEGED}, who may not enter {place}; set TMPDIR to another folder"
                )
        return self._copied / "bin" / program.name


def _can_run(command: Sequence[str | os.PathLike[str]], who: Mapping[str, Any]) -> bool:
    try:
        subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=True, **who)
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True


def _copy_for_all(installed: Path, place: Path) -> Path:
    """What a Postgres needs to run, where everybody may go: links to the same files, copies on another file system."""
    package = installed.parent.name
    copied, libraries = place / package / installed.name, f"{package}.libs"  # wheels have these beside the package
    for part in ("bin", "lib", "share"):
        shutil.copytree(installed / part, copied / part, copy_function=_link_or_copy)
    if (installed.parent.with_name(libraries)).is_dir():
        shutil.copytree(installed.parent.with_name(libraries), place / libraries, copy_function=_link_or_copy)
    place.chmod(0o755)
    return copied


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _run_elsewhere(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a thread, as an event loop may be running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
