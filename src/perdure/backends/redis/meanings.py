"""What Redis's errors mean to a caller of perdure, and which of them pass by themselves."""

from __future__ import annotations

import re

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)

from perdure.errors import (
    BackendError,
    BackendUnavailableError,
    CorruptDataError,
    StorageFullError,
    StorageReadOnlyError,
)

__all__ = ["NAME", "PASSING", "code_of", "mapped"]

NAME = "redis"

_BY_CLASS: list[tuple[type[Exception], str]] = [
    (NoScriptError, "NOSCRIPT"),
    (MovedError, "MOVED"),
    (AskError, "ASK"),
    (TryAgainError, "TRYAGAIN"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
    (BusyLoadingError, "LOADING"),
    (ReadOnlyError, "READONLY"),
    (OutOfMemoryError, "OOM"),
    (NoPermissionError, "NOPERM"),
    (AuthenticationError, "WRONGPASS"),
    (AuthorizationError, "WRONGPASS"),
]
"""The driver takes the code off what it has a class for; the first that fits counts."""

_CODES = re.compile(
    r"\b(NOSCRIPT|MOVED|ASK|TRYAGAIN|CLUSTERDOWN|MASTERDOWN|LOADING|READONLY|BUSY|NOREPLICAS|OOM|MISCONF|WRONGTYPE|"
    r"NOPERM|NOAUTH|WRONGPASS|EXECABORT)\b"
)
"""What comes without the driver tells it itself, and what a script ran into is told in the midst of a sentence."""

_BY_WORDS = [
    ("ACL failure in script", "NOPERM"),
    ("can't run this command or subcommand", "NOPERM"),
    ("can't access at least one of the keys", "NOPERM"),
    ("non local key", "MIGRATING"),
    ("can't write against a read only", "READONLY"),
    ("Write commands are not allowed from read only scripts", "READONLY"),
    ("command not allowed when used memory", "OOM"),
    ("without any password configured", "NEEDLESS"),
    ("called without any password", "NEEDLESS"),
]

PASSING = frozenset(
    {"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "LOADING", "READONLY", "BUSY", "NOREPLICAS", "MIGRATING"}
)
"""Refusals that a later attempt may not meet; the command was certainly not run."""

_MEANINGS: dict[str, tuple[type[BackendError], str]] = {
    "LOADING": (BackendUnavailableError, "the server is loading its data; it will answer when that is done"),
    "BUSY": (BackendUnavailableError, "the server is busy with a script of somebody's"),
    "READONLY": (
        BackendUnavailableError,
        "this server is a replica, which takes no writes; nothing changed. Is the address that of the master?",
    ),
    "MASTERDOWN": (BackendUnavailableError, "this server is a replica that has lost its master"),
    "CLUSTERDOWN": (BackendUnavailableError, "the cluster is down: a part of it has no master ({error})"),
    "NOREPLICAS": (BackendUnavailableError, "too few replicas are in reach for the server to take writes"),
    "MOVED": (BackendUnavailableError, "the cluster is moving data between its nodes"),
    "ASK": (BackendUnavailableError, "the cluster is moving data between its nodes"),
    "TRYAGAIN": (BackendUnavailableError, "the cluster is moving data between its nodes"),
    "MIGRATING": (BackendUnavailableError, "the cluster is moving data between its nodes"),
    "OOM": (StorageFullError, "the server has no memory left (its `maxmemory` is reached); nothing changed"),
    "MISCONF": (
        StorageReadOnlyError,
        "the server cannot write to its disk and takes no writes until it can; nothing changed. See its log",
    ),
    "WRONGPASS": (BackendUnavailableError, "the server refuses this user or password, or wants one; see the URL"),
    "NOAUTH": (BackendUnavailableError, "the server wants a password; give one in the URL"),
    "NEEDLESS": (BackendUnavailableError, "the server has no password, and one was given; take it out of the URL"),
    "NOPERM": (
        BackendUnavailableError,
        "this user may not do what perdure has to ({error}); the documentation lists the commands and keys",
    ),
    "WRONGTYPE": (
        CorruptDataError,
        "a key under perdure's name holds something else; run `perdure db verify`, or choose another namespace",
    ),
}


def code_of(error: BaseException) -> str | None:
    """The code that the server gave, or what its words amount to; None where it is neither."""
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return _by_words(error) or code
    found = _CODES.search(str(error))
    return found.group(1) if found else _by_words(error)


def _by_words(error: BaseException) -> str | None:
    return next((code for words, code in _BY_WORDS if words in str(error)), None)


def mapped(error: BaseException) -> BackendError:
    """The error that a caller sees for one of the driver's, which is its cause."""
    told = error.__cause__ if error.__cause__ is not None else error
    kind, sentence = _MEANINGS.get(code_of(told) or "", (BackendUnavailableError, "{error}"))
    meaning = kind(NAME, sentence.format(error=str(told) or type(told).__name__))
    meaning.__cause__ = told
    return meaning
