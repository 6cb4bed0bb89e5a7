"""Tools of the server become session-aware: what their schema says, and what of their calls is noted."""

from __future__ import annotations

import asyncio
import inspect
from datetime import timedelta
from typing import Any

import pytest
from fastmcp import Client, Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.tools import ToolResult
from fastmcp.utilities.types import Image
from tests.integrations.mcp.servers import MAJOR, Calls, Served, finance, served, text_of, told

from perdure import QueryRecord, hookimpl
from perdure.integrations.mcp import awareness, current_call, install, mark_cache_hit
from perdure.integrations.mcp import hookimpl as mcp_hookimpl
from perdure.testing import Fault, Moment

UNKNOWN = "0192f0c1-0000-7000-8000-000000000000"

FAILED: dict[str, Any] = {"is_error": True} if "is_error" in inspect.signature(ToolResult).parameters else {}
"""What makes a result an error; older versions of fastmcp have nothing of that kind."""


async def queries(server: Served, session_id: str) -> list[QueryRecord]:
    return list((await server.session(session_id)).state.history.queries)


async def test_a_tool_gets_an_optional_plain_string() -> None:
    async with served() as server:
        schema = (await server.tools())["price"]["inputSchema"]

        assert schema["properties"]["session_id"]["type"] == "string"
        assert schema["properties"].keys() == {"symbol", "session_id"}
        assert schema["required"] == ["symbol"]
        assert "anyOf" not in schema["properties"]["session_id"]


async def test_everything_else_of_a_tool_stays_as_it_was() -> None:
    async with Client(finance()) as plain, served() as server:
        before = {tool.name: tool for tool in await plain.list_tools()}
        after = {tool.name: tool for tool in await server.client.list_tools()}
        for name, tool in before.items():
            changed = after[name].model_dump(by_alias=True)
            changed["inputSchema"]["properties"].pop("session_id")
            assert changed == tool.model_dump(by_alias=True)


async def test_a_call_is_noted_with_what_was_asked_and_what_came_of_it() -> None:
    async with served() as server:
        session_id = await server.create()

        result = await server.call("price", symbol="AAPL", session_id=session_id)

        assert result.data == "AAPL: $175.43"
        assert told(result) == {"session_id": session_id, "position": 1, "bound_by": "argument"}
        (query,) = await queries(server, session_id)
        assert (query.query_type, query.parameters, query.result_summary) == (
            "price",
            {"symbol": "AAPL"},
            "AAPL: $175.43",
        )
        assert (query.cache_hit, query.error) == (False, None)
        assert query.execution_time_ms is not None
        assert query.execution_time_ms >= 0
        assert (server.sessions.recorded, server.sessions.failed) == (1, 0)


async def test_the_argument_does_not_reach_the_tool() -> None:
    async with served() as server:
        await server.call("price", symbol="AAPL", session_id=await server.create())
        assert server.calls.seen == [{"symbol": "AAPL"}]


@pytest.mark.parametrize("given", [{}, {"session_id": ""}, {"session_id": "  "}])
async def test_without_a_session_nothing_is_noted(given: dict[str, Any]) -> None:
    async with served() as server:
        session_id = await server.create()

        result = await server.call("price", symbol="AAPL", **given)

        assert result.data == "AAPL: $175.43"
        assert told(result) is None
        assert await queries(server, session_id) == []


async def test_a_null_is_as_good_as_nothing() -> None:
    async with served() as server:
        result = await server.client.call_tool("price", {"symbol": "AAPL", "session_id": None})
        assert told(result) is None


async def test_a_cache_hit_is_noted() -> None:
    async with served() as server:
        session_id = await server.create()
        await server.call("cached_price", symbol="AAPL", session_id=session_id)
        assert (await queries(server, session_id))[0].cache_hit is True
        assert (await server.call("cached_price", symbol="AAPL")).data  # outside of a session it is simply said


def test_marking_a_cache_hit_outside_of_a_call_does_nothing() -> None:
    assert mark_cache_hit() is False
    assert current_call() is None


async def test_an_error_of_the_tool_is_noted_and_goes_on() -> None:
    async with served() as server:
        session_id = await server.create()

        complaint = await server.error("broken", symbol="AAPL", session_id=session_id)

        assert "AAPL" in complaint or "timed out" in complaint  # fastmcp's own words for a timeout
        (query,) = await queries(server, session_id)
        assert query.error is not None
        assert "no answer for AAPL" in query.error


