"""Every error that perdure raises on purpose.

PerdureError
├── InvalidInputError (ValueError)       the call was wrong; nothing was sent
│   ├── InvalidIdError
│   ├── InvalidCursorError
│   ├── InvalidTTLError
│   ├── InvalidValueError                what JSON cannot carry; names the key
│   └── ValueTooLargeError               one value, key or name over its bound
├── ConfigurationError (ValueError)      settings, URLs, plugins
│   ├── MissingExtraError (ImportError)
│   └── PluginError
├── QueryVetoedError                     a `prepare_query` hook refused the query
├── SessionError                         about one session; nothing changed
│   ├── SessionNotFoundError (LookupError)
│   ├── SessionExistsError
│   ├── SessionInactiveError
│   │   ├── SessionExpiredError
│   │   └── SessionArchivedError
│   ├── VersionConflictError
│   ├── LimitExceededError
│   │   ├── QueryLimitExceededError
│   │   └── StateLimitExceededError
│   └── OutcomeUnknownError              a repeat that can no longer be told from a new change
└── BackendError                         a backend could not do its work
    ├── BackendUnavailableError          whether the write happened is not known
    ├── BackendClosedError
    ├── StorageFullError                 nothing changed
    ├── StorageReadOnlyError             nothing changed
    ├── CorruptDataError                 what is stored cannot be read
    └── SchemaError                      missing, older, newer, or no database at all
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

__all__ = [
    "BackendClosedError",
    "BackendError",
    "BackendUnavailableError",
    "ConfigurationError",
    "CorruptDataError",
    "InvalidCursorError",
    "InvalidIdError",
    "InvalidInputError",
    "InvalidTTLError",
    "InvalidValueError",
    "LimitExceededError",
    "MissingExtraError",
    "OutcomeUnknownError",
    "PerdureError",
    "PluginError",
    "QueryLimitExceededError",
    "QueryVetoedError",
    "SchemaError",
    "SessionArchivedError",
    "SessionError",
    "SessionExistsError",
    "SessionExpiredError",
    "SessionInactiveError",
    "SessionNotFoundError",
    "StateLimitExceededError",
    "StorageFullError",
    "StorageReadOnlyError",
    "ValueTooLargeError",
    "VersionConflictError",
]


class PerdureError(Exception):
    """The root of every error that perdure raises on purpose. Errors can be pickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.args, self.__dict__)


# The call was wrong ---------------------------------------------------------------------------------


class InvalidInputError(PerdureError, ValueError):
    """An argument is not what the verb takes; nothing was sent and nothing changed."""


class InvalidIdError(InvalidInputError):
    """A session id that is neither a `UUID` nor its text."""

    def __init__(self, given: object) -> None:
        self.given = given
        super().__init__(f"not a session id: {_short(given)}; expected a UUID or its text")


class InvalidCursorError(InvalidInputError):
    """A cursor that no listing of this library has given out."""

    def __init__(self, given: object) -> None:
        self.given = given
        super().__init__(f"not a cursor of a listing: {_short(given)}; pass `next_cursor` of the page before")


class InvalidTTLError(InvalidInputError):
    """A time to live outside the range that the settings allow."""

    def __init__(self, requested: timedelta, *, maximum: timedelta) -> None:
        self.requested = requested
        self.maximum = maximum
        super().__init__(
            f"a session may live more than 0 and at most {_hours(maximum)} hours from now; "
            f"{_hours(requested)} hours were asked for"
        )


class InvalidValueError(InvalidInputError):
    """A value that JSON cannot carry, or that would not come back as it went in."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class ValueTooLargeError(InvalidInputError):
    """One value, key or name that is larger than its bound."""

    def __init__(self, what: str, *, size: int, limit: int, unit: str = "bytes") -> None:
        self.what = what
        self.size = size
        self.limit = limit
        super().__init__(f"{what} has {size:,} {unit}; at most {limit:,} are kept")


# Configuration --------------------------------------------------------------------------------------


class ConfigurationError(PerdureError, ValueError):
    """Settings, a URL or a plugin that cannot work as given."""


class MissingExtraError(ConfigurationError, ImportError):
    """A feature whose packages are not installed; the message names the extra that brings them."""

    def __init__(self, feature: str, *, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{feature} needs more packages: pip install 'perdure[{extra}]'")


class PluginError(ConfigurationError):
    """A plugin that cannot be registered, a misspelt hook for instance."""


class QueryVetoedError(PerdureError):
    """A `prepare_query` hook refused the query, or failed; nothing was stored."""

    def __init__(self, plugin: str, reason: str) -> None:
        self.plugin = plugin
        self.reason = reason
        super().__init__(f"the query was not stored: {plugin} refused it: {reason}")


# About one session ----------------------------------------------------------------------------------


class SessionError(PerdureError):
    """Something about one session; nothing changed."""

    def __init__(self, session_id: UUID, message: str) -> None:
        self.session_id = session_id
        super().__init__(message)


class SessionNotFoundError(SessionError, LookupError):
    """No such session: never created, deleted, or another user's."""

    def __init__(self, session_id: UUID) -> None:
        super().__init__(session_id, f"no session {session_id}")


