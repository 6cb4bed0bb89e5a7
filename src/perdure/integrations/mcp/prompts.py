"""The prompt that lets a model go on where a session stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from fastmcp import FastMCP
from fastmcp.prompts import Prompt

from perdure import QueryRecord, Session
from perdure.errors import PerdureError, SessionNotFoundError
from perdure.integrations.mcp.answers import VALUE_LENGTH, SessionInfo, hanging
from perdure.integrations.mcp.binding import Binder
from perdure.integrations.mcp.callers import current_caller
from perdure.integrations.mcp.errors import explain
from perdure.integrations.mcp.names import ToolNames
from perdure.integrations.mcp.principals import PrincipalOf
from perdure.integrations.mcp.recording import cut
from perdure.integrations.mcp.resources import NOT_FOUND, protocol_error

__all__ = ["SessionPrompts", "open_ends"]

LOOKED_AT = 100
"""Of how many of the newest queries the open ends are looked for."""
SHOWN = 10


@dataclass(slots=True)
class SessionPrompts:
    """The prompts, over one store."""

    binder: Binder
    names: ToolNames
    principal_of: PrincipalOf

    def add_to(self, mcp: FastMCP) -> None:
        """Register the prompt."""
        prompt = Prompt.from_function(self.resume_analysis, name=self.names.resume)
        for argument in prompt.arguments or []:
            argument.description = "The session to go on with."
        mcp.add_prompt(prompt)

    # A plain `str`, nothing more: to the description of any other argument fastmcp adds its JSON schema.
    async def resume_analysis(self, session_id: str) -> str:
        """Go on with an analysis: what it is about, what was found, what was asked last, and what is still open."""
        caller = current_caller(self.principal_of)
        try:
            session = await self.binder.sessions_of(caller.principal).get_session(session_id.strip(), history=LOOKED_AT)
            if session is None:
                raise SessionNotFoundError(UUID(session_id.strip()))
        except PerdureError as error:
            raise protocol_error(NOT_FOUND, explain(error, self.names)) from None
        return "\n".join(_lines(session, self.names))


def open_ends(session: Session) -> list[str]:
    """What is left to be done: queries that failed and were not answered since, assets that nobody asked about.

    An asset was asked about where it is a word of a question, in capitals or not.
    """
    failed: dict[str, QueryRecord] = {}
    asked = list[str]()
    for query in session.state.history.queries:
        question = _question(query)
        asked.append(question)
        if query.error is None:
            failed.pop(question, None)
        else:
            failed[question] = query
    ends = [
        f"{cut(question, VALUE_LENGTH)} failed: {cut(query.error, VALUE_LENGTH)}" for question, query in failed.items()
    ]
    whole = session.state.history.total_queries <= LOOKED_AT
    unasked = _unasked(session.assets, "\n".join(asked)) if whole else []
    return ends + [f"nothing was asked about {asset} yet" for asset in unasked]


def _unasked(assets: Iterable[str], asked: str) -> list[str]:
    return [asset for asset in assets if not re.search(rf"(?<!\w){re.escape(asset)}(?!\w)", asked, re.IGNORECASE)]


def _lines(session: Session, names: ToolNames) -> Iterable[str]:
    info = SessionInfo.of(session)
    yield f"Go on with the {info.session_type} analysis of {', '.join(info.assets)} in session {session.id}."
    if info.status == "active":
        yield f"Pass session_id={session.id} to the tools you call; it lives until {info.expires_at.isoformat()}."
    else:
        yield f"The session is {info.status}: call {names.extend} first, then pass session_id to the tools you call."
    yield from _section("Context", (f"{key}: {_json(value)}" for key, value in info.context.items()))
    yield from _section("Preferences", (f"{key}: {_json(value)}" for key, value in info.preferences.items()))
    yield from _section("Results kept in the session", info.intermediate_results)
    newest = session.state.history.queries[-SHOWN:]
    yield from _section(f"Last queries ({session.state.history.total_queries} in all)", map(_told, newest))
    yield from _section("Open ends", open_ends(session))


def _section(title: str, lines: Iterable[str]) -> Sequence[str]:
    shown = [hanging(f"- {line}", "  ") for line in lines]
    return ["", f"{title}:", *shown] if shown else []


def _told(query: QueryRecord) -> str:
    came = f"failed: {query.error}" if query.error is not None else query.result_summary or "no summary"
    return f"{query.position}. {cut(_question(query), VALUE_LENGTH)}: {cut(came, VALUE_LENGTH)}"


def _question(query: QueryRecord) -> str:
    return f"{query.query_type} {_json(query.parameters)}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
