"""Live prices of shares from Yahoo Finance, by the package yfinance: `perdure[yfinance]`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any

from perdure.errors import MissingExtraError
from perdure.integrations.mcp.providers.protocol import Close, Kind, Quote, QuoteError, QuoteRequest

__all__ = ["YahooQuotes"]

TRADED = 5 / 7
"""Days of a year on which there is trading, holidays not counted."""


def _ticker(symbol: str) -> Any:
    import yfinance

    return yfinance.Ticker(symbol)


@dataclass(frozen=True, slots=True)
class YahooQuotes:
    """A `QuoteProvider` of shares. `market` is Yahoo's suffix, "L" for London; "US" and nothing mean the same.

    `ticker` makes what has yfinance's `Ticker.history`.

    Raises:
        MissingExtraError: yfinance is not installed.
    """

    ticker: Callable[[str], Any] = _ticker
    max_age: timedelta | None = timedelta(minutes=1)
    timeout_seconds: float = 15.0
    kind: Kind = "equity"
    name: str = "yfinance"

    def __post_init__(self) -> None:
        if self.ticker is _ticker and find_spec("yfinance") is None:
            raise MissingExtraError("live quotes of shares", extra="yfinance")

    async def quote(self, request: QuoteRequest) -> Quote:
        """See `QuoteProvider.quote`."""
        market = request.market.upper().lstrip(".")
        symbol = request.symbol.upper() if market in ("", "US") else f"{request.symbol.upper()}.{market}"
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await asyncio.to_thread(self._look_up, symbol, request)
        except TimeoutError:
            raise QuoteError(f"Yahoo Finance did not answer within {self.timeout_seconds:g} seconds") from None

    def _look_up(self, symbol: str, request: QuoteRequest) -> Quote:
        days = timedelta(days=request.depth / TRADED + 10)
        ticker = self.ticker(symbol)
        try:
            prices = ticker.history(start=(datetime.now(UTC) - days).date(), interval="1d", auto_adjust=False)
            facts = ticker.history_metadata
        except Exception as error:
            raise QuoteError(f"Yahoo Finance gave no prices of {symbol!r}: {type(error).__name__}") from error
        closes = (
            [Close(at=at.date().isoformat(), close=float(close)) for at, close in prices["Close"].dropna().items()]
            if len(prices)
            else []
        )
        if not closes:
            raise QuoteError(f"Yahoo Finance has no prices of {symbol!r}; is it the ticker, and is the market right?")
        before = closes[-2].close if len(closes) > 1 else None
        return Quote(
            symbol=symbol,
            market=facts.get("fullExchangeName") or facts.get("exchangeName"),
            currency=str(facts.get("currency") or "unknown"),
            price=closes[-1].close,
            as_of=closes[-1].at,
            change_percent=None if not before else round((closes[-1].close / before - 1) * 100, 2),
            closes=closes[-request.depth :],
            source="Yahoo Finance",
        )