class SessionExistsError(SessionError):
    """The id is in use, or belonged to a session that was deleted."""

    def __init__(self, session_id: UUID) -> None:
        super().__init__(session_id, f"session {session_id} exists already, or was deleted")


class SessionInactiveError(SessionError):
    """The session takes no writes at present; `extend_session` makes it active again."""


class SessionExpiredError(SessionInactiveError):
    """The session had expired when the write was made."""

    def __init__(self, session_id: UUID, *, expired_at: datetime) -> None:
        self.expired_at = expired_at
        super().__init__(
            session_id,
            f"session {session_id} expired at {expired_at.isoformat()}; extend_session(id, hours=…) revives it",
        )


class SessionArchivedError(SessionInactiveError):
    """The session is in the archive, where it can be read but not written."""

    def __init__(self, session_id: UUID, *, archived_at: datetime) -> None:
        self.archived_at = archived_at
        super().__init__(
            session_id,
            f"session {session_id} was archived at {archived_at.isoformat()}; extend_session(id, hours=…) restores it",
        )


class VersionConflictError(SessionError):
    """Somebody else changed the session since the version that the write was conditioned on."""

    def __init__(self, session_id: UUID, *, expected: int, found: int) -> None:
        self.expected = expected
        self.found = found
        super().__init__(
            session_id,
            f"session {session_id} is at version {found}, not {expected}; load it again and repeat the change",
        )


class LimitExceededError(SessionError):
    """The write would take the session past one of its bounds."""


class QueryLimitExceededError(LimitExceededError):
    """The session holds as many queries as the settings allow."""

    def __init__(self, session_id: UUID, *, limit: int, count: int, adding: int) -> None:
        self.limit = limit
        self.count = count
        self.adding = adding
        super().__init__(
            session_id,
            f"session {session_id} holds {count} queries and {adding} more would pass the limit of {limit}",
        )


class StateLimitExceededError(LimitExceededError):
    """The state of the session would grow past its bound."""

    def __init__(self, session_id: UUID, *, limit_bytes: int, size_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = size_bytes
        super().__init__(
            session_id,
            f"the state of session {session_id} would have {size_bytes:,} bytes; at most {limit_bytes:,} are kept",
        )


class OutcomeUnknownError(SessionError):
    """A repeated change that the session no longer remembers: it may or may not have been applied.

    Read the session to see which. `update_session` does that by itself when it is called again.
    """

    def __init__(self, session_id: UUID) -> None:
        super().__init__(
            session_id,
            f"a repeated change of session {session_id} is no longer remembered; read it to see if it was applied",
        )


# About a backend ------------------------------------------------------------------------------------


class BackendError(PerdureError):
    """A backend could not do its work."""

    def __init__(self, backend: str, message: str) -> None:
        self.backend = backend
        super().__init__(f"{backend}: {message}")


class BackendUnavailableError(BackendError):
    """The backend did not answer in time, or not at all; whether a write happened is not known."""


class BackendClosedError(BackendError):
    """The store was used before it was opened, or after it was closed; nothing was sent."""

    def __init__(self, backend: str, reason: str = "not open; use `async with SessionStore.open(…) as store`") -> None:
        super().__init__(backend, reason)


class StorageFullError(BackendError):
    """The disk is full; nothing changed."""


class StorageReadOnlyError(BackendError):
    """What holds the data cannot be written; nothing changed."""


class CorruptDataError(BackendError):
    """Something stored cannot be read; the message names what."""


class SchemaError(BackendError):
    """The database has no schema of perdure's, an older or a newer one, or is no database at all."""


def _restored(kind: type[PerdureError], args: tuple[object, ...], facts: dict[str, object]) -> PerdureError:
    """Bring back a pickled error without calling its constructor, which takes facts and not the message."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(facts)
    return error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _hours(duration: timedelta) -> str:
    return f"{duration.total_seconds() / 3600:g}"
