"""Tools that run as background tasks: what is noted is the run in the worker, and not that it was queued."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client, Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.tools import FunctionTool
from tests.integrations.mcp.servers import MAJOR, QUIET, VERSION, Calls, served, told

from perdure import SessionStore, Settings
from perdure.integrations.mcp import install, mark_cache_hit

needs_docket = pytest.mark.skipif(
    find_spec("fastmcp_tasks" if MAJOR >= 4 else "docket") is None, reason="background tasks are another package"
)


def add_task(mcp: FastMCP, seen: list[dict[str, Any]]) -> None:
    """A tool that may run later."""

    @mcp.tool(task=True)
    async def crunch(symbol: str, ctx: Context, days: int = 5) -> str:
        """A long calculation."""
        seen.append({"symbol": symbol, "days": days, "server": ctx.fastmcp.name})
        mark_cache_hit()
        if symbol == "BAD":
            raise ValueError("cannot be crunched")
        return f"{symbol}: crunched {days} days"


@asynccontextmanager
async def working(
    tmp_path: Path, seen: list[dict[str, Any]], *, mounted: bool = False
) -> AsyncIterator[tuple[Any, SessionStore]]:
    """A client of a server with a worker."""
    inner: FastMCP = FastMCP("inner")
    add_task(inner, seen)
    mcp: FastMCP = FastMCP("tasks")
    if mounted:
        mcp.mount(inner, "sub")
    else:
        add_task(mcp, seen)
    if MAJOR >= 4:
        from fastmcp_tasks import TasksExtension

        mcp.add_extension(TasksExtension(url=f"memory://{tmp_path.name}"))
    store = SessionStore.open("memory://", settings=Settings(**QUIET))
    install(mcp, store)
    async with Client(mcp) as client:
        yield client, store


async def run_as_task(client: Any, tool: str, meta: dict[str, Any] | None = None, **arguments: Any) -> Any:
    if MAJOR >= 4:
        from fastmcp_tasks import call_tool_task

        task = await call_tool_task(client, tool, arguments, meta=meta, raise_on_error=False)
        return await task.result()
    task = await client.call_tool(tool, arguments, task=True, meta=meta, raise_on_error=False)
    assert not task.returned_immediately
    try:
        return await task.result()
    except ToolError as error:  # some of fastmcp 3 raise it all the same
        return error


async def created(client: Any, meta: dict[str, Any] | None = None) -> str:
    made = await client.call_tool("create-analysis-session", {"assets": ["AAPL"], "session_type": "equity"}, meta=meta)
    session_id: str = made.structured_content["session_id"]
    return session_id


@needs_docket
@pytest.mark.parametrize("mounted", [False, True])
async def test_the_run_in_the_worker_is_noted(mounted: bool, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    tool = "sub_crunch" if mounted else "crunch"
    async with working(tmp_path, seen, mounted=mounted) as (client, store):
        session_id = await created(client)

        result = await run_as_task(client, tool, symbol="AAPL", session_id=session_id)

        assert "crunched 5 days" in str(result)
        assert [one["symbol"] for one in seen] == ["AAPL"]
        (query,) = await store.get_queries(session_id)
        assert (query.query_type, query.result_summary, query.cache_hit) == (tool, "AAPL: crunched 5 days", True)
        assert query.parameters in ({"symbol": "AAPL"}, {"symbol": "AAPL", "days": 5})
        if mounted and MAJOR >= 4:
            assert seen[0]["server"] == "inner"


@needs_docket
async def test_an_error_in_the_worker_is_noted(tmp_path: Path) -> None:
    async with working(tmp_path, []) as (client, store):
        session_id = await created(client)
        await run_as_task(client, "crunch", symbol="BAD", session_id=session_id)
        (query,) = await store.get_queries(session_id)
        assert query.error == "ValueError: cannot be crunched"


@needs_docket
async def test_a_task_of_a_conversation_belongs_to_its_session(tmp_path: Path) -> None:
    async with working(tmp_path, []) as (client, store):
        session_id = await created(client, {"threadId": "chat-1"})
        await run_as_task(client, "crunch", {"threadId": "chat-1"}, symbol="AAPL")
        await run_as_task(client, "crunch", {"threadId": "chat-2"}, symbol="IBM")
        await run_as_task(client, "crunch", symbol="MSFT")
        assert [query.parameters["symbol"] for query in await store.get_queries(session_id)] == ["AAPL"]


@needs_docket
async def test_a_bad_session_fails_before_the_function_runs(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    async with working(tmp_path, seen) as (client, _):
        result = await run_as_task(client, "crunch", symbol="AAPL", session_id="nonsense")
        assert "not a session id" in str(result)
        assert seen == []


@needs_docket
async def test_called_at_once_it_is_noted_like_any_other(tmp_path: Path) -> None:
    async with working(tmp_path, []) as (client, store):
        session_id = await created(client)
        called = await client.call_tool("crunch", {"symbol": "AAPL", "session_id": session_id})
        if told(called) is None:  # fastmcp 4 makes a task of it wherever the client can follow one
            assert MAJOR >= 4
        assert len(await store.get_queries(session_id)) == 1


async def test_a_function_that_may_run_later_is_wrapped_so_that_it_looks_the_same() -> None:
    """Without a worker: what it is made of, and that it notes when it is called."""

    async def crunch(symbol: str, days: int = 5) -> str:
        """A long calculation."""
        return f"{symbol}: {days}"

    async def stream(count: int) -> AsyncGenerator[int, None]:
        """Several answers."""
        for number in range(count):
            yield number

    made = [FunctionTool.from_function(crunch, task=True)]
    if VERSION >= (4, 2):
        made.append(FunctionTool.from_function(stream, task=True))

    def build(calls: Calls) -> FastMCP:
        return FastMCP("tasks")

    async with served(build) as server:
        session_id = await server.create(meta={"threadId": "t"})
        (transform,) = server.client.transport.server.transforms[-1:]
        aware = await transform.list_tools(made)
        assert all(isinstance(tool, FunctionTool) for tool in aware)
        assert aware[0].parameters["properties"].keys() == {"symbol", "days", "session_id"}
        assert (await transform.list_tools(made))[0].fn is aware[0].fn

        result = await aware[0].run({"symbol": "AAPL", "session_id": session_id})
        assert result.meta["perdure"]["position"] == 1
        if len(aware) > 1:
            result = await aware[1].run({"count": 3, "session_id": session_id})
            assert result.meta["perdure"]["position"] == 2
            assert "0" in str(result.content)
        assert (await aware[0].run({"symbol": "AAPL"})).structured_content == {"result": "AAPL: 5"}
        noted = [(query.query_type, query.parameters) for query in await server.store.get_queries(session_id)]
        assert noted[0] == ("crunch", {"symbol": "AAPL", "days": 5})


@pytest.mark.parametrize(("bind", "noted"), [("meta", 1), ("argument", 0)])
async def test_what_stood_for_the_conversation_when_a_run_was_queued_binds_it(bind: str, noted: int) -> None:
    """Without a worker: it reaches the function in place of a session id."""

    async def crunch(symbol: str) -> str:
        """A long calculation."""
        return symbol

    label = ".mcp-conversation:" + 32 * "0"
    async with served(bind=bind) as server:
        session = await server.store.create_session(["AAPL"], "equity", tags=[label])
        transform = server.client.transport.server.transforms[-1]
        (aware,) = await transform.list_tools([FunctionTool.from_function(crunch, task=True)])
        with nullcontext() if noted else pytest.raises(ToolError, match="not a session id"):
            result = await aware.run({"symbol": "AAPL", "session_id": label})
            assert result.meta["perdure"] == {
                "session_id": str(session.id),
                "position": 1,
                "bound_by": "conversation",
            }
        assert len(await server.store.get_queries(session.id)) == noted
