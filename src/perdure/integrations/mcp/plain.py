"""For servers on the plain `mcp` package, 1.x and 2.x: nothing here needs fastmcp.

Such a server says itself what its tools are called, so errors speak of sessions and not of tools.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from typing import Annotated, Any, get_type_hints
from uuid import UUID

from pydantic import Field

from perdure import QueryRecord, SessionStore
from perdure.errors import BackendError, PerdureError
from perdure.integrations.mcp.binding import Binder, Bound, checked_text
from perdure.integrations.mcp.names import ToolNames
from perdure.integrations.mcp.principals import PrincipalOf, principal_of
from perdure.integrations.mcp.recording import SUMMARY_LENGTH, Outcome, Recorder, checked_summary_length, cut
from perdure.integrations.mcp.schemas import SESSION_ARGUMENT, SESSION_DESCRIPTION
from perdure.store import TrackedQuery

__all__ = ["session_aware", "track_query_in_session"]


async def track_query_in_session(
    store: SessionStore,
    session_id: UUID | str,
    query_type: str,
    parameters: dict[str, Any] | None = None,
    *,
    result_summary: str | None = None,
    execution_time_ms: float | None = None,
    cache_hit: bool = False,
    error: str | None = None,
    metadata: dict[str, Any] | None = None,
    summary_length: int = SUMMARY_LENGTH,
    principal_of: PrincipalOf = principal_of,
) -> TrackedQuery:
    """Note in a session what a tool was asked and what came of it; for tools that time themselves.

    Where the server authenticates, a session of somebody else is as if it did not exist. Before long work call
    `store.ensure_active(session_id)`, which raises what this would; after it catch what this raises, so that the tool's
    answer is not lost with the note.

    Raises:
        ToolError: that of the installed `mcp` package, with a message for a model: the session takes no query.
        ConfigurationError: `summary_length` is not from 1 to 10,000.
    """
    binder = _binder(store)
    query = QueryRecord(
        query_type=query_type,
        parameters=parameters or {},
        result_summary=cut(result_summary, checked_summary_length(summary_length)),
        execution_time_ms=execution_time_ms,
        cache_hit=cache_hit,
        error=error,
        metadata=metadata or {},
    )
    try:
        return await binder.sessions_of(_principal(principal_of)).track_query(session_id, query)
    except PerdureError as failure:
        raise _tool_error(failure) from failure


def session_aware(
    store: SessionStore,
    *,
    name: str | None = None,
    summary_length: int = SUMMARY_LENGTH,
    principal_of: PrincipalOf = principal_of,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a tool function the optional argument `session_id`, and note its calls; put below `@mcp.tool()`.

    `name` is what its queries are called, that of the function if left out. A call with a bad `session_id` fails before
    the function runs; without one it is not noted. Noting that fails afterwards is logged, and loses no result.

    Raises:
        ConfigurationError: `summary_length` is not from 1 to 10,000.
    """
    checked_summary_length(summary_length)

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        binder, query_type = _binder(store), name or fn.__name__
        recorder = Recorder(ToolNames.of(), summary_length)
        signature = inspect.signature(fn)

        @functools.wraps(fn)
        async def run(*args: Any, **given: Any) -> Any:
            bound = await _bound(binder, given.pop(SESSION_ARGUMENT, ""), _principal(principal_of))
            if bound is None:
                return await _answer(fn, args, given)
            asked = _asked(signature.bind(*args, **given).arguments)
            result, _ = await recorder.run(bound, query_type, asked, lambda: _answer(fn, args, given), _described)
            return result

        kind = Annotated[str, Field(description=SESSION_DESCRIPTION)]
        added = inspect.Parameter(SESSION_ARGUMENT, inspect.Parameter.KEYWORD_ONLY, default="", annotation=kind)
        run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), added])  # type: ignore[attr-defined]
        run.__annotations__ = {**get_type_hints(fn, include_extras=True), SESSION_ARGUMENT: kind}
        return run

    return decorate


def _binder(store: SessionStore) -> Binder:
    return Binder(store, bind="argument", keys=(), clock=lambda: datetime.now(UTC))


async def _bound(binder: Binder, given: Any, principal: str | None) -> Bound | None:
    try:
        named = checked_text(given)
        return await binder.named(named, principal) if named else None
    except PerdureError as failure:
        raise _tool_error(failure) from failure


async def _answer(fn: Callable[..., Any], args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    answer = fn(*args, **given)
    return await answer if inspect.isawaitable(answer) else answer


def _asked(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments without the context that the server provides."""
    return {name: value for name, value in arguments.items() if not hasattr(value, "request_context")}


def _described(result: Any) -> Outcome:
    return Outcome(summary=result if isinstance(result, str) else repr(result))


def _principal(principal_of: PrincipalOf) -> str | None:
    """Who is calling, where the server authenticates."""
    try:
        from mcp.server.auth.middleware.auth_context import get_access_token
    except ImportError:  # no MCP server in this process, so nobody who could authenticate
        return None
    token = get_access_token()
    return None if token is None else principal_of(token)


def _tool_error(failure: PerdureError) -> Exception:
    """An error whose message reaches the model: the servers of mcp 2.x withhold that of any other."""
    message = "the sessions cannot be reached at the moment" if isinstance(failure, BackendError) else str(failure)
    for module in ("mcp.server.mcpserver.exceptions", "mcp.server.fastmcp.exceptions"):
        try:
            error: Exception = import_module(module).ToolError(message)
        except ImportError:
            continue
        return error
    return ValueError(message)
