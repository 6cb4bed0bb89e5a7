"""What happens around every call of a session-aware tool: bind it, run it, note it, say where it was noted."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastmcp.exceptions import ToolError
from fastmcp.tools import ToolResult

from perdure.errors import PerdureError
from perdure.integrations.mcp.binding import Binder, Bound, checked_text
from perdure.integrations.mcp.callers import Caller, current_caller
from perdure.integrations.mcp.errors import explain
from perdure.integrations.mcp.hooks import McpHooks
from perdure.integrations.mcp.names import ToolNames
from perdure.integrations.mcp.principals import PrincipalOf
from perdure.integrations.mcp.recording import Outcome, Recorder, current_call

__all__ = ["META_KEY", "SessionAwareness"]

META_KEY = "perdure"
"""Under which a result's `_meta` says where the call was noted."""


@dataclass(slots=True)
class SessionAwareness:
    """Binds and notes the calls of one server's tools."""

    binder: Binder
    recorder: Recorder
    hooks: McpHooks
    names: ToolNames
    principal_of: PrincipalOf

    async def call(
        self,
        tool: str,
        given: Any,
        arguments: dict[str, Any],
        work: Callable[[], Awaitable[ToolResult]],
        *,
        queued: bool = False,
    ) -> ToolResult:
        """The result of `work`, noted in the session that `given` or the conversation says; else simply the result.

        Of a call that may have been `queued`, `given` may be what `reference` said then.

        Raises:
            ToolError: `given` names a session that takes no query; `work` was not begun.
        """
        bound, warning = await self._bound(tool, given, queued=queued)
        if bound is None:
            result = await work()
            return result if warning is None else _told(result, warning)
        result, told = await self.recorder.run(
            bound, tool, arguments, work, lambda result: self._outcome(tool, arguments, result)
        )
        return _told(result, told)

    def reference(self) -> str:
        """What stands for the session of a call that names none and will run later, in a background task."""
        caller = current_caller(self.principal_of)
        return self.binder.label(caller.principal, caller.meta) or ""

    async def _bound(self, tool: str, given: Any, *, queued: bool) -> tuple[Bound | None, dict[str, Any] | None]:
        caller = current_caller(self.principal_of)
        try:
            named = checked_text(given)
            if named and not (queued and self.binder.is_reference(named)):
                return await self.binder.named(named, caller.principal), None
        except PerdureError as error:
            raise ToolError(explain(error, self.names)) from error
        return await self._of_conversation(tool, named, caller)

    async def _of_conversation(
        self, tool: str, label: str, caller: Caller
    ) -> tuple[Bound | None, dict[str, Any] | None]:
        found = label or self.binder.label(caller.principal, caller.meta)
        if found is None or (not label and current_call() is not None):
            return None, None  # what a tool calls in turn is part of its own run
        try:
            return await self.binder.of_conversation(found, caller.principal), None
        except PerdureError as error:  # nobody asked for this session by name: the tool runs all the same
            return None, self.recorder.unbound(tool, error)

    def _outcome(self, tool: str, arguments: Mapping[str, Any], result: ToolResult) -> Outcome:
        if getattr(result, "input_required", None) is not None:  # one round of several, which is a run of its own
            return Outcome(summary="asked the client for input")
        summary = self.hooks.summarize(tool, arguments, result) if self.hooks.summarizes else None
        if summary is None:
            summary = _beginning(result, self.recorder.summary_length)
        return Outcome(error=summary) if getattr(result, "is_error", False) else Outcome(summary=summary)


def _told(result: ToolResult, told: dict[str, Any]) -> ToolResult:
    """The result with one more entry in its `_meta`; a copy, since a tool may give the same result again."""
    meta = {**(result.meta or {}), META_KEY: told}
    return result.model_copy(update={"meta": meta})


def _beginning(result: ToolResult, length: int) -> str:
    """The beginning of what a result says: its text, else its structured content, else what kinds of content it has."""
    texts, needed = list[str](), length + 1
    for block in result.content:
        text = getattr(block, "text", None)
        if isinstance(text, str) and needed > 0:
            texts.append(text[:needed])
            needed -= len(text)
    if texts:
        return "\n".join(texts)
    if result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False, default=str)
    return ", ".join(_kind(block) for block in result.content)


def _kind(block: Any) -> str:
    media = getattr(block, "mime_type" if hasattr(block, "mime_type") else "mimeType", None)  # mcp 2.x and 1.x
    return f"[{block.type}{f' {media}' if media else ''}]"
