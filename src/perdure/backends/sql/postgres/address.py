"""Where a Postgres database is, and how to use it: a URL with options."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from perdure.errors import ConfigurationError

__all__ = ["Address"]

_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")

_OF_THE_DRIVER = (
    *("host", "port", "dbname", "database", "user", "passfile", "service"),
    *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    *("target_session_attrs", "krbsrvname", "gsslib"),
)
"""Options of a URL that asyncpg understands as libpq does."""

_LONGEST_NAME = 63
"""Bytes in a name of Postgres; it cuts what is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A URL taken apart. `dsn` is what the driver gets, with a password if there is one; nothing shows it."""

    dsn: str = field(repr=False)
    schema: str = "perdure"
    """The schema that holds everything of perdure's."""
    pool_size: int = 5
    """Connections held open at most; one of them is for changes alone."""
    connect_timeout: timedelta = timedelta(seconds=5)
    command_timeout: timedelta = timedelta(seconds=10)
    """How long one call may take, repeats included."""
    bulk_timeout: timedelta = timedelta(seconds=60)
    """The same for what takes many sessions at once."""
    prepared: bool = True
    """Whether connections keep their state from one transaction to the next: prepared statements, settings."""
    migrate: bool = True
    """Whether opening makes and upgrades the schema."""
    application_name: str = "perdure"
    """What the server's statistics and logs call it."""

    @classmethod
    def of(cls, url: str, **given: Any) -> Self:
        """The address in a URL; what is `given` (and not None) comes before what the URL says.

        Raises:
            ConfigurationError: not a URL of Postgres, an option that does not exist, or a value that does not fit.
        """
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or parts.fragment:
            raise ConfigurationError("not a PostgreSQL URL; for instance postgresql://user@host:5432/database")
        ours, theirs = {}, []
        for name, text in parse_qsl(parts.query, keep_blank_values=True):
            if name in _READERS:
                ours[name] = _READERS[name](name, text)
            elif name in _OF_THE_DRIVER:
                theirs.append((name, text))
            else:
                raise ConfigurationError(_unknown(name))
        dsn = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(theirs), ""))
        address = cls(dsn=dsn, **{**ours, **{name: value for name, value in given.items() if value is not None}})
        return address.checked()

    def checked(self) -> Self:
        """The same address.

        Raises:
            ConfigurationError: a value in it that cannot work.
        """
        name = self.schema
        if not name or "\0" in name or len(name.encode()) > _LONGEST_NAME or re.match("pg_|information_schema$", name):
            raise ConfigurationError(f"schema must be a name of 1 to {_LONGEST_NAME} bytes that is not Postgres' own")
        if self.pool_size < 2:
            raise ConfigurationError("pool_size must be at least 2: one connection is for changes alone")
        for what in ("connect_timeout", "command_timeout", "bulk_timeout"):
            if getattr(self, what) <= timedelta(0):
                raise ConfigurationError(f"{what} must be longer than nothing")
        return self


def _text(name: str, text: str) -> str:
    return text


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise ConfigurationError(f"{name} must be a whole number, not {text!r}")
    return int(text)


def _seconds(name: str, text: str) -> timedelta:
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        raise ConfigurationError(f"{name} must be a number of seconds, not {text!r}") from None


def _truth(name: str, text: str) -> bool:
    words = {"true": True, "1": True, "on": True, "yes": True, "false": False, "0": False, "off": False, "no": False}
    if text.lower() not in words:
        raise ConfigurationError(f"{name} must be true or false, not {text!r}")
    return words[text.lower()]


_READERS: Mapping[str, Callable[[str, str], Any]] = {
    "schema": _text,
    "pool_size": _number,
    "connect_timeout": _seconds,
    "command_timeout": _seconds,
    "bulk_timeout": _seconds,
    "prepared": _truth,
    "migrate": _truth,
    "application_name": _text,
}


def _unknown(name: str) -> str:
    if name == "password":
        return "a password belongs before the host (user:password@host), in PGPASSWORD or in a passfile, not after ?"
    close = difflib.get_close_matches(name, (*_READERS, *_OF_THE_DRIVER), n=1)
    return f"no option {name} in a PostgreSQL URL" + (f"; did you mean {close[0]}?" if close else "")
