"""The fastmcp transform that makes tools session-aware: local, mounted, proxied or generated, they all pass through it.

A tool gets an optional argument `session_id`, which is taken away again before the tool is called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from fastmcp.server.providers.fastmcp_provider import FastMCPProviderTool
from fastmcp.server.transforms import GetToolNext, Transform
from fastmcp.tools import FunctionTool, Tool, ToolResult
from fastmcp.utilities.versions import VersionSpec
from pydantic import PrivateAttr

from perdure.errors import ConfigurationError
from perdure.integrations.mcp.awareness import META_KEY, SessionAwareness
from perdure.integrations.mcp.schemas import SESSION_ARGUMENT, has_session_argument, with_session_argument
from perdure.integrations.mcp.tasks import SessionAwareTask

__all__ = ["SESSION_TOOL", "SessionAwareTool", "SessionTracking", "Track"]

Track: TypeAlias = str | Iterable[str] | Callable[[str], bool]
"""Which tools: a pattern such as `"price-*"`, several of them, or a function of the name."""

SESSION_TOOL = {META_KEY: {"session_tool": True}}
"""The `meta` by which the tools of this integration are told from others, across mounts and proxies too."""


KNOWN = 1_000
"""Tools whose session-aware forms are kept."""


class SessionTracking(Transform):
    """Gives out session-aware tools in place of those of the server."""

    def __init__(self, awareness: SessionAwareness, *, track: Track) -> None:
        self._awareness = awareness
        self._tracked = _chosen(track)
        self._tasks = SessionAwareTask.maker(awareness)
        self._known: dict[int, tuple[Tool, dict[str, Any], Tool]] = {}

    async def list_tools(self, tools: Sequence[Tool]) -> Sequence[Tool]:
        """The tools as clients see them."""
        return [self._aware(tool) for tool in tools]

    async def get_tool(self, name: str, call_next: GetToolNext, *, version: VersionSpec | None = None) -> Tool | None:
        """The tool that a call runs."""
        tool = await call_next(name, version=version)
        return None if tool is None else self._aware(tool)

    def _aware(self, tool: Tool) -> Tool:
        """The session-aware form of a tool; the same one again while a function tool stays as it is."""
        if not isinstance(tool, FunctionTool):  # mounted and proxied ones are made anew for each listing
            return self._made(tool)
        known = self._known.get(id(tool))
        if known is not None and known[0] is tool and known[1] == tool.__dict__:
            return known[2]
        made = self._made(tool)
        if len(self._known) >= KNOWN:
            self._known.clear()
        self._known[id(tool)] = tool, dict(tool.__dict__), made
        return made

    def _made(self, tool: Tool) -> Tool:
        if has_session_argument(tool.parameters) or _is_session_tool(tool) or not self._tracked(tool.name):
            return tool
        if isinstance(tool, FunctionTool) and tool.task_config.supports_tasks():
            return self._tasks(tool)
        kind = SessionAwareMount if isinstance(tool, FastMCPProviderTool) else SessionAwareTool
        return kind.around(tool, self._awareness)


class SessionAwareTool(Tool):
    """A tool that looks and behaves like another one, and notes its calls."""

    _inner: Tool = PrivateAttr()
    _awareness: SessionAwareness = PrivateAttr()

    @classmethod
    def around(cls, inner: Tool, awareness: SessionAwareness) -> Tool:
        """The session-aware form of `inner`."""
        fields = {name: getattr(inner, name) for name in Tool.model_fields}
        fields["parameters"] = with_session_argument(inner.parameters)
        # Copied, not constructed: mounted tools are made anew for each listing, and constructing costs five times that.
        made = _blank(cls).model_copy(update=fields)
        made._inner = inner
        made._awareness = awareness
        return made

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        """Run the tool and note it."""
        given, rest = _parted(arguments)
        return await self._awareness.call(self.name, given, rest, lambda: self._inner.run(rest))

    async def _run(self, arguments: dict[str, Any], *more: Any, **options: Any) -> Any:
        """What the server calls. fastmcp 3 says here, too, that the call is to become a background task."""
        if any(more) or any(options.values()):
            # Only queued: whoever is registered for it in the worker notes the real run.
            return await self._inner._run(arguments, *more, **options)
        given, rest = _parted(arguments)
        return await self._awareness.call(self.name, given, rest, lambda: self._inner._run(rest))

    def get_span_attributes(self) -> dict[str, Any]:
        """Those of the tool itself."""
        return self._inner.get_span_attributes()


class SessionAwareMount(SessionAwareTool, FastMCPProviderTool):
    """The same for a tool of a mounted server, which background tasks must be able to tell from others."""

    def __init__(self, **fields: Any) -> None:
        Tool.__init__(self, **fields)

    @classmethod
    def around(cls, inner: Tool, awareness: SessionAwareness) -> Tool:
        """The session-aware form of `inner`."""
        made = super().around(inner, awareness)
        assert isinstance(made, SessionAwareMount)
        assert isinstance(inner, FastMCPProviderTool)
        made._server, made._original_name = inner._server, inner._original_name
        return made


@functools.cache
def _blank(kind: type[SessionAwareTool]) -> SessionAwareTool:
    return kind.model_construct(name="", parameters={})


def _parted(arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    rest = dict(arguments)
    return rest.pop(SESSION_ARGUMENT, None), rest


def _is_session_tool(tool: Tool) -> bool:
    mark = (tool.meta or {}).get(META_KEY)
    return isinstance(mark, dict) and mark.get("session_tool") is True


def _chosen(track: Track) -> Callable[[str], bool]:
    if callable(track):
        return track
    patterns = [track] if isinstance(track, str) else list(track) if isinstance(track, Iterable) else None
    if patterns is None or not all(isinstance(pattern, str) for pattern in patterns):
        raise ConfigurationError(f"track must be a pattern, several, or a function of the name, not {track!r}")
    if patterns == ["*"]:
        return lambda name: True
    return lambda name: any(fnmatchcase(name, pattern) for pattern in patterns)
