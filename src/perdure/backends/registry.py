"""From a URL to the backend that it names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

import platformdirs

from perdure.backends.memory import MemoryBackend
from perdure.backends.protocol import SessionBackend
from perdure.errors import ConfigurationError, MissingExtraError

__all__ = ["BackendFactory", "backend_for", "default_path", "known_schemes"]

BackendFactory: TypeAlias = Callable[[str], SessionBackend]
"""Makes a backend, not opened yet, of a URL of its scheme."""

ENTRY_POINTS = "perdure.backends"

REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")
POSTGRES_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")


def backend_for(url: str | None, *, more: Mapping[str, BackendFactory] | None = None) -> SessionBackend:
    """The backend of a URL, not opened yet; without one the embedded default.

    Schemes: `memory`, `sqlite`, those of Redis and of PostgreSQL (`REDIS_SCHEMES`, `POSTGRES_SCHEMES`), those in
    `more`, and those that installed packages name by an entry point in the group `perdure.backends` (the name is the
    scheme, the object a `BackendFactory`).

    Raises:
        ConfigurationError: no such scheme, or a URL that its backend does not understand.
        MissingExtraError: the packages that the backend needs are not installed.
    """
    if url is None:
        return _sqlite_default()
    scheme = _split(url).scheme
    factory = known_schemes(more).get(scheme)
    if factory is None:
        raise ConfigurationError(
            f"no backend for {scheme or 'a path without scheme'!r}; there are {', '.join(sorted(known_schemes(more)))}"
            + ("" if scheme else f" (a SQLite file is sqlite:///{url})")
        )
    return factory(url)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError("not a URL; for instance sqlite:///sessions.db") from None


def known_schemes(more: Mapping[str, BackendFactory] | None = None) -> dict[str, BackendFactory]:
    """Every scheme that has a backend."""
    installed = {point.name: _loader(point.name, point.load) for point in entry_points(group=ENTRY_POINTS)}
    ours = {
        "memory": _memory,
        "sqlite": _sqlite,
        **dict.fromkeys(REDIS_SCHEMES, _redis),
        **dict.fromkeys(POSTGRES_SCHEMES, _postgres),
    }
    return {**installed, **(more or {}), **ours}


def default_path() -> Path:
    """Where the embedded store keeps its file."""
    return platformdirs.user_data_path("perdure", appauthor=False) / "sessions.db"


def _loader(name: str, load: Callable[[], BackendFactory]) -> BackendFactory:
    def factory(url: str) -> SessionBackend:
        try:
            made = load()
        except ImportError as error:
            raise ConfigurationError(f"the backend for {name!r} cannot be imported: {error}") from error
        return made(url)

    return factory


def _memory(url: str) -> SessionBackend:
    if url.removeprefix("memory://"):
        raise ConfigurationError(f"a memory store has no name or path: memory://, not {url}")
    return MemoryBackend()


def _sqlite(url: str) -> SessionBackend:
    from perdure.backends.sql.sqlite import SqliteBackend

    parts = urlsplit(url)
    path = unquote(parts.path.removeprefix("/"))
    if not url.startswith("sqlite:///") or not path or parts.query or parts.fragment:
        raise ConfigurationError(f"not a SQLite URL: {url}; sqlite:///relative.db, or sqlite:////absolute.db")
    if path == ":memory:":
        raise ConfigurationError("for sessions in memory use memory://")
    return SqliteBackend(Path(path).expanduser())


def _redis(url: str) -> SessionBackend:
    with _asking_for("redis", what="sessions in Redis", drivers=("redis", "hiredis")):
        from perdure.backends.redis.backend import RedisBackend
    return RedisBackend(url)


def _postgres(url: str) -> SessionBackend:
    with _asking_for("postgres", what="sessions in PostgreSQL", drivers=("asyncpg",)):
        from perdure.backends.sql.postgres import PostgresBackend
    return PostgresBackend(url)


@contextmanager
def _asking_for(extra: str, *, what: str, drivers: Collection[str]) -> Iterator[None]:
    """Name the extra that brings a driver, where the driver is what cannot be imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] in drivers:
            raise MissingExtraError(what, extra=extra) from error
        raise


def _sqlite_default() -> SessionBackend:
    from perdure.backends.sql.sqlite import SqliteBackend

    return SqliteBackend(default_path(), make_folder=True)
