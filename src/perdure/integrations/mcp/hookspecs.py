"""What plugins of this integration may implement; the hooks of the SDK itself are `perdure.hookspecs`.

Plugins are given to `install`, or found by an entry point in the group `perdure.mcp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from perdure.integrations.mcp.providers.protocol import QuoteProvider

__all__ = ["NAMESPACE", "hookimpl", "hookspec"]

NAMESPACE = "perdure-mcp"

hookspec = pluggy.HookspecMarker(NAMESPACE)
hookimpl = pluggy.HookimplMarker(NAMESPACE)
"""Marks the methods of a plugin that implement a hook of this integration."""


@hookspec
def register_quote_providers(providers: list[QuoteProvider]) -> None:
    """Add to `providers` or reorder them: the first that knows a market is asked first."""


@hookspec
def summarize_result(tool: str, arguments: Mapping[str, Any], result: Any) -> str | None:
    """Say in one line what a tool answered; None leaves it to the next plugin. `result` is fastmcp's `ToolResult`."""
