"""Live sources, with what they stand on replaced: the real packages are tried where they are installed."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, date, datetime
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from perdure.errors import MissingExtraError
from perdure.integrations.mcp import QuoteError, QuoteRequest
from perdure.integrations.mcp.providers.exchanges import CcxtQuotes
from perdure.integrations.mcp.providers.yahoo import YahooQuotes


def coin(**given: Any) -> QuoteRequest:
    return QuoteRequest("coin", **{"symbol": "BTC", **given})


def share(**given: Any) -> QuoteRequest:
    return QuoteRequest("equity", **{"symbol": "AAPL", **given})


class Prices(dict[str, Any]):
    """As much of a data frame as is looked at."""

    def __init__(self, closes: dict[datetime, float]) -> None:
        super().__init__(Close=SimpleNamespace(dropna=lambda: closes))
        self._closes = closes

    def __len__(self) -> int:
        return len(self._closes)


class Ticker:
    """yfinance's, with closes of its own."""

    def __init__(self, symbol: str, closes: dict[datetime, float], *, error: Exception | None = None) -> None:
        self.symbol = symbol
        self.history_metadata = {"currency": "USD", "fullExchangeName": "NasdaqGS"}
        self._closes = closes
        self._error = error
        self.start: date | None = None

    def history(self, *, start: date, interval: str, auto_adjust: bool) -> Prices:
        assert (interval, auto_adjust) == ("1d", False)
        self.start = start
        if self._error is not None:
            raise self._error
        return Prices(self._closes)


CLOSES = {datetime(2026, 1, day, tzinfo=UTC): 100.0 + day for day in (5, 6, 7, 8)}


async def test_yahoo_gives_the_newest_close_and_those_before_it() -> None:
    quote = await YahooQuotes(ticker=lambda symbol: Ticker(symbol, CLOSES)).quote(share(depth=2))
    assert (quote.symbol, quote.market, quote.currency) == ("AAPL", "NasdaqGS", "USD")
    assert (quote.price, quote.as_of, quote.change_percent) == (108.0, "2026-01-08", 0.93)
    assert [close.at for close in quote.closes] == ["2026-01-07", "2026-01-08"]


@pytest.mark.parametrize(("market", "symbol"), [("", "AAPL"), ("US", "AAPL"), ("l", "AAPL.L"), (".DE", "AAPL.DE")])
async def test_a_market_is_yahoos_suffix(market: str, symbol: str) -> None:
    quote = await YahooQuotes(ticker=lambda asked: Ticker(asked, CLOSES)).quote(share(market=market))
    assert quote.symbol == symbol


async def test_yahoo_that_fails_or_has_nothing_is_a_quote_error() -> None:
    nothing = YahooQuotes(ticker=lambda symbol: Ticker(symbol, {}))
    with pytest.raises(QuoteError, match="no prices of 'AAPL'"):
        await nothing.quote(share())
    broken = YahooQuotes(ticker=lambda symbol: Ticker(symbol, {}, error=RuntimeError("secret")))
    with pytest.raises(QuoteError, match="RuntimeError") as caught:
        await broken.quote(share())
    assert "secret" not in str(caught.value)


async def test_yahoo_that_does_not_answer_is_given_up() -> None:
    released = threading.Event()

    def hangs(symbol: str) -> Any:
        released.wait(30)
        return Ticker(symbol, CLOSES)

    try:
        with pytest.raises(QuoteError, match=r"within 0\.01 seconds"):
            await YahooQuotes(ticker=hangs, timeout_seconds=0.01).quote(share())
    finally:
        released.set()


class Exchange:
    """ccxt's interface, with two pairs."""

    def __init__(self, *, error: Exception | None = None, **ticker: Any) -> None:
        self.markets: dict[str, Any] = {}
        self.loaded = 0
        self.closed = 0
        self._error = error
        self._ticker = {"last": 65_000.5, "timestamp": 1_767_225_600_000, "percentage": -1.25, **ticker}

    async def load_markets(self) -> dict[str, Any]:
        self.loaded += 1
        self.markets = {"BTC/USD": {}, "BTC/EUR": {}, "ETH/USD": {}}
        return self.markets

    def set_markets(self, markets: dict[str, Any]) -> None:
        self.markets = markets

    async def fetch_ticker(self, pair: str) -> dict[str, Any]:
        if self._error is not None:
            raise self._error
        return {"symbol": pair, **self._ticker}

    async def close(self) -> None:
        self.closed += 1


