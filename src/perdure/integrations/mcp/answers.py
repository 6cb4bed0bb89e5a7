"""What the session tools answer: structured, and as text that says the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from fastmcp.tools import ToolResult
from pydantic import BaseModel

from perdure import QueryRecord, Session, SessionSummary
from perdure.integrations.mcp.binding import own_tags
from perdure.integrations.mcp.recording import cut

__all__ = [
    "VALUE_LENGTH",
    "CreatedSession",
    "ExtendedSession",
    "ListedSession",
    "SessionInfo",
    "SessionList",
    "TrackedQueryInfo",
    "hanging",
    "told",
]

VALUE_LENGTH = 500
"""Characters shown of one value of a session's state, and of one argument, summary or error of a query."""

Status = Literal["active", "expired", "archived"]


class CreatedSession(BaseModel):
    """A new session."""

    session_id: UUID
    user_id: str | None
    session_type: str
    assets: list[str]
    tags: list[str]
    created_at: datetime
    expires_at: datetime
    next: str
    """What to do with it."""

    @classmethod
    def of(cls, session: Session, *, next: str) -> CreatedSession:  # noqa: A002 (the name of the field)
        """What was created, and what to do now."""
        return cls(
            session_id=session.id,
            user_id=session.user_id,
            session_type=str(session.type),
            assets=session.assets,
            tags=own_tags(session.tags),
            created_at=session.created_at,
            expires_at=session.expires_at,
            next=next,
        )


class TrackedQueryInfo(BaseModel):
    """One query of a session. Long values are cut to their beginning."""

    position: int
    at: datetime
    query_type: str
    parameters: dict[str, Any]
    result_summary: str | None
    execution_time_ms: float | None
    cache_hit: bool
    error: str | None

    @classmethod
    def of(cls, query: QueryRecord) -> TrackedQueryInfo:
        """What is shown of a query: others than this integration may have put anything into it."""
        return cls(
            position=query.position or 0,
            at=query.timestamp,
            query_type=query.query_type,
            parameters=_shown(query.parameters),
            result_summary=cut(query.result_summary, VALUE_LENGTH),
            execution_time_ms=None if query.execution_time_ms is None else round(query.execution_time_ms, 3),
            cache_hit=query.cache_hit,
            error=cut(query.error, VALUE_LENGTH),
        )


class SessionInfo(BaseModel):
    """A session with its newest queries. Long values are cut to their beginning."""

    session_id: UUID
    status: Status
    user_id: str | None
    session_type: str
    assets: list[str]
    tags: list[str]
    created_at: datetime
    last_accessed_at: datetime
    expires_at: datetime
    seconds_remaining: float
    """For which it takes queries; 0 unless it is active."""
    archived_at: datetime | None
    total_queries: int
    cache_hits: int
    context: dict[str, Any]
    preferences: dict[str, Any]
    intermediate_results: list[str]
    """The keys under which results are kept."""
    recent_queries: list[TrackedQueryInfo]

    @classmethod
    def of(cls, session: Session) -> SessionInfo:
        """What is known of a session; of its queries, those that were loaded with it."""
        history = session.state.history
        status = _status(archived=session.is_archived, expired=session.is_expired)
        return cls(
            session_id=session.id,
            status=status,
            user_id=session.user_id,
            session_type=str(session.type),
            assets=session.assets,
            tags=own_tags(session.tags),
            created_at=session.created_at,
            last_accessed_at=session.last_accessed_at,
            expires_at=session.expires_at,
            seconds_remaining=round(session.time_remaining.total_seconds(), 3) if status == "active" else 0.0,
            archived_at=session.archived_at,
            total_queries=history.total_queries,
            cache_hits=history.cache_hits,
            context=_shown(session.state.context),
            preferences=_shown(session.state.preferences),
            intermediate_results=sorted(session.state.intermediate_results),
            recent_queries=[TrackedQueryInfo.of(query) for query in history.queries],
        )


class ListedSession(BaseModel):
    """One line of a listing."""

    session_id: UUID
    status: Status
    user_id: str | None
    session_type: str
    assets: list[str]
    tags: list[str]
    created_at: datetime
    expires_at: datetime
    total_queries: int

    @classmethod
    def of(cls, summary: SessionSummary, *, now: datetime) -> ListedSession:
        """What a listing says of a session."""
        return cls(
            session_id=summary.id,
            status=_status(archived=summary.is_archived, expired=summary.is_expired(now)),
            user_id=summary.user_id,
            session_type=str(summary.type),
            assets=list(summary.assets),
            tags=own_tags(summary.tags),
            created_at=summary.created_at,
            expires_at=summary.expires_at,
            total_queries=summary.total_queries,
        )


class SessionList(BaseModel):
    """One page of sessions, newest first."""

    sessions: list[ListedSession]
    next_cursor: str | None
    """Pass it as `cursor` for the next page; null on the last one."""


class ExtendedSession(BaseModel):
    """A session that lives longer now."""

    session_id: UUID
    status: Status
    expires_at: datetime
    seconds_remaining: float
    total_queries: int

    @classmethod
    def of(cls, session: Session) -> ExtendedSession:
        """Until when it lives."""
        return cls(
            session_id=session.id,
            status=_status(archived=session.is_archived, expired=session.is_expired),
            expires_at=session.expires_at,
            seconds_remaining=round(session.time_remaining.total_seconds(), 3),
            total_queries=session.state.history.total_queries,
        )


def told(answer: BaseModel, *, title: str) -> ToolResult:
    """The answer for programs and for readers: every fact of the one is in the other."""
    facts: dict[str, Any] = answer.model_dump(mode="json")
    return ToolResult(content="\n".join([title, *_lines(facts)]), structured_content=facts)


def hanging(text: str, indent: str) -> str:
    """The text with all lines but the first indented, so that what was noted cannot look like a line of the answer."""
    return f"\n{indent}".join(text.splitlines()) if text else text


def _lines(facts: Mapping[str, Any], indent: str = "") -> Iterable[str]:
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            yield hanging(f"{indent}{name}:", indent + "  ")
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield hanging(f"{indent}{name}:", indent + "  ")
            for item in value:
                yield from _item(item, indent + "  ")
        else:
            yield hanging(f"{indent}{name}: {_text(value)}", indent + "  ")


def _item(item: Any, indent: str) -> Iterable[str]:
    if not isinstance(item, dict):
        yield hanging(f"{indent}- {_text(item)}", indent + "  ")
        return
    first = True
    for line in _lines(item, indent + "  "):
        yield f"{indent}- {line.lstrip()}" if first else line
        first = False


def _text(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case [] | {}:
            return "none"
        case list():
            return ", ".join(_text(item) for item in value)
    return str(value)


def _status(*, archived: bool, expired: bool) -> Status:
    if archived:
        return "archived"
    return "expired" if expired else "active"


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _short(value) for key, value in values.items()}


def _short(value: Any) -> Any:
    text = value if isinstance(value, str) else str(value)
    return value if len(text) <= VALUE_LENGTH else cut(text, VALUE_LENGTH)
