"""MCP servers: what noting a call costs on top of the call, and what a listing of tools costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastmcp import Client, FastMCP

from benchmarks.measuring import Call, Row, at_most, interleaved
from benchmarks.work import QUIET
from perdure import QueryRecord, SessionStore, Settings
from perdure.integrations.mcp import install

CALLS = 3_000
LISTINGS = 500
TOOLS = 50


def a_server(tools: int) -> FastMCP:
    """A server with so many tools, all alike."""
    mcp: FastMCP = FastMCP("benchmark")

    async def price(symbol: str, market: str = "US", depth: int = 1) -> str:
        """The price of a share."""
        return f"{symbol}: $175.43 (+2.3 %)"

    for number in range(tools):
        mcp.tool(price, name=f"price-{number}")
    return mcp


@asynccontextmanager
async def a_client_by_hand(url: str) -> AsyncIterator[tuple[Any, str]]:
    """The least that is comparable: a tool that appends a query to the session that it is given, and nothing else."""
    mcp: FastMCP = FastMCP("benchmark")
    settings = Settings(session_max_queries_per_session=10_000_000, **QUIET)
    async with SessionStore.open(url, settings=settings) as store:

        @mcp.tool(name="price-0")
        async def price(symbol: str, market: str = "US", depth: int = 1, session_id: str = "") -> str:
            """The price of a share."""
            answer = f"{symbol}: $175.43 (+2.3 %)"
            query = QueryRecord(query_type="price-0", parameters={"symbol": symbol}, result_summary=answer)
            await store.track_query(session_id, query)
            return answer

        session = await store.create_session(["AAPL"], "equity")
        async with Client(mcp) as client:
            yield client, str(session.id)


@asynccontextmanager
async def a_client(url: str | None, *, tools: int) -> AsyncIterator[Any]:
    """A client in memory, of a server with sessions in a store; without one, of a server without sessions."""
    mcp = a_server(tools)
    if url is not None:
        settings = Settings(session_max_queries_per_session=10_000_000, **QUIET)
        install(mcp, SessionStore.open(url, settings=settings))
    async with Client(mcp) as client:
        yield client


async def tracked_calls(folder: Path) -> list[Row]:
    """One caller: a call that is not noted, and the same noted in memory and on a disk-safe file, by hand and by us."""
    urls = {"untracked": None, "memory": "memory://", "SQLite": f"sqlite:///{folder / 'mcp.db'}"}
    async with AsyncExitStack() as stack:
        calls: dict[str, Call] = {}
        for name, url in (("memory", "memory://"), ("SQLite", f"sqlite:///{folder / 'by-hand.db'}")):
            client, session_id = await stack.enter_async_context(a_client_by_hand(url))
            arguments = {"symbol": "AAPL", "session_id": session_id}
            calls[f"{name} by hand"] = partial(client.call_tool, "price-0", arguments)
        for name, url in urls.items():
            client = await stack.enter_async_context(a_client(url, tools=1))
            arguments = {"symbol": "AAPL"}
            if url is not None:
                made = await client.call_tool("create-analysis-session", {"assets": ["AAPL"], "session_type": "equity"})
                arguments["session_id"] = made.structured_content["session_id"]
            calls[name] = partial(client.call_tool, "price-0", arguments)
        timed = await interleaved(calls, rounds=CALLS)
    plain = timed["untracked"].p50
    rows = []
    for name, limit in (("memory", 100.0), ("SQLite", 1_000.0)):
        over, by_hand = timed[name].p50 - plain, timed[f"{name} by hand"].p50 - plain
        rows.append(
            Row(
                f"MCP: noting a call, {name}",
                f"{plain:,.0f} µs (the tool, in-memory client); a bare `track_query` in it is {by_hand:,.0f} µs over",
                f"{timed[name].p50:,.0f} µs",
                f"{over:,.0f} µs over",
                f"≤ {limit:,.0f} µs over",
                over <= limit,
            )
        )
    return rows


async def listed_tools() -> list[Row]:
    """`tools/list` of a server with 50 tools, with sessions and without."""
    async with a_client(None, tools=TOOLS) as plain, a_client("memory://", tools=TOOLS) as aware:
        timed = await interleaved({"plain": plain.list_tools, "aware": aware.list_tools}, rounds=LISTINGS)
    ratio = timed["aware"].p50 / timed["plain"].p50
    target, met = at_most(ratio, 2.0)
    return [
        Row(
            f"MCP: list {TOOLS} tools, session-aware",
            f"{timed['plain'].p50 / 1000:.2f} ms (without sessions)",
            f"{timed['aware'].p50 / 1000:.2f} ms",
            f"{ratio:.2f} ×",
            target,
            met,
        )
    ]
