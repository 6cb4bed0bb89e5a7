"""Every setting: its name, default and unit. From arguments, else `PERDURE_*` in the environment, else the default."""

from __future__ import annotations

import difflib
import os
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from perdure.errors import ConfigurationError
from perdure.models.session import DEFAULT_MAX_QUERIES, DEFAULT_MAX_TTL
from perdure.values import ValueEncoder, encode_default

__all__ = ["Settings"]

PREFIX = "PERDURE_"

_CENTURY_DAYS = 36_525
Seconds = Annotated[float, Field(gt=0, le=_CENTURY_DAYS * 86_400)]
Minutes = Annotated[float, Field(gt=0, le=_CENTURY_DAYS * 1_440)]
Hours = Annotated[float, Field(gt=0, le=_CENTURY_DAYS * 24)]
Days = Annotated[float, Field(gt=0, le=_CENTURY_DAYS)]


class Settings(BaseSettings):
    """How a store behaves. Give some by name, `Settings(session_default_ttl_hours=8)`; the environment gives others.

    Raises:
        ConfigurationError: a name that does not exist, here or as `PERDURE_…` in the environment, or a bad value.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    url: str | None = None
    """Where sessions are kept; None: one SQLite file in the user's data directory."""
    archive: str | None = None
    """Where expired sessions go, where that is another place."""
    acknowledge: Literal["archive", "hot"] = "archive"
    """With two tiers: which of them must hold a write before the caller hears of success."""

    session_default_ttl_hours: Hours = 24
    """How long a session lives if nobody says."""
    session_max_ttl_hours: Hours = DEFAULT_MAX_TTL / timedelta(hours=1)
    """The longest that one may live from now."""
    session_cleanup_interval_minutes: Minutes = 60
    """How often an open store archives what has expired."""
    session_retention_days: Days = 30
    """How long archived sessions are kept."""
    session_max_queries_per_session: Annotated[int, Field(ge=1)] = DEFAULT_MAX_QUERIES
    """Queries that one session may hold."""
    session_enable_analytics: bool = True
    """Whether `session_archived` hooks are given the metrics of the session."""

    sweep_in_background: bool = True
    """Whether an open store does its maintenance by itself, every `session_cleanup_interval_minutes`."""
    sweep_on_open: bool = True
    """Whether it does so right after opening when the last time is longer ago than that."""
    sweep_batch: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Sessions that one claim takes."""
    sweep_lease_seconds: Seconds = 60
    """How long claimed sessions are left alone by other sweepers."""

    cache_ttl_seconds: Seconds = 5
    """With two tiers and `acknowledge="archive"`: how old may be what the hot tier says."""
    hot_timeout_seconds: Seconds = 2
    """How long to wait for the hot tier of two."""
    archive_timeout_seconds: Seconds = 10
    """How long to wait for the archive of two tiers."""
    tier_retry_seconds: Seconds = 1
    """How long a tier that fails again and again is left alone before it is asked again."""

    max_value_bytes: Annotated[int, Field(ge=64)] = 256 * 1024
    """JSON text of one value, or of one query."""
    max_state_bytes: Annotated[int, Field(ge=64)] = 4 * 1024 * 1024
    """Keys and values of one session together, its history not counted."""
    max_key_length: Annotated[int, Field(ge=1)] = 256
    """Characters in one key."""
    hook_timeout_seconds: Seconds = 1.0
    """How long an `async` hook may take."""
    plugins: Annotated[tuple[str, ...], NoDecode] = ()
    """Plugins to import, as `package.module` or `package.module:name`; in the environment with commas in between."""

    value_encoder: ValueEncoder = Field(default=encode_default, exclude=True, repr=False)
    """What turns values that are not JSON into JSON; see `perdure.values.encode_default`. Not from the environment."""

    def __init__(self, **values: Any) -> None:
        _refuse_unknown_environment(type(self))
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigurationError(_sentence(error, list(type(self).model_fields))) from None

    @field_validator("plugins", mode="before")
    @classmethod
    def _names_apart(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        return tuple(name for part in given.split(",") if (name := part.strip()))

    @model_validator(mode="after")
    def _ranges_fit(self) -> Self:
        if self.session_default_ttl_hours > self.session_max_ttl_hours:
            raise ValueError("session_default_ttl_hours is above session_max_ttl_hours")
        return self

    @property
    def default_ttl(self) -> timedelta:
        """`session_default_ttl_hours` as a duration."""
        return timedelta(hours=self.session_default_ttl_hours)

    @property
    def max_ttl(self) -> timedelta:
        """`session_max_ttl_hours` as a duration."""
        return timedelta(hours=self.session_max_ttl_hours)

    @property
    def cleanup_interval(self) -> timedelta:
        """`session_cleanup_interval_minutes` as a duration."""
        return timedelta(minutes=self.session_cleanup_interval_minutes)

    @property
    def retention(self) -> timedelta:
        """`session_retention_days` as a duration."""
        return timedelta(days=self.session_retention_days)

    @property
    def sweep_lease(self) -> timedelta:
        """`sweep_lease_seconds` as a duration."""
        return timedelta(seconds=self.sweep_lease_seconds)


def _refuse_unknown_environment(settings: type[Settings]) -> None:
    known = {PREFIX + name.upper() for name in settings.model_fields} - {PREFIX + "VALUE_ENCODER"}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            raise ConfigurationError(f"no setting {name} in the environment{_nearest(name.upper(), known)}")


def _sentence(error: ValidationError, known: list[str]) -> str:
    sentences = []
    for problem in error.errors():
        name = ".".join(str(step) for step in problem["loc"])
        if problem["type"] == "extra_forbidden":
            sentences.append(f"no setting {name}{_nearest(name, known)}")
        else:
            reason = problem["msg"].removeprefix("Value error, ")
            sentences.append(f"{name}: {reason}, not {problem['input']!r}" if name else reason)
    return "; ".join(sentences)


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
