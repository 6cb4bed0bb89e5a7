"""Sessions as resources, for hosts that let people attach them: `session://{session_id}` and its history."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastmcp import FastMCP
from fastmcp.resources import ResourceTemplate
from mcp.shared import exceptions

from perdure import Session
from perdure.errors import PerdureError, SessionNotFoundError
from perdure.integrations.mcp.answers import SessionInfo, TrackedQueryInfo
from perdure.integrations.mcp.binding import Binder
from perdure.integrations.mcp.callers import current_caller
from perdure.integrations.mcp.errors import explain
from perdure.integrations.mcp.names import ToolNames
from perdure.integrations.mcp.principals import PrincipalOf

__all__ = ["SessionResources", "protocol_error"]

MEDIA_TYPE = "application/json"
RECENT = 10
HISTORY = 1_000
"""Queries that the history resource gives: the newest, which are all where settings are as they come."""

NOT_FOUND = -32602
"""MCP specification 2026-07-28, section Resources: a resource that does not exist is an invalid parameter."""


@dataclass(slots=True)
class SessionResources:
    """The resources, over one store. Each answers for the caller of the moment."""

    binder: Binder
    names: ToolNames
    principal_of: PrincipalOf

    def add_to(self, mcp: FastMCP) -> None:
        """Register both."""
        for uri, name, read in (
            ("session://{session_id}", "session", self.read_session),
            ("session://{session_id}/history", "session_history", self.read_history),
        ):
            template = ResourceTemplate.from_function(read, uri_template=uri, name=name, mime_type=MEDIA_TYPE)
            mcp.add_template(template)

    async def read_session(self, session_id: str) -> str:
        """An analysis session: what it is about, what it has gathered, its newest queries."""
        session = await self._session(session_id, f"session://{session_id}", history=RECENT)
        return SessionInfo.of(session).model_dump_json(indent=2)

    async def read_history(self, session_id: str) -> str:
        """The queries of an analysis session, oldest first; of a very long one the newest thousand."""
        session = await self._session(session_id, f"session://{session_id}/history", history=HISTORY)
        history = session.state.history
        queries = [TrackedQueryInfo.of(query).model_dump(mode="json") for query in history.queries]
        facts: dict[str, Any] = {
            "session_id": str(session.id),
            "total_queries": history.total_queries,
            "queries": queries,
        }
        return json.dumps(facts, ensure_ascii=False, indent=2)

    async def _session(self, session_id: str, uri: str, *, history: int) -> Session:
        """The session, as far as the caller can see it; `uri` is what they read.

        Raises:
            MCPError: there is none.
        """
        caller = current_caller(self.principal_of)
        try:
            session = await self.binder.sessions_of(caller.principal).get_session(session_id, history=history)
            if session is None:
                raise SessionNotFoundError(UUID(session_id))
        except PerdureError as error:
            raise protocol_error(NOT_FOUND, explain(error, self.names), data={"uri": uri}) from None
        return session


def protocol_error(code: int, message: str, *, data: dict[str, str] | None = None) -> Exception:
    """An error of the protocol, as the installed `mcp` package makes them: 2.x and 1.x differ."""
    made: Any = getattr(exceptions, "MCPError", None)
    if made is not None:
        error: Exception = made(code=code, message=message, data=data)
        return error
    from mcp.types import ErrorData

    older: Any = exceptions.McpError  # type: ignore[attr-defined]
    failure: Exception = older(ErrorData(code=code, message=message, data=data))
    return failure
