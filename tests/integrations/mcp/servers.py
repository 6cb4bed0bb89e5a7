"""Servers to try things on, and what clients see of them, whichever fastmcp is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from fastmcp import Client, FastMCP
from tests.store.stores import Brings

from perdure import Session, SessionStore
from perdure.backends import MemoryBackend
from perdure.integrations.mcp import InstalledSessions, install, mark_cache_hit
from perdure.testing import FaultyBackend, ManualClock

VERSION = tuple(int(part) for part in version("fastmcp").split(".")[:2])
MAJOR = VERSION[0]

QUIET: dict[str, Any] = {"sweep_on_open": False, "sweep_in_background": False}

SESSION_TOOLS = {
    "create-analysis-session",
    "get-session-info",
    "list-sessions",
    "extend-session",
    "get-session-analytics",
}


@dataclass
class Calls:
    """What reached the tools."""

    seen: list[dict[str, Any]] = field(default_factory=list)


def finance(calls: Calls | None = None) -> FastMCP:
    """A server with a few tools of its own."""
    mcp: FastMCP = FastMCP("finance")
    seen = Calls() if calls is None else calls

    @mcp.tool
    async def price(symbol: str) -> str:
        """The price of a share."""
        seen.seen.append({"symbol": symbol})
        return f"{symbol}: $175.43"

    @mcp.tool
    def cached_price(symbol: str) -> str:
        """The price of a share, from a cache."""
        assert mark_cache_hit() in (True, False)
        return f"{symbol}: $175.43"

    @mcp.tool
    async def broken(symbol: str) -> str:
        """Never works."""
        raise TimeoutError(f"no answer for {symbol}")

    @mcp.tool
    async def report(words: int) -> dict[str, Any]:
        """A long answer."""
        return {"text": "word " * words, "words": words}

    return mcp


@dataclass
class Served:
    """A connected client, and what is behind the server."""

    client: Any
    store: SessionStore
    backend: FaultyBackend
    sessions: InstalledSessions
    clock: ManualClock
    calls: Calls

    async def call(self, tool: str, /, *, meta: dict[str, Any] | None = None, **arguments: Any) -> Any:
        """What a tool answers."""
        return await self.client.call_tool(tool, arguments, meta=meta)

    async def error(self, tool: str, /, *, meta: dict[str, Any] | None = None, **arguments: Any) -> str:
        """How a tool complains."""
        result = await self.client.call_tool(tool, arguments, meta=meta, raise_on_error=False)
        assert result.is_error, result
        return text_of(result)

    async def create(self, *, meta: dict[str, Any] | None = None, **arguments: Any) -> str:
        """The id of a new session."""
        given = {"assets": ["AAPL"], "session_type": "equity", **arguments}
        result = await self.call("create-analysis-session", meta=meta, **given)
        session_id: str = result.structured_content["session_id"]
        return session_id

    async def session(self, session_id: str) -> Session:
        """The session as the store has it."""
        found = await self.store.get_session(session_id)
        assert found is not None
        return found

    async def tools(self) -> dict[str, dict[str, Any]]:
        """The tools by name, as they go over the wire."""
        return {tool.name: wire(tool) for tool in await self.client.list_tools()}


@asynccontextmanager
async def served(
    build: Callable[[Calls], FastMCP] = finance,
    *,
    clock: ManualClock | None = None,
    settings: dict[str, Any] | None = None,
    store_plugins: tuple[object, ...] = (),
    client: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Served]:
    """A server with sessions in memory and a client connected to it."""
    from perdure import Settings

    clock = clock or ManualClock()
    backend = FaultyBackend(MemoryBackend())
    store = SessionStore.open(
        "held://",
        plugins=[Brings(backend), *store_plugins],
        settings=Settings(**QUIET, **(settings or {})),
        clock=clock,
    )
    calls = Calls()
    mcp = build(calls)
    sessions = install(mcp, store, clock=clock, **options)
    async with Client(mcp, **(client or {})) as connected:
        yield Served(connected, store, backend, sessions, clock, calls)


def wire(model: Any) -> dict[str, Any]:
    """A protocol object as JSON."""
    facts: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return facts


def text_of(result: Any) -> str:
    """The text of a result."""
    return "\n".join(block.text for block in result.content)


def told(result: Any) -> dict[str, Any] | None:
    """What a result says of where it was noted."""
    found: dict[str, Any] | None = (result.meta or {}).get("perdure")
    return found
