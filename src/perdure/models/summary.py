"""What is said of sessions without loading them whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, computed_field

from perdure.models.measures import SessionFacts, micros_of
from perdure.models.names import SessionType, checked_type
from perdure.models.session import Session
from perdure.models.stored import StoredSession
from perdure.models.times import Instant

__all__ = ["SessionMetrics", "SessionSummary", "SessionTotals"]


class SessionSummary(BaseModel):
    """One line of a listing."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    user_id: str | None
    type: Annotated[SessionType | str, BeforeValidator(checked_type)]
    assets: tuple[str, ...]
    tags: tuple[str, ...]
    created_at: Instant
    expires_at: Instant
    last_accessed_at: Instant
    archived_at: Instant | None
    version: int
    total_queries: int
    cache_hits: int
    is_stale: bool = False
    """Whether this may be out of date, since the tier that would know did not answer."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_archived(self) -> bool:
        """Whether the session is in the archive."""
        return self.archived_at is not None

    def is_expired(self, now: datetime) -> bool:
        """Whether its time has run out at `now`."""
        return now >= self.expires_at

    @classmethod
    def of(cls, stored: StoredSession) -> SessionSummary:
        """The summary of what a backend keeps."""
        return cls.model_construct(
            id=stored.id,
            user_id=stored.user_id,
            type=checked_type(stored.type),
            assets=stored.assets,
            tags=stored.tags,
            created_at=stored.created_at,
            expires_at=stored.expires_at,
            last_accessed_at=stored.last_accessed_at,
            archived_at=stored.archived_at,
            version=stored.version,
            total_queries=stored.total_queries,
            cache_hits=stored.cache_hits,
            is_stale=stored.stale,
        )


class SessionMetrics(BaseModel):
    """The numbers of one session: a pure function of it, so that computing them again gives the same."""

    model_config = ConfigDict(frozen=True)

    session_id: UUID
    user_id: str | None
    type: str
    assets: tuple[str, ...]
    tags: tuple[str, ...]
    created_at: Instant
    expires_at: Instant
    archived_at: Instant | None
    duration_seconds: float
    total_queries: int
    cache_hits: int
    errors: int
    query_types: dict[str, int]
    execution_time_ms: float
    """The sum over the queries that say how long they took, each to the microsecond."""
    timed_queries: int
    """How many of them do."""

    @classmethod
    def of(cls, session: Session) -> Self:
        """The metrics of a session whose history is loaded whole."""
        types: Counter[str] = Counter()
        errors = timed = micros = 0
        for query in session.state.history.queries:
            types[query.query_type] += 1
            errors += query.error is not None
            timed += query.execution_time_ms is not None
            micros += micros_of(query.execution_time_ms or 0.0)
        return cls(
            session_id=session.id,
            user_id=session.user_id,
            type=str(session.type),
            assets=tuple(session.assets),
            tags=tuple(session.tags),
            created_at=session.created_at,
            expires_at=session.expires_at,
            archived_at=session.archived_at,
            duration_seconds=session.duration.total_seconds(),
            total_queries=session.state.history.total_queries,
            cache_hits=session.state.history.cache_hits,
            errors=errors,
            query_types=dict(types),
            execution_time_ms=micros / 1000,
            timed_queries=timed,
        )

    @classmethod
    def counted(cls, session: SessionFacts, counts: Mapping[str, int]) -> Self:
        """The metrics of a session of which the facts are known, and what it counts (`perdure.models.measures`)."""
        return cls(
            session_id=session.id,
            user_id=session.user_id,
            type=str(session.type),
            assets=session.assets,
            tags=session.tags,
            created_at=session.created_at,
            expires_at=session.expires_at,
            archived_at=session.archived_at,
            duration_seconds=(session.last_accessed_at - session.created_at).total_seconds(),
            total_queries=session.total_queries,
            cache_hits=session.cache_hits,
            errors=counts.get("errors", 0),
            query_types={key[6:]: count for key, count in counts.items() if key.startswith("query:")},
            execution_time_ms=counts.get("took_us", 0) / 1000,
            timed_queries=counts.get("timed", 0),
        )


class SessionTotals(BaseModel):
    """What many sessions amount to, counted where they are kept."""

    model_config = ConfigDict(frozen=True)

    sessions: int = 0
    archived_sessions: int = 0
    total_queries: int = 0
    cache_hits: int = 0
    errors: int = 0
    longest_session: int = 0
    """Queries in the session that has the most."""
    execution_time_ms: float = 0.0
    """The sum over the queries that say how long they took."""
    timed_queries: int = 0
    """How many of them do."""
    assets: dict[str, int] = {}
    """Sessions by asset, most first, then by name."""
    tags: dict[str, int] = {}
    session_types: dict[str, int] = {}
    query_types: dict[str, int] = {}
    """Queries by type, most first, then by name."""
