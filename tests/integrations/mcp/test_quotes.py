"""The two tools that look prices up: from what is packaged, from plugins, and from the session's own cache."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastmcp import Client, FastMCP
from tests.integrations.mcp.servers import QUIET, text_of, told

from perdure import SessionStore, Settings
from perdure.errors import ConfigurationError, PluginError
from perdure.integrations.mcp import (
    Quote,
    QuoteError,
    QuoteProvider,
    QuoteRequest,
    hookimpl,
    install,
    install_quotes,
)
from perdure.integrations.mcp.providers.protocol import Close, Kind
from perdure.testing import ManualClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Market:
    """A source whose price goes up each time."""

    name = "market"

    def __init__(self, kind: Kind = "equity", max_age: timedelta | None = timedelta(minutes=1)) -> None:
        self.kind = kind
        self.max_age = max_age
        self.asked: list[QuoteRequest] = []

    async def quote(self, request: QuoteRequest) -> Quote:
        self.asked.append(request)
        if request.symbol == "NONE":
            raise QuoteError("no such share; there are AAPL")
        return Quote(
            symbol=request.symbol,
            market="here",
            currency="EUR",
            price=100.0 + len(self.asked),
            as_of="2025-12-31",
            change_percent=None,
            closes=[Close(at="2025-12-31", close=101.0)],
            source="the market",
        )


@asynccontextmanager
async def quoting(
    providers: list[QuoteProvider] | None = None, *, clock: ManualClock | None = None, **options: Any
) -> AsyncIterator[tuple[Any, SessionStore]]:
    clock = clock or ManualClock(NOW)
    mcp: FastMCP = FastMCP("quotes")
    store = SessionStore.open("memory://", settings=Settings(**QUIET, **options.pop("settings", {})), clock=clock)
    sessions = install(mcp, store, clock=clock, **options)
    install_quotes(mcp, sessions, providers=providers, clock=clock)
    async with Client(mcp) as client:
        yield client, store


async def created(client: Any) -> str:
    made = await client.call_tool("create-analysis-session", {"assets": ["AAPL"], "session_type": "equity"})
    session_id: str = made.structured_content["session_id"]
    return session_id


async def complaint(client: Any, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments, raise_on_error=False)
    assert result.is_error
    return text_of(result)


async def test_they_answer_offline_and_say_how_old_the_price_is() -> None:
    async with quoting() as (client, _):
        share = await client.call_tool("search-by-symbol", {"symbol": "aapl", "market": "US", "depth": 3})
        coin = await client.call_tool("search-by-coin", {"symbol": "btc", "pair": "USD"})

        facts = share.structured_content
        assert (facts["symbol"], facts["price"], facts["as_of"], facts["currency"]) == (
            "AAPL",
            223.02,
            "2010-03",
            "USD",
        )
        assert [close["at"] for close in facts["closes"]] == ["2010-01", "2010-02", "2010-03"]
        assert facts["age_days"] == (NOW.date() - datetime(2010, 3, 31, tzinfo=UTC).date()).days
        assert facts["change_percent"] == 8.99
        assert "5755 days old" in text_of(share)
        facts = coin.structured_content
        assert (facts["symbol"], facts["price"], facts["as_of"]) == ("BTC", 2486.69, "2017-07-03")
        assert "@visx/mock-data" in facts["source"]


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("search-by-symbol", {"symbol": "TSLA"}, ["TSLA", "AAPL, AMZN, GOOG, IBM, MSFT"]),
        ("search-by-symbol", {"symbol": "AAPL", "market": "LSE"}, ["LSE", "NASDAQ, NYSE, US"]),
        ("search-by-coin", {"symbol": "ETH"}, ["ETH", "BTC"]),
        ("search-by-coin", {"symbol": "BTC", "exchange": "kraken"}, ["kraken", "Leave it out"]),
        ("search-by-coin", {"symbol": "BTC", "pair": "BTC/EUR"}, ["BTC/EUR", "BTC/USD"]),
        ("search-by-symbol", {"symbol": "AAPL", "depth": 0}, ["depth"]),
    ],
)
async def test_what_is_not_known_is_an_error_that_lists_what_is(
    tool: str, arguments: dict[str, Any], words: list[str]
) -> None:
    async with quoting() as (client, _):
        said = await complaint(client, tool, **arguments)
        for word in words:
            assert word in said


async def test_the_second_time_the_session_answers() -> None:
    market = Market()
    async with quoting([market, Market("coin")]) as (client, store):
        session_id = await created(client)
        arguments = {"symbol": "AAPL", "session_id": session_id}

        first = await client.call_tool("search-by-symbol", arguments)
        second = await client.call_tool("search-by-symbol", arguments)

        assert [one.structured_content["cache_hit"] for one in (first, second)] == [False, True]
        assert first.structured_content["price"] == second.structured_content["price"] == 101.0
        assert len(market.asked) == 1
        session = await store.get_session(session_id)
        assert session is not None
        assert [query.cache_hit for query in session.state.history.queries] == [False, True]


async def test_another_question_and_another_session_are_asked_anew() -> None:
    market = Market()
    async with quoting([market, Market("coin")]) as (client, _):
        session_id = await created(client)
        for arguments in ({"symbol": "AAPL"}, {"symbol": "AAPL", "market": "L"}, {"symbol": "AAPL", "depth": 5}):
            await client.call_tool("search-by-symbol", {**arguments, "session_id": session_id})
        await client.call_tool("search-by-symbol", {"symbol": "AAPL", "session_id": await created(client)})
        await client.call_tool("search-by-symbol", {"symbol": "AAPL"})
        assert len(market.asked) == 5


async def test_an_answer_that_is_too_old_is_looked_up_again() -> None:
    market, clock = Market(max_age=timedelta(minutes=1)), ManualClock(NOW)
    async with quoting([market, Market("coin")], clock=clock) as (client, _):
        arguments = {"symbol": "AAPL", "session_id": await created(client)}
        await client.call_tool("search-by-symbol", arguments)
        clock.advance(timedelta(minutes=1))
        assert (await client.call_tool("search-by-symbol", arguments)).structured_content["cache_hit"] is True
        clock.advance(timedelta(seconds=1))
        again = await client.call_tool("search-by-symbol", arguments)
        assert (again.structured_content["cache_hit"], again.structured_content["price"]) == (False, 102.0)


async def test_an_answer_that_cannot_be_kept_or_read_is_given_all_the_same() -> None:
    market = Market()
    async with quoting([market, Market("coin")], settings={"max_state_bytes": 64}) as (client, _):
        arguments = {"symbol": "AAPL", "session_id": await created(client)}
        for price in (101.0, 102.0):
            answered = await client.call_tool("search-by-symbol", arguments)
            assert answered.structured_content["price"] == price
            assert told(answered) is not None

    async with quoting([market, Market("coin")]) as (client, store):
        session_id = await created(client)
        arguments = {"symbol": "AAPL", "session_id": session_id}
        await client.call_tool("search-by-symbol", arguments)
        session = await store.get_session(session_id)
        assert session is not None
        (key,) = session.state.intermediate_results
        for damaged in ({"looked_up_at": "yesterday"}, {"quote": {}, "looked_up_at": NOW.isoformat()}, "damaged"):
            await store.store_intermediate_result(session_id, key, damaged)
            answered = await client.call_tool("search-by-symbol", arguments)
            assert answered.structured_content["cache_hit"] is False


async def test_a_source_that_has_no_answer_says_so_and_nothing_takes_its_place() -> None:
    async with quoting([Market(), Market("coin")]) as (client, _):
        assert await complaint(client, "search-by-symbol", symbol="NONE") == "no such share; there are AAPL"


async def test_a_plugin_can_bring_a_source() -> None:
    market = Market()

    class Brings:
        @hookimpl
        def register_quote_providers(self, providers: list[QuoteProvider]) -> None:
            providers.insert(0, market)

    async with quoting(plugins=[Brings()]) as (client, _):
        answered = await client.call_tool("search-by-symbol", {"symbol": "SAP"})
        assert answered.structured_content["source"] == "the market"
        packaged = await client.call_tool("search-by-coin", {"symbol": "BTC"})
        assert "packaged" in packaged.structured_content["source"]


def test_a_plugin_that_fails_to_say_and_a_kind_without_source_are_errors_at_once() -> None:
    class Fails:
        @hookimpl
        def register_quote_providers(self, providers: list[QuoteProvider]) -> None:
            raise RuntimeError("no licence")

    mcp: FastMCP = FastMCP("x")
    sessions = install(mcp, SessionStore.open("memory://"), plugins=[Fails()])
    with pytest.raises(PluginError, match="no licence"):
        install_quotes(mcp, sessions)
    other: FastMCP = FastMCP("y")
    with pytest.raises(ConfigurationError, match="coin"):
        install_quotes(other, install(other, SessionStore.open("memory://")), providers=[Market()])


async def test_their_schema_says_what_they_answer() -> None:
    async with quoting(naming="snake") as (client, _):
        tools = {tool.name: tool.model_dump(by_alias=True) for tool in await client.list_tools()}
        for name in ("search_by_symbol", "search_by_coin"):
            assert {"price", "as_of", "age_days", "cache_hit"} <= tools[name]["outputSchema"]["properties"].keys()
            assert tools[name]["annotations"]["readOnlyHint"] is True
            assert "session_id" in tools[name]["inputSchema"]["properties"]