async def test_arguments_that_do_not_fit_are_noted_as_the_error_they_are() -> None:
    async with served() as server:
        session_id = await server.create()
        await server.error("report", words="many", session_id=session_id)
        (query,) = await queries(server, session_id)
        assert query.error is not None
        assert query.parameters == {"words": "many"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("nonsense", ["not a session id", "list-sessions", "create-analysis-session"]),
        (UNKNOWN, ["no session", "list-sessions"]),
        (17, ["not a session id", "17"]),
    ],
)
async def test_a_bad_session_fails_before_the_tool_runs(given: Any, words: list[str]) -> None:
    async with served() as server:
        complaint = await server.error("price", symbol="AAPL", session_id=given)
        for word in words:
            assert word in complaint
        assert server.calls.seen == []


async def test_an_expired_an_archived_and_a_full_session_fail_before_the_tool_runs() -> None:
    async with served(settings={"session_max_queries_per_session": 1}) as server:
        full = await server.create()
        await server.call("price", symbol="IBM", session_id=full)
        server.calls.seen.clear()
        complaint = await server.error("price", symbol="AAPL", session_id=full)
        assert "holds 1 queries" in complaint
        assert "create-analysis-session" in complaint

        expired = await server.create(ttl_hours=1)
        server.clock.advance(timedelta(hours=2))
        complaint = await server.error("price", symbol="AAPL", session_id=expired)
        assert "expired" in complaint
        assert "extend-session" in complaint

        archived = await server.create()
        await server.store.archive_session(archived)
        complaint = await server.error("price", symbol="AAPL", session_id=archived)
        assert "archived" in complaint
        assert "extend-session" in complaint
        assert server.calls.seen == []


