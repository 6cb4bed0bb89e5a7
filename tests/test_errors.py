"""The errors: one tree, all of it exported, drawn as it is, and able to travel between processes."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from perdure import errors
from perdure.backends.sql.meanings import mapped
from perdure.errors import (
    BackendClosedError,
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    CorruptDataError,
    InvalidCursorError,
    InvalidIdError,
    InvalidInputError,
    InvalidTTLError,
    InvalidValueError,
    LimitExceededError,
    MissingExtraError,
    OutcomeUnknownError,
    PerdureError,
    PluginError,
    QueryLimitExceededError,
    QueryVetoedError,
    SchemaError,
    SessionArchivedError,
    SessionError,
    SessionExistsError,
    SessionExpiredError,
    SessionInactiveError,
    SessionNotFoundError,
    StateLimitExceededError,
    StorageFullError,
    StorageReadOnlyError,
    ValueTooLargeError,
    VersionConflictError,
)
from perdure.testing import START

ID = UUID(int=7)

# One of each, and what its message must say for somebody to know what to do.
EXAMPLES: list[tuple[PerdureError, list[str]]] = [
    (PerdureError("something"), ["something"]),
    (InvalidInputError("limit must be a number"), ["limit must be a number"]),
    (InvalidIdError("abc"), ["'abc'", "UUID"]),
    (InvalidCursorError("abc"), ["'abc'", "next_cursor"]),
    (InvalidTTLError(timedelta(hours=200), maximum=timedelta(hours=168)), ["200", "168", "more than 0"]),
    (InvalidValueError("context['k'][3]", "NaN is not JSON"), ["context['k'][3]", "NaN is not JSON"]),
    (ValueTooLargeError("context['k']", size=300_000, limit=262_144), ["context['k']", "300,000", "262,144 ", "bytes"]),
    (ValueTooLargeError("tags", size=300, limit=256, unit="entries"), ["300 entries", "256"]),
    (ConfigurationError("no backend for 'ftp'"), ["'ftp'"]),
    (MissingExtraError("the Redis backend", extra="redis"), ["the Redis backend", "pip install 'perdure[redis]'"]),
    (PluginError("unknown hook"), ["unknown hook"]),
    (QueryVetoedError("redactor", "it names a client"), ["redactor", "it names a client", "not stored"]),
    (SessionError(ID, "about it"), ["about it"]),
    (SessionNotFoundError(ID), [str(ID)]),
    (SessionExistsError(ID), [str(ID), "exists", "deleted"]),
    (SessionInactiveError(ID, "takes no writes"), ["takes no writes"]),
    (SessionExpiredError(ID, expired_at=START), [str(ID), "2026-01-01T00:00:00+00:00", "extend_session"]),
    (SessionArchivedError(ID, archived_at=START), [str(ID), "2026-01-01T00:00:00+00:00", "extend_session"]),
    (VersionConflictError(ID, expected=3, found=4), [str(ID), "version 4, not 3", "load it again"]),
    (LimitExceededError(ID, "too much"), ["too much"]),
    (QueryLimitExceededError(ID, limit=1000, count=999, adding=2), [str(ID), "1000", "999", "2 more"]),
    (StateLimitExceededError(ID, limit_bytes=4_194_304, size_bytes=5_000_000), [str(ID), "4,194,304", "5,000,000"]),
    (OutcomeUnknownError(ID), [str(ID), "read it"]),
    (BackendError("sqlite", "broken"), ["sqlite: broken"]),
    (BackendUnavailableError("redis", "no answer within 5 s"), ["redis: no answer within 5 s"]),
    (BackendClosedError("sqlite"), ["sqlite", "not open", "SessionStore.open"]),
    (StorageFullError("sqlite", "the disk is full"), ["sqlite", "full"]),
    (StorageReadOnlyError("sqlite", "cannot be written"), ["sqlite", "cannot be written"]),
    (CorruptDataError("sqlite", "a row cannot be read"), ["sqlite", "cannot be read"]),
    (SchemaError("sqlite", "revision 9 is newer"), ["sqlite", "revision 9"]),
]
CLASSES = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PerdureError)
]  # fmt: skip


def names_of(examples: list[tuple[PerdureError, list[str]]]) -> list[str]:
    return [type(error).__name__ for error, _ in examples]


def test_there_is_an_example_of_every_error() -> None:
    assert {type(error) for error, _ in EXAMPLES} == set(CLASSES)


def test_every_error_is_exported_and_nothing_else_is() -> None:
    assert errors.__all__ == sorted(kind.__name__ for kind in CLASSES)


def test_the_tree_is_drawn_as_it_is() -> None:
    tree = inspect.getdoc(errors)
    assert tree is not None
    drawn: dict[str, tuple[str, set[str]]] = {}
    above: list[str] = []
    for line in tree.splitlines()[2:]:
        found = re.match(r"([│├└─\s]*)(\w+Error)(?: \(([\w, ]+)\))?", line)
        assert found is not None, line
        depth = len(found[1]) // 4
        above = [*above[:depth], found[2]]
        builtins = set(found[3].split(", ")) if found[3] else set()
        drawn[found[2]] = (above[depth - 1] if depth else "", builtins)

    is_so = {}
    for kind in CLASSES:
        ours = [base.__name__ for base in kind.__bases__ if issubclass(base, PerdureError)]
        others = {base.__name__ for base in kind.__bases__ if base is not Exception and base.__name__ not in ours}
        is_so[kind.__name__] = (ours[0] if ours else "", others)
    assert drawn == is_so


@pytest.mark.parametrize(("error", "facts"), EXAMPLES, ids=names_of(EXAMPLES))
def test_the_message_says_what_happened_and_what_to_do(error: PerdureError, facts: list[str]) -> None:
    for fact in facts:
        assert fact in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES], ids=names_of(EXAMPLES))
def test_every_error_can_be_pickled_and_copied(error: PerdureError, copied: Any) -> None:
    again = copied(error)
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (InvalidInputError, ValueError),
        (ConfigurationError, ValueError),
        (MissingExtraError, ImportError),
        (SessionNotFoundError, LookupError),
    ],
)
def test_whoever_catches_what_python_calls_it_catches_it(kind: type[PerdureError], builtin: type[Exception]) -> None:
    assert issubclass(kind, builtin)


def test_what_was_given_is_quoted_in_short() -> None:
    assert len(str(InvalidIdError("x" * 10_000))) < 200
    assert str(InvalidIdError(None)) == "not a session id: None; expected a UUID or its text"


# What a backend's driver raises --------------------------------------------------------------------


def _driver_error(code: int | None, message: str = "as the driver says") -> sqlite3.Error:
    error = sqlite3.OperationalError(message)
    if code is not None:
        error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (sqlite3.SQLITE_FULL, StorageFullError, "nothing changed"),
        (sqlite3.SQLITE_READONLY, StorageReadOnlyError, "nothing changed"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, StorageReadOnlyError, "nothing changed"),
        (sqlite3.SQLITE_NOTADB, SchemaError, "not a SQLite database"),
        (sqlite3.SQLITE_CORRUPT, CorruptDataError, "damaged"),
        (sqlite3.SQLITE_CORRUPT_INDEX, CorruptDataError, "damaged"),
        (sqlite3.SQLITE_BUSY, BackendUnavailableError, "lock"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, BackendUnavailableError, "lock"),
        (sqlite3.SQLITE_LOCKED, BackendUnavailableError, "lock"),
        (sqlite3.SQLITE_CANTOPEN, BackendUnavailableError, "permission"),
        (sqlite3.SQLITE_CANTOPEN_ISDIR, BackendUnavailableError, "permission"),
        (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, CorruptDataError, "contradicts itself"),
        (sqlite3.SQLITE_IOERR_WRITE, BackendUnavailableError, "as the driver says"),
        (sqlite3.SQLITE_INTERRUPT, BackendUnavailableError, "as the driver says"),
        (None, BackendUnavailableError, "as the driver says"),
    ],
)
def test_each_code_of_sqlite_becomes_the_error_that_says_what_is_wrong(
    code: int | None, kind: type[BackendError], words: str
) -> None:
    found = mapped(_driver_error(code))
    assert type(found) is kind
    assert words in str(found)
    assert found.backend == "sqlite"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM nowhere",
        "INSERT INTO nowhere VALUES (1)",
        "SELECT mood FROM there",
        "INSERT INTO there (mood) VALUES (1)",
        "CREATE TABLE there (id)",
    ],
)
def test_a_statement_that_does_not_fit_the_schema_is_an_error_of_the_schema(statement: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "any.db")) as connection:
        connection.execute("CREATE TABLE there (id)")
        with pytest.raises(sqlite3.OperationalError) as caught:
            connection.execute(statement)
    assert type(mapped(caught.value)) is SchemaError
