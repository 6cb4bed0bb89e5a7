"""The session: who analyses what, until when, and what has come of it so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, computed_field
from uuid_utils.compat import uuid7

from perdure.errors import (
    InvalidInputError,
    InvalidTTLError,
    QueryLimitExceededError,
    SessionArchivedError,
    SessionExpiredError,
)
from perdure.models.history import AnalysisHistory, QueryLog
from perdure.models.names import SessionType, checked_name, checked_names, checked_type
from perdure.models.query import QueryRecord, store_query
from perdure.models.state import SECTIONS, Section, SessionState
from perdure.models.stored import StoredSession
from perdure.models.times import Clock, Instant, hours_of, to_utc, utc_now
from perdure.values import encode, encode_default

__all__ = ["DEFAULT_MAX_QUERIES", "DEFAULT_MAX_TTL", "Loaded", "Session"]

DEFAULT_MAX_QUERIES = 1000
"""Queries a session may hold where no store says otherwise."""

DEFAULT_MAX_TTL = timedelta(hours=168)
"""How far from now a session may expire where no store says otherwise."""


@dataclass(slots=True)
class Loaded:
    """What a session looked like when it was loaded, and how: the baseline of its difference."""

    assets: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    expires_at: datetime | None = None
    last_accessed_at: datetime | None = None
    history: int | None = None
    unsettled: Any = None
    """A change that was sent and whose outcome is not known."""
    outdated: bool = False
    """Whether others are known to have written since, which has not been read yet."""
    max_queries: int = DEFAULT_MAX_QUERIES
    max_ttl: timedelta = DEFAULT_MAX_TTL
    clock: Clock = utc_now
    stale: bool = False
    """Whether the backend could only give it as it was when it was last sure."""


class Session(BaseModel):
    """A session of analysis. Change it freely; `SessionStore.update_session` writes the difference only.

    Times are aware and in UTC. `version` grows by one with every applied change, `head` names the last one.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    id: UUID = Field(default_factory=uuid7, frozen=True)
    user_id: Annotated[
        str | None,
        BeforeValidator(lambda given: given if given is None else checked_name(given, what="user_id")),
    ] = Field(default=None, frozen=True)
    type: Annotated[SessionType | str, BeforeValidator(checked_type)] = Field(frozen=True)
    assets: Annotated[list[str], BeforeValidator(lambda given: checked_names(given, what="assets"))]
    tags: Annotated[list[str], BeforeValidator(lambda given: checked_names(given, what="tags"))] = Field(
        default_factory=list
    )
    created_at: Instant = Field(default_factory=utc_now, frozen=True)
    expires_at: Instant
    last_accessed_at: Instant = Field(default_factory=utc_now)
    state: SessionState = Field(default_factory=SessionState, frozen=True)
    archived_at: Instant | None = Field(default=None, frozen=True)
    version: int = Field(default=0, frozen=True)
    head: str = Field(default="", frozen=True)

    _loaded: Loaded = PrivateAttr(default_factory=Loaded)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_archived(self) -> bool:
        """Whether the session is in the archive: readable, not writable, until it is extended."""
        return self.archived_at is not None

    @property
    def is_stale(self) -> bool:
        """Whether this may be out of date, since the tier that would know did not answer when it was read."""
        return self._loaded.stale

    @property
    def is_expired(self) -> bool:
        """Whether its time has run out."""
        return self._loaded.clock() >= self.expires_at

    @property
    def time_remaining(self) -> timedelta:
        """Until it expires; zero where it has."""
        return max(self.expires_at - self._loaded.clock(), timedelta(0))

    @property
    def duration(self) -> timedelta:
        """From its creation to the last write, or touch."""
        return self.last_accessed_at - self.created_at

    @property
    def last_query(self) -> QueryRecord | None:
        """The newest of the loaded queries."""
        return self.state.history.queries[-1] if self.state.history.queries else None

    def extend(self, hours: float = 24) -> None:
        """Let it live `hours` longer, counted from the later of now and its present expiry, within the maximum.

        Raises:
            InvalidTTLError: `hours` is not above 0, or above the maximum.
        """
        self.expires_at = extended(
            self.expires_at, hours_of(hours), now=self._loaded.clock(), maximum=self._loaded.max_ttl
        )

    def touch(self) -> None:
        """Note that it was used just now."""
        self.last_accessed_at = max(self.last_accessed_at, self._loaded.clock())

    def add_query(self, query: QueryRecord) -> None:
        """Append a query; `update_session` stores it.

        Raises:
            QueryLimitExceededError: the session is full.
            SessionArchivedError, SessionExpiredError: it takes no writes; extend it first.
        """
        history, limit = self.state.history, self._loaded.max_queries
        if self.archived_at is not None and self.expires_at == self._loaded.expires_at:
            raise SessionArchivedError(self.id, archived_at=self.archived_at)
        if self.is_expired:
            raise SessionExpiredError(self.id, expired_at=self.expires_at)
        if history.total_queries >= limit:
            raise QueryLimitExceededError(self.id, limit=limit, count=history.total_queries, adding=1)
        history.add_query(query)
        self.touch()

    def to_dict(self) -> dict[str, Any]:
        """The whole session as JSON-ready values; `from_dict` gives back an equal one."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The session that `to_dict` described, as if it had been loaded looking like that.

        Queries without a position count as not stored yet.

        Raises:
            ValueError: `data` describes no session; pydantic's error, or `InvalidInputError`.
        """
        session = cls.model_validate({key: value for key, value in data.items() if key != "is_archived"})
        session.remember_as_loaded()
        return session

    def remember_as_loaded(self) -> None:
        """Take its present looks as what is stored; queries without a position stay new.

        Raises:
            InvalidInputError: the positions have gaps, or do not end where the counters say.
        """
        for name in SECTIONS:
            section = self.state.section(name)
            texts = {
                key: encode(value, name=f"{name}[{key!r}]", encoder=encode_default) for key, value in section.items()
            }
            self.state.__dict__[name] = Section(stored=texts)
        history = self.state.history
        placed = [query for query in history.queries if query.position is not None]
        new = [query for query in history.queries if query.position is None]
        stored = history.total_queries - len(new)
        first = stored - len(placed) + 1
        if first < 1 or [query.position for query in history.queries[: len(placed)]] != [*range(first, stored + 1)]:
            raise InvalidInputError(f"the positions of the queries must end at {stored} and have no gaps")
        bodies = [store_query(query, encoder=encode_default).body for query in placed]
        history.queries = QueryLog(bodies, first=first, new=new)
        self._loaded.history = None if first == 1 else len(placed)
        self.note_labels()

    def note_labels(self) -> None:
        """Take the present assets, tags and times as the baseline of the next difference."""
        loaded = self._loaded
        loaded.assets, loaded.tags = tuple(self.assets), tuple(self.tags)
        loaded.expires_at, loaded.last_accessed_at = self.expires_at, self.last_accessed_at

    @classmethod
    def of(cls, stored: StoredSession, loaded: Loaded) -> Session:
        """A session made of what a backend gave, decoding nothing yet; `loaded` is completed from it."""
        session = cls.model_construct(
            id=stored.id,
            user_id=stored.user_id,
            type=checked_type(stored.type),
            assets=list(stored.assets),
            tags=list(stored.tags),
            created_at=stored.created_at,
            expires_at=stored.expires_at,
            last_accessed_at=stored.last_accessed_at,
            archived_at=stored.archived_at,
            version=stored.version,
            head=stored.head,
            state=SessionState.model_construct(
                **{name: Section(stored=stored.sections[name]) for name in SECTIONS},  # type: ignore[arg-type]
                history=AnalysisHistory.model_construct(
                    queries=QueryLog(stored.queries, first=stored.first_position),
                    total_queries=stored.total_queries,
                    cache_hits=stored.cache_hits,
                    first_query_at=stored.first_query_at,
                    last_query_at=stored.last_query_at,
                ),
            ),
        )
        session._loaded = loaded
        loaded.stale = stored.stale
        session.note_labels()
        return session

    def __eq__(self, other: object) -> bool:
        """Two sessions are equal when they look the same, however they were loaded."""
        return isinstance(other, Session) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]


def extended(present: datetime, by: timedelta, *, now: datetime, maximum: timedelta) -> datetime:
    """A later expiry: `by` after the later of `now` and `present`, at most `maximum` from `now`, never earlier.

    Raises:
        InvalidTTLError: `by` is not above 0, or above `maximum`.
    """
    if not timedelta(0) < by <= maximum:
        raise InvalidTTLError(by, maximum=maximum)
    present = to_utc(present, name="expires_at")
    return max(present, min(max(present, now) + by, now + maximum))
