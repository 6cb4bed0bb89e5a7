"""Sessions as resources, and the prompt that goes on with one."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from tests.integrations.mcp.servers import VERSION, Served, served, wire

from perdure import QueryRecord

UNKNOWN = "0192f0c1-0000-7000-8000-000000000000"


async def prompted(server: Served, session_id: str, name: str = "resume_analysis") -> str:
    result = await server.client.get_prompt(name, {"session_id": session_id})
    text: str = result.messages[0].content.text
    return text


async def test_both_resources_are_listed_as_templates() -> None:
    async with served() as server:
        templates = [template.model_dump(by_alias=True) for template in await server.client.list_resource_templates()]
        assert {template["uriTemplate"] for template in templates} == {
            "session://{session_id}",
            "session://{session_id}/history",
        }
        assert {template["mimeType"] for template in templates} == {"application/json"}


async def test_a_session_and_its_history_can_be_read() -> None:
    async with served() as server:
        session_id = await server.create()
        for symbol in ("AAPL", "IBM"):
            await server.call("price", symbol=symbol, session_id=session_id)

        (session,) = await server.client.read_resource(f"session://{session_id}")
        (history,) = await server.client.read_resource(f"session://{session_id}/history")

        assert json.loads(session.text)["total_queries"] == 2
        facts = json.loads(history.text)
        assert [query["parameters"]["symbol"] for query in facts["queries"]] == ["AAPL", "IBM"]
        assert facts["total_queries"] == 2


async def test_one_that_does_not_exist_is_an_invalid_parameter_of_the_protocol() -> None:
    async with served() as server:
        for uri in (f"session://{UNKNOWN}", f"session://{UNKNOWN}/history", "session://nonsense"):
            with pytest.raises(Exception) as caught:  # noqa: PT011 (MCPError or McpError, as the installed mcp has it)
                await server.client.read_resource(uri)
            error = caught.value.error  # type: ignore[attr-defined]
            assert (error.code, error.data) == (-32602, {"uri": uri})


async def test_the_prompt_is_listed_with_its_argument() -> None:
    async with served() as server:
        (prompt,) = (wire(one) for one in await server.client.list_prompts())
        assert prompt["description"].startswith("Go on with an analysis")
        assert prompt["arguments"] == [
            {"name": "session_id", "description": "The session to go on with.", "required": True}
        ]


async def test_the_prompt_gives_context_last_queries_and_open_ends() -> None:
    async with served() as server:
        session_id = await server.create(assets=["AAPL", "IBM", "MSFT"], session_type="comparative")
        await server.store.update_context(session_id, focus="cloud margins")
        await server.store.update_preferences(session_id, detail="short")
        await server.store.store_intermediate_result(session_id, "ranking", ["AAPL"])
        await server.call("price", symbol="AAPL", session_id=session_id)
        await server.error("broken", symbol="IBM", session_id=session_id)

        text = await prompted(server, session_id)

        for line in (
            f"session_id={session_id}",
            "comparative analysis of AAPL, IBM, MSFT",
            '- focus: "cloud margins"',
            '- detail: "short"',
            "- ranking",
            '- 1. price {"symbol": "AAPL"}: AAPL: $175.43',
            '- broken {"symbol": "IBM"} failed: TimeoutError: no answer for IBM',
            "- nothing was asked about MSFT yet",
        ):
            assert line in text
        assert "about AAPL yet" not in text


@pytest.mark.parametrize(
    ("asset", "symbol", "open_end"),
    [
        ("AAPL", "aapl", False),
        ("F", "F", False),
        ("F", "FIG", True),
        ("BRK.B", "BRK.B", False),
        ("BRK.B", "BRKXB", True),
        ("^GSPC", "^GSPC", False),
    ],
)
async def test_an_asset_was_asked_about_where_it_is_a_word_of_a_question(
    asset: str, symbol: str, open_end: bool
) -> None:
    async with served() as server:
        session_id = await server.create(assets=[asset])
        await server.call("price", symbol=symbol, session_id=session_id)
        assert (f"nothing was asked about {asset} yet" in await prompted(server, session_id)) is open_end


async def test_the_prompt_stays_short_whatever_was_noted() -> None:
    async with served() as server:
        session_id = await server.create()
        for error in (None, "e" * 50_000):
            parameters = {"symbol": "A" * 50_000}
            query = QueryRecord(query_type="price", parameters=parameters, result_summary="s" * 50_000, error=error)
            await server.store.track_query(session_id, query)
        text = await prompted(server, session_id)
        assert "failed: eee" in text
        assert len(text) < 5_000


async def test_what_was_answered_since_is_no_open_end() -> None:
    async with served() as server:
        session_id = await server.create()
        await server.store.track_query(session_id, _query(error="TimeoutError"))
        assert "Open ends" in await prompted(server, session_id)
        await server.store.track_query(session_id, _query())
        assert "Open ends" not in await prompted(server, session_id)


async def test_an_expired_session_is_to_be_extended_first() -> None:
    async with served(naming="snake", prefix="fin_") as server:
        created = await server.call("fin_create_analysis_session", assets=["A"], session_type="equity", ttl_hours=1)
        session_id = created.structured_content["session_id"]
        server.clock.advance(timedelta(hours=2))
        assert "call fin_extend_session first" in await prompted(server, session_id, "fin_resume_analysis")


@pytest.mark.skipif(VERSION < (3, 4), reason="fastmcp 3.2 says of prompts only that they failed")
async def test_a_prompt_for_no_session_says_what_to_do() -> None:
    async with served() as server:
        with pytest.raises(Exception, match="list-sessions"):
            await prompted(server, UNKNOWN)


def _query(error: str | None = None) -> QueryRecord:
    return QueryRecord(query_type="price", parameters={"symbol": "AAPL"}, error=error)