async def test_an_exchange_gives_the_last_price() -> None:
    exchange = Exchange()
    quote = await CcxtQuotes(exchange=lambda name: exchange).quote(coin())
    assert (quote.symbol, quote.market, quote.currency, quote.price) == ("BTC", "kraken", "USD", 65_000.5)
    assert (quote.as_of, quote.change_percent) == ("2026-01-01T00:00:00+00:00", -1.25)
    assert exchange.closed == 1


async def test_markets_are_loaded_once_for_each_exchange() -> None:
    exchange = Exchange()
    source = CcxtQuotes(exchange=lambda name: exchange)
    for pair in ("", "BTC/EUR"):
        await source.quote(coin(pair=pair))
    assert (exchange.loaded, exchange.closed) == (1, 2)
    await source.quote(coin(market="okx"))
    assert exchange.loaded == 2


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (coin(pair="BTC/XYZ"), "kraken does not trade 'BTC/XYZ'; of BTC there are BTC/EUR, BTC/USD"),
        (coin(symbol="DOGE"), "kraken does not trade 'DOGE'; there are BTC, ETH"),
    ],
)
async def test_an_unknown_coin_or_pair_is_an_error_that_lists_what_there_is(
    request_: QuoteRequest, complaint: str
) -> None:
    exchange = Exchange()
    with pytest.raises(QuoteError) as caught:
        await CcxtQuotes(exchange=lambda name: exchange).quote(request_)
    assert str(caught.value) == complaint


@pytest.mark.parametrize(
    ("request_", "listed"),
    [
        (coin(symbol="DOGE"), [f"C{number}" for number in range(10, 22)]),
        (coin(symbol="C10", pair="C10/XYZ"), [f"C10/P{number}" for number in range(10, 22)]),
    ],
)
async def test_of_very_many_the_first_are_listed(request_: QuoteRequest, listed: list[str]) -> None:
    source, exchange = CcxtQuotes(exchange=lambda name: exchange), Exchange()
    source._markets["kraken"] = {f"C{coin}/P{quote}": {} for coin in range(10, 40) for quote in range(10, 40)}
    with pytest.raises(QuoteError) as caught:
        await source.quote(request_)
    assert str(caught.value).endswith(f"there are {', '.join(listed)}, …")
    assert exchange.closed == 1


async def test_an_exchange_that_fails_or_has_no_price_is_a_quote_error_and_is_closed() -> None:
    broken, silent = Exchange(error=RuntimeError("secret")), Exchange(last=None)
    with pytest.raises(QuoteError, match="RuntimeError") as caught:
        await CcxtQuotes(exchange=lambda name: broken).quote(coin())
    assert "secret" not in str(caught.value)
    with pytest.raises(QuoteError, match="no price"):
        await CcxtQuotes(exchange=lambda name: silent).quote(coin())
    assert broken.closed == silent.closed == 1


@pytest.mark.parametrize(("module", "source"), [("yfinance", YahooQuotes), ("ccxt", CcxtQuotes)])
def test_a_live_source_without_its_package_names_the_extra(
    module: str, source: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[source.__module__], "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf"perdure\[{module}\]"):
        source()


def test_without_a_substitute_the_packages_themselves_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    yfinance, ccxt = ModuleType("yfinance"), ModuleType("ccxt")
    asynchronous = ModuleType("ccxt.async_support")
    yfinance.Ticker = lambda symbol: f"ticker of {symbol}"  # type: ignore[attr-defined]
    asynchronous.exchanges = ["kraken"]  # type: ignore[attr-defined]
    asynchronous.kraken = lambda options: f"kraken {options}"  # type: ignore[attr-defined]
    ccxt.async_support = asynchronous  # type: ignore[attr-defined]
    for module in (yfinance, ccxt, asynchronous):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for source in (YahooQuotes, CcxtQuotes):
        monkeypatch.setattr(sys.modules[source.__module__], "find_spec", lambda name: True)
    assert YahooQuotes().ticker("AAPL") == "ticker of AAPL"
    assert CcxtQuotes().exchange("kraken") == "kraken {'enableRateLimit': True}"
    with pytest.raises(QuoteError, match="no exchange 'nowhere'"):
        CcxtQuotes().exchange("nowhere")
