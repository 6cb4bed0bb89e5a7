"""Sessions for MCP servers: `install(mcp, store)`.

Names are looked up when they are first used: those of `plain` need no fastmcp.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from perdure.errors import MissingExtraError

if TYPE_CHECKING:
    from perdure.integrations.mcp.binding import CONVERSATION_KEYS
    from perdure.integrations.mcp.hookspecs import hookimpl
    from perdure.integrations.mcp.installing import InstalledSessions, install
    from perdure.integrations.mcp.plain import session_aware, track_query_in_session
    from perdure.integrations.mcp.providers.protocol import Quote, QuoteError, QuoteProvider, QuoteRequest
    from perdure.integrations.mcp.quotes import install_quotes
    from perdure.integrations.mcp.recording import current_call, mark_cache_hit
    from perdure.integrations.mcp.serving import build_server, serve_http, serve_stdio

__all__ = [
    "CONVERSATION_KEYS",
    "InstalledSessions",
    "Quote",
    "QuoteError",
    "QuoteProvider",
    "QuoteRequest",
    "build_server",
    "current_call",
    "hookimpl",
    "install",
    "install_quotes",
    "mark_cache_hit",
    "serve_http",
    "serve_stdio",
    "session_aware",
    "track_query_in_session",
]

_MODULES = {
    "CONVERSATION_KEYS": "binding",
    "InstalledSessions": "installing",
    "Quote": "providers.protocol",
    "QuoteError": "providers.protocol",
    "QuoteProvider": "providers.protocol",
    "QuoteRequest": "providers.protocol",
    "build_server": "serving",
    "current_call": "recording",
    "hookimpl": "hookspecs",
    "install": "installing",
    "install_quotes": "quotes",
    "mark_cache_hit": "recording",
    "serve_http": "serving",
    "serve_stdio": "serving",
    "session_aware": "plain",
    "track_query_in_session": "plain",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "fastmcp":
            raise
        raise MissingExtraError("the MCP integration", extra="mcp") from error
