"""The names that sessions carry: types, users, assets, tags, keys; what they may be, and how long."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from perdure.errors import InvalidInputError, ValueTooLargeError

__all__ = [
    "MAX_LABELS",
    "MAX_NAME_LENGTH",
    "SessionType",
    "checked_key",
    "checked_name",
    "checked_names",
    "checked_type",
]

MAX_NAME_LENGTH = 256
"""Characters in a user id, asset, tag, query type or session type."""

MAX_LABELS = 256
"""Assets, and tags, of one session."""

_SLUG = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")


class SessionType(StrEnum):
    """What an analysis is about. A session also takes any other lower-case slug, such as `fixed-income`."""

    EQUITY = "equity"
    CRYPTO = "crypto"
    PORTFOLIO = "portfolio"
    COMPARATIVE = "comparative"
    MACRO = "macro"


def checked_type(given: object) -> SessionType | str:
    """The session type, as a member of `SessionType` where it is one.

    Raises:
        InvalidInputError: not a lower-case slug.
    """
    if type(given) is str and given in SessionType._value2member_map_:
        return SessionType(given)
    name = checked_name(given, what="session_type")
    if name in SessionType._value2member_map_:
        return SessionType(name)
    if _SLUG.fullmatch(name) is None:
        raise InvalidInputError(
            f"session_type must be a lower-case slug such as 'equity' or 'fixed-income', not {name!r}"
        )
    return name


def checked_name(given: object, *, what: str) -> str:
    """The name as plain text.

    Raises:
        InvalidInputError: not text, empty, only white space, or with NUL or a lone surrogate.
        ValueTooLargeError: longer than `MAX_NAME_LENGTH`.
    """
    name = _plain_text(given, what=what)
    if len(name) > MAX_NAME_LENGTH:
        raise ValueTooLargeError(what, size=len(name), limit=MAX_NAME_LENGTH, unit="characters")
    return name


def _plain_text(given: object, *, what: str) -> str:
    if not isinstance(given, str):
        raise InvalidInputError(f"{what} must be text, not {type(given).__name__}")
    text = str.__str__(given)
    if not text.strip():
        raise InvalidInputError(f"{what} must not be empty")
    if "\0" in text or not (text.isascii() or _is_whole(text)):
        raise InvalidInputError(f"{what} must not hold NUL or lone surrogates: {text!r}")
    return text


def _is_whole(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def is_hidden(tag: str) -> bool:
    """Whether a tag is there for a program, which finds sessions by it, and no statistics: it begins with a dot."""
    return tag.startswith(".")


def checked_key(given: object, *, section: str, limit: int) -> str:
    """The key of an entry, as plain text.

    Raises:
        InvalidInputError, ValueTooLargeError: as for a name, with `limit` characters.
    """
    if isinstance(given, str) and len(given) > limit:
        raise ValueTooLargeError(
            f"the key {given[:40]!r}… of {section}", size=len(given), limit=limit, unit="characters"
        )
    return _plain_text(given, what=f"a key of {section}")


def checked_names(given: Iterable[str] | None, *, what: str) -> list[str]:
    """The names in the order given, each once; `what` is their plural.

    Raises:
        InvalidInputError: a text or something else where a list of texts belongs, or a bad name in it.
        ValueTooLargeError: more than `MAX_LABELS`, or a name that is too long.
    """
    if given is None:
        return []
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InvalidInputError(f"{what} must be a list of texts, not {type(given).__name__}: {given!r}")
    names = list(dict.fromkeys(checked_name(name, what=f"each of {what}") for name in given))
    if len(names) > MAX_LABELS:
        raise ValueTooLargeError(what, size=len(names), limit=MAX_LABELS, unit="entries")
    return names
