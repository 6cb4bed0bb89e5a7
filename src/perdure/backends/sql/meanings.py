"""What SQLite's errors mean to a caller of perdure."""

from __future__ import annotations

import sqlite3

from perdure.errors import (
    BackendError,
    BackendUnavailableError,
    CorruptDataError,
    SchemaError,
    StorageFullError,
    StorageReadOnlyError,
)

__all__ = ["NAME", "mapped"]

NAME = "sqlite"

_BY_CODE: dict[int, tuple[type[BackendError], str]] = {
    sqlite3.SQLITE_FULL: (StorageFullError, "the disk is full; nothing changed"),
    sqlite3.SQLITE_READONLY: (StorageReadOnlyError, "the database cannot be written; nothing changed"),
    sqlite3.SQLITE_NOTADB: (SchemaError, "the file is not a SQLite database"),
    sqlite3.SQLITE_CORRUPT: (CorruptDataError, "the database is damaged ({error}); run `perdure doctor`"),
    sqlite3.SQLITE_BUSY: (BackendUnavailableError, "another process held the write lock for too long"),
    sqlite3.SQLITE_LOCKED: (BackendUnavailableError, "another process held the write lock for too long"),
    sqlite3.SQLITE_CANTOPEN: (
        BackendUnavailableError,
        "the file cannot be opened; do it and its folder exist, with permission?",
    ),
    sqlite3.SQLITE_CONSTRAINT: (
        CorruptDataError,
        "what is stored contradicts itself ({error}); run `perdure db verify`",
    ),
}

_BY_TEXT: dict[str, tuple[type[BackendError], str]] = {
    "no such table": (SchemaError, "{error}; run `perdure db create`"),
    "already exists": (SchemaError, "{error}, and is not perdure's; give perdure a file of its own"),
    "no such column": (SchemaError, "{error}; run `perdure db verify`"),
    "has no column": (SchemaError, "{error}; run `perdure db verify`"),
}
"""What SQLite gives no code of its own."""


def mapped(error: sqlite3.Error) -> BackendError:
    """The error that a caller sees for one of the driver's, which is its cause."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in _BY_CODE:
        kind, sentence = _BY_CODE[code & 0xFF]
    else:
        found = [meaning for words, meaning in _BY_TEXT.items() if words in str(error)]
        kind, sentence = found[0] if found else (BackendUnavailableError, "{error}")
    meaning = kind(NAME, sentence.format(error=error))
    meaning.__cause__ = error
    return meaning
