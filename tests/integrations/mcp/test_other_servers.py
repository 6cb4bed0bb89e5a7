"""Tools that are not the server's own: mounted, proxied, generated from OpenAPI, or changed by another transform."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from fastmcp import Client, FastMCP
from fastmcp.server import create_proxy
from fastmcp.server.transforms import Namespace, ToolTransform
from fastmcp.tools.tool_transform import ToolTransformConfig
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.integrations.mcp.servers import MAJOR, Calls, Served, finance, served, told

from perdure import SessionStore
from perdure.integrations.mcp import install, tracking

OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Quotes", "version": "1"},
    "paths": {
        "/quotes/{symbol}": {
            "get": {
                "operationId": "get_quote",
                "parameters": [{"name": "symbol", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {
                    "200": {
                        "description": "A quote",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    }
                },
            }
        }
    },
}


async def noted(server: Served, session_id: str) -> list[tuple[str, dict[str, Any], str | None]]:
    history = (await server.session(session_id)).state.history
    return [(query.query_type, query.parameters, query.result_summary) for query in history.queries]


async def check(server: Served, tool: str, *, summary: str) -> None:
    """The tool takes a session, notes one call in it, and works without one too."""
    properties = (await server.tools())[tool]["inputSchema"]["properties"]
    assert properties["session_id"]["type"] == "string"
    session_id = await server.create()
    assert told(await server.call(tool, symbol="AAPL", session_id=session_id)) == {
        "session_id": session_id,
        "position": 1,
        "bound_by": "argument",
    }
    assert told(await server.call(tool, symbol="AAPL")) is None
    assert await noted(server, session_id) == [(tool, {"symbol": "AAPL"}, summary)]


async def test_a_mounted_tool() -> None:
    def build(calls: Calls) -> FastMCP:
        mcp: FastMCP = FastMCP("top")
        mcp.mount(finance(calls), "sub")
        return mcp

    async with served(build) as server:
        await check(server, "sub_price", summary="AAPL: $175.43")
        assert server.calls.seen == [{"symbol": "AAPL"}] * 2


async def test_a_proxied_tool() -> None:
    behind = finance()
    async with served(lambda calls: create_proxy(behind, name="proxy")) as server:
        await check(server, "price", summary="AAPL: $175.43")


async def test_an_error_behind_a_proxy_is_noted() -> None:
    behind = finance()
    async with served(lambda calls: create_proxy(behind, name="proxy")) as server:
        session_id = await server.create()
        await server.error("broken", symbol="AAPL", session_id=session_id)
        (query,) = (await server.session(session_id)).state.history.queries
        assert query.error


async def test_a_tool_generated_from_openapi() -> None:
    async def quote(request: Request) -> JSONResponse:
        assert "session_id" not in request.url.query
        return JSONResponse({"symbol": request.path_params["symbol"], "price": 175.43})

    web = import_module("httpx2" if MAJOR >= 4 else "httpx")
    api = Starlette(routes=[Route("/quotes/{symbol}", quote)])
    async with web.AsyncClient(transport=web.ASGITransport(api), base_url="http://quotes") as client:

        def build(calls: Calls) -> FastMCP:
            return FastMCP.from_openapi(OPENAPI, client=client)

        async with served(build) as server:
            session_id = await server.create()
            result = await server.call("get_quote", symbol="AAPL", session_id=session_id)
            assert result.structured_content == {"symbol": "AAPL", "price": 175.43}
            ((tool, parameters, summary),) = await noted(server, session_id)
            assert (tool, parameters) == ("get_quote", {"symbol": "AAPL"})
            assert summary is not None
            assert "175.43" in summary


async def test_a_tool_that_a_transform_renamed_before() -> None:
    def build(calls: Calls) -> FastMCP:
        mcp = finance(calls)
        mcp.add_transform(ToolTransform({"price": ToolTransformConfig(name="quote", description="Renamed.")}))
        return mcp

    async with served(build) as server:
        await check(server, "quote", summary="AAPL: $175.43")


async def test_a_tool_that_a_transform_renames_afterwards() -> None:
    mcp, store = finance(), SessionStore.open("memory://")
    install(mcp, store)
    mcp.add_transform(ToolTransform({"price": ToolTransformConfig(name="quote", description="Renamed.")}))
    async with Client(mcp) as client:
        created = await client.call_tool("create-analysis-session", {"assets": ["A"], "session_type": "equity"})
        session_id = created.structured_content["session_id"]
        for position in (1, 2):
            found = told(await client.call_tool("quote", {"symbol": "AAPL", "session_id": session_id}))
            assert found == {"session_id": session_id, "position": position, "bound_by": "argument"}
        assert [query.query_type for query in await store.get_queries(session_id)] == ["price", "price"]


async def test_of_many_tools_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "KNOWN", 2)
    async with served() as server:
        session_id = await server.create()
        for _ in range(2):
            assert len(await server.tools()) == 9
            assert told(await server.call("price", symbol="AAPL", session_id=session_id)) is not None


async def test_a_namespace_that_is_added_afterwards() -> None:
    mcp = finance()
    store = SessionStore.open("memory://")
    install(mcp, store)
    mcp.add_transform(Namespace("fin"))
    async with Client(mcp) as client:
        created = await client.call_tool("fin_create-analysis-session", {"assets": ["A"], "session_type": "equity"})
        session_id = created.structured_content["session_id"]
        found = told(await client.call_tool("fin_price", {"symbol": "AAPL", "session_id": session_id}))
        assert found is not None
        assert found["position"] == 1


async def test_a_server_with_sessions_that_is_mounted_keeps_them() -> None:
    inner, store = finance(), SessionStore.open("memory://")
    installed = install(inner, store)
    outer: FastMCP = FastMCP("outer")
    outer.mount(inner, "fin")
    async with served(lambda calls: outer) as server:
        created = await server.call("fin_create-analysis-session", assets=["A"], session_type="equity")
        session_id = created.structured_content["session_id"]
        found = told(await server.call("fin_price", symbol="AAPL", session_id=session_id))
        assert found == {"session_id": session_id, "position": 1, "bound_by": "argument"}
        assert (installed.recorded, server.sessions.recorded) == (1, 0)


async def test_the_session_tools_of_a_proxied_server_are_not_tracked_by_the_proxy() -> None:
    inner, store = finance(), SessionStore.open("memory://")
    install(inner, store)
    async with served(lambda calls: create_proxy(inner, name="proxy"), prefix="own-") as server:
        tools = await server.tools()
        assert "session_id" not in tools["list-sessions"]["inputSchema"]["properties"]
        assert {"list-sessions", "own-list-sessions"} <= tools.keys()
