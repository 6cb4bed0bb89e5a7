"""Servers on the plain `mcp` package, whichever major version is installed; nothing here needs fastmcp."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

from perdure import SessionStore, Settings
from perdure.errors import ConfigurationError, MissingExtraError
from perdure.integrations.mcp import mark_cache_hit, session_aware, track_query_in_session
from perdure.testing import ManualClock

MAJOR = int(version("mcp").partition(".")[0])
UNKNOWN = "0192f0c1-0000-7000-8000-000000000000"


def new_server() -> Any:
    if MAJOR >= 2:
        from mcp.server.mcpserver import MCPServer

        return MCPServer("plain")
    return import_module("mcp.server.fastmcp").FastMCP("plain")


@asynccontextmanager
async def connected(server: Any) -> AsyncIterator[Any]:
    if MAJOR >= 2:
        from mcp import Client

        async with Client(server, cache=None) as client:
            yield client
        return
    memory = import_module("mcp.shared.memory")
    async with memory.create_connected_server_and_client_session(server._mcp_server) as client:
        yield client


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[SessionStore]:
    settings = Settings(sweep_on_open=False, sweep_in_background=False, session_max_queries_per_session=5)
    async with SessionStore.open("memory://", settings=settings, clock=clock) as store:
        yield store


@pytest.fixture
async def session_id(store: SessionStore) -> str:
    return str((await store.create_session(["AAPL"], "equity", user_id="ann")).id)


def finance(store: SessionStore) -> Any:
    server = new_server()
    tool: Callable[[Callable[..., Any]], Callable[..., Any]] = server.tool()

    @tool
    @session_aware(store)
    async def price(symbol: str) -> str:
        """The price of a share."""
        return f"{symbol}: $175.43"

    @tool
    @session_aware(store, name="volume-of-trade", summary_length=10)
    def volume(symbol: str, days: int = 1) -> dict[str, int]:
        """How much was traded; not even asynchronous."""
        mark_cache_hit()
        return {"volume": 1_000_000 * days}

    @tool
    @session_aware(store)
    async def broken(symbol: str) -> str:
        """Never works."""
        raise TimeoutError(f"no answer for {symbol}")

    return server


def text_of(result: Any) -> str:
    return "\n".join(block.text for block in result.content)


def failed(result: Any) -> bool:
    return bool(result.model_dump(by_alias=True)["isError"])


async def noted(store: SessionStore, session_id: str) -> list[tuple[str, dict[str, Any], str | None, str | None]]:
    queries = await store.get_queries(session_id)
    return [(query.query_type, query.parameters, query.result_summary, query.error) for query in queries]


async def test_a_tool_gets_the_optional_argument(store: SessionStore) -> None:
    async with connected(finance(store)) as client:
        tools = {tool.name: tool.model_dump(by_alias=True) for tool in (await client.list_tools()).tools}
        schema = tools["price"]["inputSchema"]
        assert schema["properties"]["session_id"]["type"] == "string"
        assert schema["required"] == ["symbol"]
        assert "Optional" in schema["properties"]["session_id"]["description"]
        assert tools["price"]["description"] == "The price of a share."


async def test_calls_are_noted(store: SessionStore, session_id: str) -> None:
    async with connected(finance(store)) as client:
        result = await client.call_tool("price", {"symbol": "AAPL", "session_id": session_id})
        await client.call_tool("volume", {"symbol": "IBM", "days": 2, "session_id": session_id})
        await client.call_tool("broken", {"symbol": "IBM", "session_id": session_id})

    assert text_of(result) == "AAPL: $175.43"
    assert await noted(store, session_id) == [
        ("price", {"symbol": "AAPL"}, "AAPL: $175.43", None),
        ("volume-of-trade", {"symbol": "IBM", "days": 2}, "{'volume'…", None),
        ("broken", {"symbol": "IBM"}, None, "TimeoutError: no answer for IBM"),
    ]
    assert [query.cache_hit for query in await store.get_queries(session_id)] == [False, True, False]


async def test_without_a_session_nothing_is_noted(store: SessionStore, session_id: str) -> None:
    async with connected(finance(store)) as client:
        for given in ({}, {"session_id": ""}):
            assert text_of(await client.call_tool("price", {"symbol": "AAPL", **given})) == "AAPL: $175.43"
    assert await noted(store, session_id) == []


async def test_a_bad_session_fails_with_a_message_for_the_model(
    store: SessionStore, session_id: str, clock: ManualClock
) -> None:
    async with connected(finance(store)) as client:
        for given, words in ((UNKNOWN, "no session"), ("nonsense", "not a session id")):
            result = await client.call_tool("price", {"symbol": "AAPL", "session_id": given})
            assert failed(result)
            assert words in text_of(result)
        clock.advance(timedelta(days=2))
        result = await client.call_tool("price", {"symbol": "AAPL", "session_id": session_id})
        assert "expired" in text_of(result)


async def test_a_context_that_the_server_provides_is_not_what_was_asked(store: SessionStore, session_id: str) -> None:
    @session_aware(store)
    async def price(symbol: str, ctx: Any) -> str:
        return symbol

    await price("AAPL", ctx=SimpleNamespace(request_context=None), session_id=session_id)
    assert await noted(store, session_id) == [("price", {"symbol": "AAPL"}, "AAPL", None)]


async def test_noting_by_hand(store: SessionStore, session_id: str) -> None:
    tracked = await track_query_in_session(
        store,
        session_id,
        "price",
        {"symbol": "AAPL"},
        result_summary="x" * 500,
        execution_time_ms=1.5,
        cache_hit=True,
        metadata={"source": "desk"},
    )
    (query,) = await store.get_queries(session_id)
    assert tracked.position == 1
    assert query.result_summary is not None
    assert (len(query.result_summary), query.execution_time_ms, query.cache_hit) == (200, 1.5, True)
    assert query.metadata == {"source": "desk"}
    with pytest.raises(Exception, match="no session"):
        await track_query_in_session(store, UNKNOWN, "price")


@pytest.mark.parametrize("length", [0, -100, 10_001])
async def test_a_length_of_summaries_that_cannot_be_is_refused(
    length: int, store: SessionStore, session_id: str
) -> None:
    with pytest.raises(ConfigurationError, match="summary_length must be from 1 to 10,000"):
        session_aware(store, summary_length=length)
    with pytest.raises(ConfigurationError, match="summary_length must be from 1 to 10,000"):
        await track_query_in_session(store, session_id, "price", result_summary="dear", summary_length=length)
    assert await noted(store, session_id) == []


async def test_where_the_server_authenticates_the_principal_is_the_user(store: SessionStore, session_id: str) -> None:
    from mcp.server.auth.middleware.auth_context import auth_context_var
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from mcp.server.auth.provider import AccessToken

    server = finance(store)
    assert (await server.call_tool("price", {"symbol": "AAPL", "session_id": session_id})) is not None
    token = AccessToken(token="t", client_id="bob", scopes=[])
    auth_context_var.set(AuthenticatedUser(token))
    with pytest.raises(Exception, match="no session"):
        await server.call_tool("price", {"symbol": "AAPL", "session_id": session_id})
    with pytest.raises(Exception, match="no session"):
        await track_query_in_session(store, session_id, "price")
    assert len(await noted(store, session_id)) == 1


async def test_a_backend_that_is_down_is_told_without_details(session_id: str, store: SessionStore) -> None:
    await store.aclose()
    with pytest.raises(Exception, match="cannot be reached") as caught:
        await track_query_in_session(store, session_id, "price")
    assert "memory" not in str(caught.value)


def test_fastmcp_is_not_imported_for_it() -> None:
    check = (
        "import sys; from perdure.integrations.mcp import session_aware, track_query_in_session; "
        "assert 'fastmcp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


def test_without_fastmcp_the_rest_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import perdure.integrations.mcp as package

    def missing(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'fastmcp'", name="fastmcp")

    monkeypatch.setattr(package, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"perdure\[mcp\]"):
        package.__getattr__("install")
    with pytest.raises(AttributeError, match="nothing"):
        package.__getattr__("nothing")


@pytest.mark.skipif(find_spec("fastmcp") is None, reason="most of them need fastmcp")
def test_every_public_name_can_be_had() -> None:
    import perdure.integrations.mcp as package

    for name in package.__all__:
        assert getattr(package, name) is not None
