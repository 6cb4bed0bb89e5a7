"""The five session tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.tools import Tool, ToolResult
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field, ValidationError

from perdure import SessionFilter, SessionStore, SessionType
from perdure.errors import InvalidInputError, PerdureError, SessionNotFoundError
from perdure.integrations.mcp.answers import (
    CreatedSession,
    ExtendedSession,
    ListedSession,
    SessionInfo,
    SessionList,
    told,
)
from perdure.integrations.mcp.binding import Binder, is_label
from perdure.integrations.mcp.callers import Caller, current_caller
from perdure.integrations.mcp.errors import explain
from perdure.integrations.mcp.names import ToolNames
from perdure.integrations.mcp.principals import PrincipalOf
from perdure.integrations.mcp.schemas import answer_schema
from perdure.integrations.mcp.statistics import SessionStatistics, statistics_of
from perdure.integrations.mcp.tracking import SESSION_TOOL

__all__ = ["SessionTools"]

READS = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
ADDS = {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False, "openWorldHint": False}

SessionId = Annotated[str, Field(description="The id of the session, as the tool that created it gave it.")]
UserId = Annotated[
    str, Field(description="Whose sessions. Leave it out where the server knows its users, or if nobody in particular.")
]


@dataclass(slots=True)
class SessionTools:
    """The tools, over one store. Each answers for the caller of the moment."""

    store: SessionStore
    binder: Binder
    names: ToolNames
    principal_of: PrincipalOf
    clock: Callable[[], datetime]

    def add_to(self, mcp: FastMCP) -> None:
        """Register them all."""
        names = self.names
        self._add(mcp, names.create, self.create_analysis_session, CreatedSession, ADDS)
        self._add(mcp, names.info, self.get_session_info, SessionInfo, READS)
        self._add(mcp, names.list, self.list_sessions, SessionList, READS)
        self._add(mcp, names.extend, self.extend_session, ExtendedSession, ADDS)
        self._add(mcp, names.analytics, self.get_session_analytics, SessionStatistics, READS)

    def _add(
        self,
        mcp: FastMCP,
        name: str,
        verb: Callable[..., Any],
        answer: type[BaseModel],
        annotations: dict[str, Any],
    ) -> None:
        tool = Tool.from_function(
            verb,
            name=name,
            annotations=ToolAnnotations(**annotations),
            output_schema=answer_schema(answer),
            meta=SESSION_TOOL,
        )
        mcp.add_tool(tool)

    async def create_analysis_session(
        self,
        assets: Annotated[list[str], Field(description="What the analysis is about: symbols such as AAPL or BTC.")],
        session_type: Annotated[
            str,
            Field(description=f"One of {', '.join(SessionType)}, or another lower-case word such as fixed-income."),
        ],
        user_id: UserId = "",
        ttl_hours: Annotated[
            float, Field(description="How many hours it may live; 0 or left out: what the server is set to.")
        ] = 0,
        tags: Annotated[list[str], Field(description="Words to find it by.")] = [],  # noqa: B006 (never changed)
    ) -> ToolResult:
        """Begin an analysis session: a record of the queries that belong together, which outlives this conversation.

        Pass the session_id that it gives to the tools that you call for the analysis. Create one session for each
        analysis, not one for each question.
        """
        with self._for_models() as caller:
            if any(map(is_label, tags)):
                raise InvalidInputError("a tag that begins like this is the server's own; choose another")
            label = self.binder.label(caller.principal, caller.meta)
            session = await self.binder.sessions_of(caller.principal).create_session(
                assets,
                session_type,
                user_id=self._owner(caller, user_id),
                ttl_hours=ttl_hours or None,
                tags=tags if label is None else [*tags, label],
            )
            answer = CreatedSession.of(
                session, next=f"Pass session_id to the tools you call; {self.names.info} shows what was asked."
            )
            return told(answer, title=f"Created session {session.id}.")

    async def get_session_info(
        self,
        session_id: SessionId,
        recent: Annotated[int, Field(ge=0, le=100, description="How many of the newest queries to show.")] = 10,
    ) -> ToolResult:
        """Show what a session holds: its state, what it has gathered, and its newest queries.

        Expired and archived sessions can be read as well.
        """
        with self._for_models() as caller:
            session = await self.binder.sessions_of(caller.principal).get_session(session_id.strip(), history=recent)
            if session is None:
                raise SessionNotFoundError(UUID(session_id.strip()))
            info = SessionInfo.of(session)
            return told(info, title=f"Session {session.id} is {info.status}.")

    async def list_sessions(
        self,
        user_id: UserId = "",
        include_archived: Annotated[bool, Field(description="Whether to list archived sessions too.")] = False,
        limit: Annotated[int, Field(ge=1, le=100, description="How many to list at most.")] = 20,
        cursor: Annotated[str, Field(description="next_cursor of the page before; leave it out for the first.")] = "",
    ) -> ToolResult:
        """List analysis sessions, newest first, to find one to go on with."""
        with self._for_models() as caller:
            wanted = SessionFilter(user_id=user_id or None, archived=None if include_archived else False)
            sessions = self.binder.sessions_of(caller.principal)
            page = await sessions.list_sessions(wanted, limit=limit, cursor=cursor or None)
            now = self.clock()
            listed = [ListedSession.of(summary, now=now) for summary in page]
            answer = SessionList(sessions=listed, next_cursor=page.next_cursor)
            return told(answer, title=f"{_counted(len(listed), 'session')}.")

    async def extend_session(
        self,
        session_id: SessionId,
        hours: Annotated[float, Field(gt=0, description="How many hours longer it is to live.")] = 24,
    ) -> ToolResult:
        """Let a session live longer. This also revives an expired session and restores an archived one."""
        with self._for_models() as caller:
            session = await self.binder.sessions_of(caller.principal).extend_session(session_id.strip(), hours)
            until = session.expires_at.isoformat(timespec="seconds")
            return told(ExtendedSession.of(session), title=f"Session {session.id} lives until {until}.")

    async def get_session_analytics(
        self,
        user_id: UserId = "",
        session_type: Annotated[str, Field(description="Only sessions of this type.")] = "",
        days: Annotated[int, Field(ge=1, le=3660, description="Created within so many days.")] = 30,
    ) -> ToolResult:
        """Count what the sessions of a period amount to: how many, how many queries, which assets and query types."""
        with self._for_models() as caller:
            numbers = await statistics_of(
                self.binder.sessions_of(caller.principal),
                user_id=user_id or None,
                session_type=session_type or None,
                days=days,
            )
            title = f"{_counted(numbers.total_sessions, 'session')} within {_counted(days, 'day')}."
            return told(numbers, title=title)

    @contextmanager
    def _for_models(self) -> Iterator[Caller]:
        """Who is calling; what goes wrong becomes an error that a model can act on."""
        try:
            yield current_caller(self.principal_of)
        except PerdureError as error:
            raise ToolError(explain(error, self.names)) from error
        except ValidationError as error:  # a filter, whose fields are checked as it is made
            reasons = (problem["msg"].removeprefix("Value error, ") for problem in error.errors())
            raise ToolError("; ".join(reasons)) from error

    def _owner(self, caller: Caller, user_id: str) -> str | None:
        """Whose the new session is.

        Raises:
            InvalidInputError: the caller is authenticated as somebody else.
        """
        if caller.principal is not None and user_id not in ("", caller.principal):
            raise InvalidInputError(f"You are authenticated as {caller.principal!r}: leave user_id out.")
        return caller.principal or user_id or None


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
