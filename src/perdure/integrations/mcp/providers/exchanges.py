"""Live prices of coins from the exchanges that the package ccxt knows: `perdure[ccxt]`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any

from perdure.errors import MissingExtraError
from perdure.integrations.mcp.providers.protocol import Close, Kind, Quote, QuoteError, QuoteRequest

__all__ = ["CcxtQuotes"]

SHOWN = 12
"""Coins, or pairs, that an error lists."""


def _exchange(name: str) -> Any:
    import ccxt.async_support as ccxt

    if name not in ccxt.exchanges:
        raise QuoteError(f"no exchange {name!r}; there are, among others, binance, bitstamp, coinbase, kraken, okx")
    return getattr(ccxt, name)({"enableRateLimit": True})


@dataclass(frozen=True, slots=True)
class CcxtQuotes:
    """A `QuoteProvider` of coins. `market` is the exchange as ccxt calls it; without one, `default` is asked.

    `exchange` makes what has ccxt's asynchronous interface; it is closed after each quote.

    Raises:
        MissingExtraError: ccxt is not installed.
    """

    default: str = "kraken"
    exchange: Callable[[str], Any] = _exchange
    max_age: timedelta | None = timedelta(minutes=1)
    kind: Kind = "coin"
    name: str = "ccxt"
    _markets: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.exchange is _exchange and find_spec("ccxt") is None:
            raise MissingExtraError("live quotes of coins", extra="ccxt")

    async def quote(self, request: QuoteRequest) -> Quote:
        """See `QuoteProvider.quote`."""
        name = request.market.lower() or self.default
        exchange = self.exchange(name)
        try:
            return await self._look_up(exchange, name, request)
        except QuoteError:
            raise
        except Exception as error:
            # Everything that ccxt raises derives from its BaseError, which is there only where ccxt is.
            raise QuoteError(f"{name} gave no price of {request.symbol!r}: {type(error).__name__}") from error
        finally:
            await exchange.close()

    async def _look_up(self, exchange: Any, name: str, request: QuoteRequest) -> Quote:
        if name in self._markets:
            exchange.set_markets(self._markets[name])
        else:
            self._markets[name] = await exchange.load_markets()
        pair = self._pair(exchange, name, request)
        ticker = await exchange.fetch_ticker(pair)
        price = ticker.get("last") or ticker.get("close")
        if price is None:
            raise QuoteError(f"{name} has no price of {pair} at present")
        at = ticker.get("timestamp")
        instant = datetime.now(UTC) if at is None else datetime.fromtimestamp(at / 1000, UTC)
        change = ticker.get("percentage")
        as_of = instant.isoformat(timespec="seconds")
        return Quote(
            symbol=request.symbol.upper(),
            market=name,
            currency=pair.partition("/")[2].partition(":")[0],
            price=float(price),
            as_of=as_of,
            change_percent=None if change is None else round(float(change), 2),
            closes=[Close(at=as_of, close=float(price))],
            source=f"{name}, by ccxt",
        )

    def _pair(self, exchange: Any, name: str, request: QuoteRequest) -> str:
        coin = request.symbol.upper()
        known = sorted(pair for pair in exchange.markets if pair.startswith(f"{coin}/"))
        if not known:
            coins = sorted({pair.partition("/")[0] for pair in exchange.markets if "/" in pair})
            raise QuoteError(f"{name} does not trade {request.symbol!r}; there are {_first(coins)}")
        wanted = [request.pair] if request.pair else [f"{coin}/USD", f"{coin}/USDT", f"{coin}/USDC", *known]
        for pair in wanted:
            if pair in known:
                return pair
        raise QuoteError(f"{name} does not trade {request.pair!r}; of {coin} there are {_first(known)}")


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