async def test_noting_that_fails_after_the_tool_ran_loses_nothing_of_its_result(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as server:
        session_id = await server.create()
        server.backend.calls.clear()
        server.backend.faults = [Fault(1, Moment.BEFORE, "apply")]

        result = await server.call("price", symbol="AAPL", session_id=session_id)

        assert result.data == "AAPL: $175.43"
        found = told(result)
        assert found is not None
        assert "not recorded" in found["warning"]
        assert "position" not in found
        assert (server.sessions.recorded, server.sessions.failed) == (0, 1)
        assert "query.not_recorded" in caplog.text


async def test_a_backend_that_is_down_fails_a_call_that_names_a_session() -> None:
    async with served() as server:
        session_id = await server.create()
        server.backend.calls.clear()
        server.backend.faults = [Fault(1, Moment.BEFORE, "read")]
        assert "cannot be reached" in await server.error("price", symbol="AAPL", session_id=session_id)
        assert server.calls.seen == []


async def test_a_query_that_a_hook_refuses_is_told_as_a_warning() -> None:
    class House:
        @hookimpl
        def prepare_query(self, query: QueryRecord) -> QueryRecord | None:
            if query.parameters.get("symbol") == "SECRET":
                raise PermissionError("not in this house")
            return query.model_copy(update={"parameters": {"symbol": "redacted"}})

    async with served(store_plugins=(House(),)) as server:
        session_id = await server.create()

        refused = told(await server.call("price", symbol="SECRET", session_id=session_id))
        await server.call("price", symbol="AAPL", session_id=session_id)

        assert refused is not None
        assert "refused" in refused["warning"]
        assert "house" not in refused["warning"]
        assert [query.parameters for query in await queries(server, session_id)] == [{"symbol": "redacted"}]


async def test_a_summary_is_the_beginning_of_the_text() -> None:
    async with served() as server:
        session_id = await server.create()
        await server.call("report", words=1_000, session_id=session_id)
        summary = (await queries(server, session_id))[0].result_summary
        assert summary is not None
        assert len(summary) == 200
        assert summary.startswith('{"text":"word word')
        assert summary.endswith("…")


async def test_no_summary_and_no_error_of_a_result_exceeds_the_bound() -> None:
    def build(calls: Calls) -> FastMCP:
        mcp: FastMCP = FastMCP("talkative")

        @mcp.tool
        def says_so_itself() -> str:
            call = current_call()
            assert call is not None
            call.query.result_summary = "s" * 5_000
            return "short"

        @mcp.tool
        def structured() -> ToolResult:
            return ToolResult(content=[], structured_content={"text": "x" * 5_000})

        @mcp.tool
        def failed() -> ToolResult:
            return ToolResult(content=[], structured_content={"text": "x" * 5_000}, **FAILED)

        return mcp

    async with served(build, summary_length=100) as server:
        session_id = await server.create()
        await server.call("says_so_itself", session_id=session_id)
        await server.call("structured", session_id=session_id)
        await server.client.call_tool("failed", {"session_id": session_id}, raise_on_error=False)

        own, shown, failure = await queries(server, session_id)
        assert own.result_summary == "s" * 99 + "…"
        assert len(shown.result_summary or "") == 100
        assert len((failure.error if FAILED else failure.result_summary) or "") == 100


async def test_arguments_that_are_too_large_to_keep_are_cut_and_the_tool_gets_them_whole() -> None:
    async with served(settings={"max_value_bytes": 2_000}) as server:
        session_id = await server.create()

        result = await server.call("price", symbol="A" * 5_000, session_id=session_id)

        assert result.data == "A" * 5_000 + ": $175.43"
        assert server.calls.seen == [{"symbol": "A" * 5_000}]
        assert told(result) == {"session_id": session_id, "position": 1, "bound_by": "argument"}
        (query,) = await queries(server, session_id)
        assert query.parameters.keys() == {"truncated"}
        assert len(query.parameters["truncated"]) <= 500


async def test_a_hook_can_say_what_a_result_amounts_to_and_is_held_to_the_bound() -> None:
    class Summaries:
        @mcp_hookimpl
        def summarize_result(self, tool: str, arguments: dict[str, Any], result: ToolResult) -> str | None:
            assert isinstance(result, ToolResult)
            return f"{tool} of {arguments}" + "!" * 500 if tool == "price" else None

    class Broken:
        @mcp_hookimpl
        def summarize_result(self, tool: str) -> str | None:
            raise RuntimeError(tool)

    async with served(plugins=(Broken(), Summaries()), summary_length=50) as server:
        session_id = await server.create()
        await server.call("price", symbol="AAPL", session_id=session_id)
        await server.call("cached_price", symbol="AAPL", session_id=session_id)

        ours, default = (query.result_summary for query in await queries(server, session_id))
        assert ours is not None
        assert ours.startswith("price of {'symbol': 'AAPL'}!!!")
        assert len(ours) == 50
        assert default == "AAPL: $175.43"


async def test_a_misspelt_hook_is_an_error_at_once() -> None:
    from perdure import SessionStore
    from perdure.errors import PluginError

    class Misspelt:
        @mcp_hookimpl
        def summarise_result(self, tool: str) -> str:
            return tool

    with pytest.raises(PluginError, match="summarise_result"):
        install(FastMCP("x"), SessionStore.open("memory://"), plugins=[Misspelt()])


async def test_what_is_no_text_is_summed_up_by_its_kind() -> None:
    def build(calls: Calls) -> FastMCP:
        mcp: FastMCP = FastMCP("charts")

        @mcp.tool
        def chart() -> Image:
            return Image(data=b"png", format="png")

        @mcp.tool
        def nothing() -> ToolResult:
            return ToolResult(content=[], structured_content={"answer": 42})

        return mcp

    async with served(build) as server:
        session_id = await server.create()
        await server.call("chart", session_id=session_id)
        await server.call("nothing", session_id=session_id)
        assert [query.result_summary for query in await queries(server, session_id)] == [
            "[image image/png]",
            '{"answer": 42}',
        ]


async def test_a_result_that_cannot_be_described_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> str:
        raise RuntimeError("describing failed")

    monkeypatch.setattr(awareness, "_beginning", fails)
    async with served() as server:
        session_id = await server.create()
        result = await server.call("price", symbol="AAPL", session_id=session_id)
        assert result.data == "AAPL: $175.43"
        (query,) = await queries(server, session_id)
        assert (query.result_summary, query.error) == (None, None)


async def test_a_tool_that_gives_the_same_result_twice_is_told_apart() -> None:
    same = ToolResult(content="always the same", meta={"theirs": 1})

    def build(calls: Calls) -> FastMCP:
        mcp: FastMCP = FastMCP("same")

        @mcp.tool
        def constant() -> ToolResult:
            return same

        return mcp

    async with served(build) as server:
        session_id = await server.create()
        first = await server.call("constant", session_id=session_id)
        second = await server.call("constant")
        assert told(first) is not None
        assert first.meta["theirs"] == 1
        assert told(second) is None
        assert same.meta == {"theirs": 1}


async def test_a_tool_with_such_an_argument_of_its_own_is_left_alone() -> None:
    def build(calls: Calls) -> FastMCP:
        mcp: FastMCP = FastMCP("own")

        @mcp.tool
        def own(session_id: int) -> str:
            return f"mine: {session_id}"

        return mcp

    async with served(build) as server:
        schema = (await server.tools())["own"]["inputSchema"]
        assert schema["properties"]["session_id"]["type"] == "integer"
        assert (await server.call("own", session_id=17)).data == "mine: 17"


@pytest.mark.parametrize(
    ("track", "aware"),
    [
        ("*", {"price", "cached_price", "broken", "report"}),
        ("*price", {"price", "cached_price"}),
        (["price", "rep*"], {"price", "report"}),
        ([], set()),
        (lambda name: name == "report", {"report"}),
    ],
)
async def test_which_tools_are_tracked_can_be_chosen(track: Any, aware: set[str]) -> None:
    async with served(track=track) as server:
        tools = await server.tools()
        own = {"price", "cached_price", "broken", "report"}
        assert {name for name in own if "session_id" in tools[name]["inputSchema"]["properties"]} == aware


async def test_session_tools_are_not_tracked_themselves() -> None:
    async with served() as server:
        session_id = await server.create(meta={"threadId": "t"})
        for tool in ("list-sessions", "get-session-analytics"):
            assert told(await server.call(tool, meta={"threadId": "t"})) is None
        assert await queries(server, session_id) == []


async def test_tools_that_are_added_later_and_changed_later_are_tracked_too() -> None:
    mcp = finance()

    async with served(lambda calls: mcp) as server:
        session_id = await server.create()

        @mcp.tool
        def late(word: str) -> str:
            """At first."""
            return word

        assert told(await server.call("late", word="x", session_id=session_id)) is not None
        inner = await mcp._local_provider.get_tool("late")
        assert inner is not None
        inner.description = "Later."
        assert (await server.tools())["late"]["description"] == "Later."


async def test_of_200_calls_at_once_in_one_session_each_is_noted() -> None:
    async with served() as server:
        session_id = await server.create()

        results = await asyncio.gather(
            *(server.call("price", symbol=f"S{number}", session_id=session_id) for number in range(200))
        )

        noted = await queries(server, session_id)
        assert [query.position for query in noted] == [*range(1, 201)]
        assert {query.parameters["symbol"] for query in noted} == {f"S{number}" for number in range(200)}
        for number, result in enumerate(results):
            found = told(result)
            assert found is not None
            assert noted[found["position"] - 1].parameters == {"symbol": f"S{number}"}


async def test_a_tool_that_calls_another_is_noted_once() -> None:
    mcp = finance()

    @mcp.tool
    async def outer(symbol: str) -> str:
        return text_of(await mcp.call_tool("price", {"symbol": symbol}))

    async with served(lambda calls: mcp) as server:
        meta = {"threadId": "t"}
        session_id = await server.create(meta=meta)
        await server.call("outer", symbol="AAPL", meta=meta)
        assert [query.query_type for query in await queries(server, session_id)] == ["outer"]


async def test_the_running_tool_can_see_its_session() -> None:
    mcp = finance()

    @mcp.tool
    async def remember(word: str) -> str:
        call = current_call()
        assert call is not None
        await call.bound.sessions.update_context(call.bound.session_id, word=word)
        return word

    async with served(lambda calls: mcp) as server:
        session_id = await server.create()
        await server.call("remember", word="x", session_id=session_id)
        assert (await server.session(session_id)).state.context["word"] == "x"


@pytest.mark.skipif(MAJOR < 4, reason="only the newest revision has calls of several rounds")
async def test_each_round_of_a_call_that_asks_for_input_is_a_run() -> None:
    mcp = finance()

    @mcp.tool
    async def greet(ctx: Context) -> Any:
        from mcp_types import InputRequiredResult

        answers = ctx.input_responses or {}
        if "name" in answers:
            given: Any = answers["name"]
            return f"Hello, {given.content['name']}!"
        schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        params = {"message": "Your name?", "requestedSchema": schema}
        asked = {"name": {"method": "elicitation/create", "params": params}}
        return InputRequiredResult.model_validate({"resultType": "input_required", "inputRequests": asked})

    async def answer(*_: Any) -> dict[str, str]:
        return {"name": "Ann"}

    async with served(lambda calls: mcp, client={"elicitation_handler": answer}) as server:
        session_id = await server.create()
        result = await server.call("greet", session_id=session_id)
        assert text_of(result) == "Hello, Ann!"
        summaries = [query.result_summary for query in await queries(server, session_id)]
        assert summaries == ["asked the client for input", "Hello, Ann!"]
        found = told(result)
        assert found is not None
        assert found["position"] == 2


async def test_a_tool_error_keeps_its_message() -> None:
    mcp = finance()

    @mcp.tool
    def picky() -> str:
        raise ToolError("ask me nicely")

    async with served(lambda calls: mcp) as server:
        session_id = await server.create()
        assert await server.error("picky", session_id=session_id) == "ask me nicely"
        assert (await queries(server, session_id))[0].error == "ToolError: ask me nicely"
