"""Checking what callers pass, before anything is sent."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from perdure.errors import InvalidIdError, InvalidInputError, InvalidTTLError
from perdure.models import Session, SessionFilter, StatsFilter
from perdure.models.times import hours_of
from perdure.settings import Settings

__all__ = ["checked_filter", "checked_id", "checked_limit", "checked_session", "checked_stats_filter", "checked_ttl"]

F = TypeVar("F", SessionFilter, StatsFilter)

MAX_PAGE = 1_000
"""Most items of one page."""


def checked_id(given: UUID | str) -> UUID:
    """A session id, from a `UUID` or its text.

    Raises:
        InvalidIdError: it is neither.
    """
    if isinstance(given, UUID):
        return given
    try:
        if not isinstance(given, str):
            raise TypeError("neither a UUID nor text")
        return UUID(given)
    except (ValueError, TypeError):
        raise InvalidIdError(given) from None


def checked_session(given: Session) -> Session:
    """A session.

    Raises:
        InvalidInputError: anything else.
    """
    if not isinstance(given, Session):
        raise InvalidInputError(f"expected a Session, not {type(given).__name__}")
    return given


def checked_filter(given: SessionFilter | None) -> SessionFilter:
    """A filter; without one, that which everything matches.

    Raises:
        InvalidInputError: anything else.
    """
    return _checked_or_new(given, SessionFilter)


def checked_stats_filter(given: StatsFilter | None) -> StatsFilter:
    """The same for statistics.

    Raises:
        InvalidInputError: anything else.
    """
    return _checked_or_new(given, StatsFilter)


def _checked_or_new(given: F | None, kind: type[F]) -> F:
    if given is None:
        return kind()
    if not isinstance(given, kind):
        raise InvalidInputError(f"expected a {kind.__name__}, not {type(given).__name__}")
    return given


def checked_limit(given: int, *, name: str = "limit", lowest: int = 1, highest: int = MAX_PAGE) -> int:
    """A whole number within bounds.

    Raises:
        InvalidInputError: anything else; names the bounds.
    """
    if not isinstance(given, int) or isinstance(given, bool) or not lowest <= given <= highest:
        raise InvalidInputError(f"{name} must be a whole number from {lowest} to {highest}, not {given!r}")
    return given


def checked_ttl(ttl_hours: float | None, ttl: timedelta | None, settings: Settings) -> timedelta:
    """How long a new session is to live.

    Raises:
        InvalidInputError: both are given, or something that is no duration.
        InvalidTTLError: outside the range that the settings allow.
    """
    if ttl is not None and ttl_hours is not None:
        raise InvalidInputError("give ttl or ttl_hours, not both")
    if ttl is None:
        ttl = settings.default_ttl if ttl_hours is None else hours_of(ttl_hours)
    if not isinstance(ttl, timedelta):
        raise InvalidInputError(f"ttl must be a timedelta, not {ttl!r}")
    if not timedelta(0) < ttl <= settings.max_ttl:
        raise InvalidTTLError(ttl, maximum=settings.max_ttl)
    return ttl
