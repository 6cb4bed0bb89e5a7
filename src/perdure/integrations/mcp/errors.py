"""What went wrong, in sentences that a model can act on: each names the tool that helps."""

from __future__ import annotations

from datetime import datetime

from perdure.errors import (
    BackendError,
    InvalidCursorError,
    InvalidIdError,
    InvalidTTLError,
    PerdureError,
    QueryLimitExceededError,
    QueryVetoedError,
    SessionArchivedError,
    SessionExpiredError,
    SessionNotFoundError,
)
from perdure.integrations.mcp.names import ToolNames

__all__ = ["explain"]


def explain(error: PerdureError, names: ToolNames) -> str:
    """One or two sentences: what is wrong, and what to call instead. Nothing of where or how sessions are kept."""
    match error:
        case InvalidIdError():
            return f"{error}. {_unknown(names)}"
        case SessionNotFoundError():
            return f"There is no session {error.session_id}. {_unknown(names)}"
        case SessionExpiredError():
            return (
                f"Session {error.session_id} expired at {_at(error.expired_at)}. "
                f"Call {names.extend} with this session_id to revive it, then repeat the call."
            )
        case SessionArchivedError():
            return (
                f"Session {error.session_id} was archived at {_at(error.archived_at)}: {names.info} still reads it, "
                f"but it takes no queries. Call {names.extend} with this session_id to restore it, then call again."
            )
        case InvalidTTLError():
            most = error.maximum.total_seconds() / 3600
            advice = " Ask for fewer hours." if error.requested > error.maximum else ""
            return f"The time to live must be above 0 and at most {most:g} hours from now.{advice}"
        case QueryLimitExceededError():
            return (
                f"Session {error.session_id} holds {error.count} queries and takes no more than {error.limit}. "
                f"Begin a new one with {names.create}, or repeat the call without session_id."
            )
        case InvalidCursorError():
            return "The cursor is not one that a listing gave. Pass next_cursor of the page before, or leave it out."
        case QueryVetoedError():
            return "The query may not be recorded here: a rule of this server refused it."
        case BackendError():
            return (
                "The sessions cannot be reached at the moment. Try again later, or repeat the call without session_id."
            )
    return str(error)


def _unknown(names: ToolNames) -> str:
    return f"Call {names.list} to see which there are, or {names.create} to begin one."


def _at(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds")
