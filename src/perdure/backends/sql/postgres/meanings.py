"""What errors of Postgres, of its driver and of the network mean to a caller of perdure."""

from __future__ import annotations

import asyncio

import asyncpg

from perdure.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    CorruptDataError,
    PerdureError,
    SchemaError,
    StorageFullError,
    StorageReadOnlyError,
)

__all__ = ["DRIVER_ERRORS", "NAME", "concerns_content", "is_for_now", "is_lost", "is_too_early", "mapped"]

NAME = "postgres"

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""Whatever a call of the driver raises, but for mistakes in how it is called."""

_POOLED = "{error}; behind PgBouncer in transaction mode add ?prepared=false to the URL"

_MEANINGS: dict[str, tuple[type[BackendError], str]] = {
    # Nobody answers, or not now
    "08": (BackendUnavailableError, "the connection failed ({error})"),
    "08P01": (BackendUnavailableError, "the server broke off the talk ({error})"),
    "53": (BackendUnavailableError, "the server lacks resources ({error})"),
    "53100": (StorageFullError, "the server's disk is full; nothing changed"),
    "53300": (BackendUnavailableError, "the server takes no more connections ({error})"),
    "57": (BackendUnavailableError, "the server ended the call ({error})"),
    "57P04": (SchemaError, "the database was dropped"),
    "58": (BackendUnavailableError, "the server's system failed ({error})"),
    "25P03": (BackendUnavailableError, "the server ended a transaction that stood still ({error})"),
    "25P04": (BackendUnavailableError, "the server ended a transaction that took too long ({error})"),
    "40": (BackendUnavailableError, "others write the same sessions; nothing changed ({error})"),
    "55P03": (BackendUnavailableError, "others held the same sessions for too long; nothing changed"),
    # May not be used so
    "25006": (StorageReadOnlyError, "the server takes no writes ({error}); nothing changed"),
    "28": (BackendUnavailableError, "the server refuses the role ({error})"),
    "3D000": (SchemaError, "{error}; create it with `createdb`"),
    "42501": (BackendError, "{error}; grant the role what the page on PostgreSQL lists; nothing changed"),
    # Is not as it should be
    "3F000": (SchemaError, "{error}; run `perdure db create`"),
    "42P01": (SchemaError, "{error}; run `perdure db create`"),
    "42883": (SchemaError, "{error}; run `perdure db upgrade`, and `perdure db verify` if that is not enough"),
    "42703": (SchemaError, "{error}; run `perdure db upgrade`, and `perdure db verify` if that is not enough"),
    "42": (SchemaError, "{error}; run `perdure db verify`"),
    "42P06": (SchemaError, "{error}, and is not perdure's; give perdure a schema of its own with ?schema=name"),
    "42P07": (SchemaError, "{error}, and is not perdure's; give perdure a schema of its own with ?schema=name"),
    "42710": (SchemaError, "{error}, and is not perdure's; give perdure a schema of its own with ?schema=name"),
    "42723": (SchemaError, "{error}, and is not perdure's; give perdure a schema of its own with ?schema=name"),
    "42P05": (BackendError, _POOLED),
    "26000": (BackendError, _POOLED),
    "42704": (BackendError, "{error}"),
    "22": (BackendError, "what was given cannot be stored ({error}); nothing changed"),
    "54": (BackendError, "what was given is too large for the server ({error}); nothing changed"),
    "22023": (CorruptDataError, "what is stored cannot be read ({error}); run `perdure db verify`"),
    "23": (CorruptDataError, "what is stored contradicts itself ({error}); run `perdure db verify`"),
    "XX001": (CorruptDataError, "the database is damaged ({error}); restore it from a backup"),
    "XX002": (CorruptDataError, "an index of the database is damaged ({error}); run REINDEX"),
}
"""By SQLSTATE, or by its first two letters, the class."""

_FOR_NOW = {"40001", "40P01", "55P03"}
"""Nothing changed, and the same call may well succeed at once: others were in the way."""

_LOST = {"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"}
"""The server ended the connection. Class 08 says so as well."""


_ABOUT_CONTENT = {"22", "23", "54"}
"""Classes of errors that a single record brings about."""


def mapped(error: BaseException) -> PerdureError:
    """The error that a caller sees for one of `DRIVER_ERRORS`, which is its cause.

    Only the server's first line goes into it: its details quote what is stored.
    """
    meaning = _meaning(error)
    meaning.__cause__ = error
    return meaning


def is_for_now(error: BaseException) -> bool:
    """Whether nothing changed and the call may be made again."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _FOR_NOW


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, and with it the answer: nobody knows what became of the call."""
    if isinstance(error, asyncpg.PostgresError):
        return error.sqlstate in _LOST or str(error.sqlstate).startswith("08")
    if isinstance(error, TimeoutError):
        return False  # that is known: there was no answer, and no time is left to ask again
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError)  # that is about what was given
    return isinstance(error, OSError | asyncpg.InternalClientError)


def is_too_early(error: BaseException) -> bool:
    """Whether a server that takes no connection at this moment may take one soon."""
    return isinstance(error, asyncpg.CannotConnectNowError | asyncpg.TooManyConnectionsError)


def concerns_content(error: PerdureError) -> bool:
    """Whether it is about what was sent, or what is stored in its place, and not about the server."""
    cause = error.__cause__
    if isinstance(cause, asyncpg.PostgresError):
        return str(cause.sqlstate)[:2] in _ABOUT_CONTENT
    return isinstance(cause, ValueError) and not isinstance(error, ConfigurationError)


def _meaning(error: BaseException) -> PerdureError:
    if isinstance(error, asyncpg.PostgresError):
        return _meaning_of_state(error)
    if isinstance(error, asyncpg.ClientConfigurationError):
        return ConfigurationError("the PostgreSQL URL, or what it refers to, cannot be used as it is")
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return BackendUnavailableError(NAME, "no answer in time")
    if isinstance(error, OSError):
        return BackendUnavailableError(NAME, f"the server cannot be reached ({error.strerror or _first_line(error)})")
    if isinstance(error, ValueError):  # the driver could not send it
        return BackendError(NAME, "what was given cannot be stored; nothing changed")
    return BackendUnavailableError(NAME, f"the connection failed ({_first_line(error)})")


def _meaning_of_state(error: asyncpg.PostgresError) -> BackendError:
    state = str(error.sqlstate)
    kind, sentence = _MEANINGS.get(state) or _MEANINGS.get(state[:2]) or (BackendError, "{error}")
    said = _first_line(error)
    if "startup parameter" in said:
        sentence = _POOLED
    return kind(NAME, sentence.format(error=said))


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
