"""Tools that may run as background tasks: there a worker calls the function itself, later and elsewhere.

So it is the function that is wrapped: what is noted is the run, not the queueing. Its signature is kept, by which
fastmcp and Docket validate arguments and provide dependencies.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, get_type_hints

import fastmcp.tools
from fastmcp.tools import FunctionTool, ToolResult
from pydantic import Field, PrivateAttr

from perdure.integrations.mcp.awareness import SessionAwareness
from perdure.integrations.mcp.schemas import SESSION_ARGUMENT, with_session_argument

__all__ = ["SessionAwareTask"]

WRAPPERS = 1_000
"""Wrapped functions that are kept: fastmcp caches what it knows of a function by the function itself."""

_Ask: Any = getattr(fastmcp.tools, "InputRequiredToolResult", None)  # since fastmcp 4


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """What makes two tools the same one for the cache: function and key."""

    fn: Callable[..., Any]
    key: str
    tool: FunctionTool = field(compare=False)


class SessionAwareTask(FunctionTool):
    """A function tool whose function notes its runs, wherever it runs."""

    _awareness: SessionAwareness = PrivateAttr()

    @classmethod
    def maker(cls, awareness: SessionAwareness) -> Callable[[FunctionTool], FunctionTool]:
        """What makes the session-aware form of a function tool."""
        tracked = functools.lru_cache(maxsize=WRAPPERS)(functools.partial(_tracked, awareness))

        def make(tool: FunctionTool) -> FunctionTool:
            fields = {name: getattr(tool, name) for name in FunctionTool.model_fields}
            fields["parameters"] = with_session_argument(tool.parameters)
            fields["fn"] = tracked(_Wrapped(tool.fn, tool.key, tool))
            made = cls.model_construct(**fields)
            made._awareness = awareness
            return made

        return make

    async def add_to_docket(self, docket: Any, arguments: dict[str, Any], **options: Any) -> Any:
        """Queue a run. Called by fastmcp 3, within the request; it passes arguments on as they came."""
        given = arguments.get(SESSION_ARGUMENT) or self._awareness.reference()
        arguments = {**arguments, SESSION_ARGUMENT: given}
        return await super().add_to_docket(docket, arguments, **options)  # type: ignore[misc]  # fastmcp 4 has none


def _tracked(awareness: SessionAwareness, wrapped: _Wrapped) -> Callable[..., Any]:
    fn, tool = wrapped.fn, wrapped.tool
    own = frozenset(tool.parameters.get("properties", ()))

    @functools.wraps(fn)
    async def run(*args: Any, **given: Any) -> Any:
        session_id = given.pop(SESSION_ARGUMENT, "")

        async def work() -> ToolResult:
            return _converted(tool, await _materialized(fn(*args, **given)))

        # What fastmcp or Docket provided is not what was asked.
        arguments = {name: value for name, value in given.items() if name in own}
        return await awareness.call(tool.name, session_id, arguments, work, queued=True)

    # Validating fills in what the call leaves out, and it is done within the request, where the conversation is known.
    kind = Annotated[str, Field(default_factory=awareness.reference)]
    signature = inspect.signature(fn)
    added = inspect.Parameter(SESSION_ARGUMENT, inspect.Parameter.KEYWORD_ONLY, annotation=kind)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), added])  # type: ignore[attr-defined]
    run.__annotations__ = {**_hints(fn, signature), SESSION_ARGUMENT: kind}
    return run


def _hints(fn: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    try:
        return get_type_hints(fn, include_extras=True)
    except TypeError:  # a partial or another callable object, which has none
        parameters = signature.parameters.values()
        return {given.name: given.annotation for given in parameters if given.annotation is not given.empty}


async def _materialized(answer: Any) -> Any:
    return [item async for item in answer] if inspect.isasyncgen(answer) else await answer


def _converted(tool: FunctionTool, answer: Any) -> ToolResult:
    """The answer as a result; one that asks the client for more is passed on as it is."""
    if _Ask is not None and type(answer).__name__ == "InputRequiredResult":
        asked: ToolResult = _Ask(answer)
        return asked
    return tool.convert_result(answer)
