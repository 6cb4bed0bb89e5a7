"""The packages behind the live sources, where they are installed: their own parsers on recorded answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from perdure.integrations.mcp import QuoteError, QuoteRequest
from perdure.integrations.mcp.providers.exchanges import CcxtQuotes
from perdure.integrations.mcp.providers.yahoo import YahooQuotes

RECORDED = Path(__file__).with_name("recorded")


@pytest.fixture
def bitstamp() -> Iterator[str]:
    """A server on this machine that speaks Bitstamp's API."""
    answers = json.loads((RECORDED / "bitstamp.json").read_text())

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path)
            body = json.dumps({"error": "no such path"} if answer is None else answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def exchange(name: str, *, at: str) -> Any:
    """ccxt's own, sent to a server on this machine."""
    ccxt = pytest.importorskip("ccxt.async_support")
    made = getattr(ccxt, name)()
    made.urls["api"] = {key: url.replace("https://www.bitstamp.net", at) for key, url in made.urls["api"].items()}
    return made


def test_the_parser_of_ccxt_reads_the_recorded_ticker() -> None:
    ccxt = pytest.importorskip("ccxt")
    ticker = json.loads((RECORDED / "bitstamp.json").read_text())["/api/v2/ticker/btcusd/"]
    parsed = ccxt.bitstamp().parse_ticker(ticker)
    assert (parsed["last"], parsed["timestamp"]) == (26216.0, 1686068944000)
    assert round(parsed["percentage"], 2) == 1.89


async def test_a_quote_by_ccxt_over_http(bitstamp: str) -> None:
    source = CcxtQuotes(default="bitstamp", exchange=lambda name: exchange(name, at=bitstamp))
    quote = await source.quote(QuoteRequest("coin", "btc"))
    assert (quote.symbol, quote.market, quote.currency, quote.price) == ("BTC", "bitstamp", "USD", 26216.0)
    assert (quote.as_of, quote.change_percent) == ("2023-06-06T16:29:04+00:00", 1.89)


async def test_what_ccxt_does_not_find_is_a_quote_error(bitstamp: str) -> None:
    source = CcxtQuotes(default="bitstamp", exchange=lambda name: exchange(name, at=bitstamp))
    with pytest.raises(QuoteError, match="does not trade 'DOGE'"):
        await source.quote(QuoteRequest("coin", "DOGE"))
    with pytest.raises(QuoteError, match="of BTC there are BTC/USD"):
        await source.quote(QuoteRequest("coin", "BTC", pair="BTC/EUR"))
    with pytest.raises(QuoteError, match="bitstamp gave no price"):
        await source.quote(QuoteRequest("coin", "BTC", pair="BTC/USD:USD"))  # listed, and its ticker was not recorded


def test_an_exchange_that_ccxt_does_not_know() -> None:
    pytest.importorskip("ccxt")
    with pytest.raises(QuoteError, match="no exchange 'nowhere'"):
        CcxtQuotes().exchange("nowhere")


@pytest.mark.filterwarnings("ignore")  # what yfinance makes of the newest pandas is not ours
async def test_the_parser_of_yfinance_reads_the_recorded_chart() -> None:
    yfinance = pytest.importorskip("yfinance")
    requests = pytest.importorskip("requests")
    recorded = (RECORDED / "yahoo.json").read_bytes()

    class Answers(requests.adapters.BaseAdapter):  # type: ignore[misc,name-defined]
        def send(self, request: Any, **_: Any) -> Any:
            response = requests.Response()
            response.status_code = 200
            response.url, response.request = request.url, request
            response._content = recorded
            return response

        def close(self) -> None:
            """Nothing to close."""

    session = requests.Session()
    session.mount("https://", Answers())
    quote = await YahooQuotes(ticker=lambda symbol: yfinance.Ticker(symbol, session=session)).quote(
        QuoteRequest("equity", "mu", depth=3)
    )
    assert (quote.symbol, quote.market, quote.currency, quote.as_of) == ("MU", "NasdaqGS", "USD", "2026-07-27")
    assert [round(close.close, 2) for close in quote.closes] == [990.21, 920.95, 870.19]
    assert quote.change_percent == -5.51
