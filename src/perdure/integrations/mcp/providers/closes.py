"""Real closes that ship with perdure: they work offline, never change, and say how old they are.

`data/source.md` and the demo's say whose they are.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources

from perdure.integrations.mcp.providers.protocol import Close, Kind, Quote, QuoteError, QuoteRequest

__all__ = ["PackagedCloses", "packaged"]


@dataclass(frozen=True, slots=True)
class PackagedCloses:
    """A `QuoteProvider` over closes in US dollars, by symbol and oldest first."""

    kind: Kind
    closes: Mapping[str, Sequence[Close]]
    source: str
    names: frozenset[str]
    """Markets under which they may be asked for, in capitals."""
    name: str = "packaged closes"
    max_age: timedelta | None = None

    async def quote(self, request: QuoteRequest) -> Quote:
        """See `QuoteProvider.quote`."""
        symbol = request.symbol.upper()
        self._check_market(request, symbol)
        closes = self.closes.get(symbol)
        if closes is None:
            raise QuoteError(f"no packaged closes of {request.symbol!r}; there are {', '.join(sorted(self.closes))}")
        newest, before = closes[-1], closes[-2]
        return Quote(
            symbol=symbol,
            market=None,
            currency="USD",
            price=newest.close,
            as_of=newest.at,
            change_percent=round((newest.close / before.close - 1) * 100, 2),
            closes=list(closes[-request.depth :]),
            source=self.source,
        )

    def _check_market(self, request: QuoteRequest, symbol: str) -> None:
        market = request.market.upper()
        if market and market not in self.names:
            known = f"; of these there are {', '.join(sorted(self.names))}" if self.names else ""
            raise QuoteError(f"the packaged closes are of no market {request.market!r}{known}. Leave it out.")
        if request.pair and request.pair != f"{symbol}/USD":
            raise QuoteError(f"no packaged closes of {request.pair!r}; there are {', '.join(self._pairs())}")

    def _pairs(self) -> list[str]:
        return [f"{symbol}/USD" for symbol in sorted(self.closes)]


def packaged() -> list[PackagedCloses]:
    """The providers that are there without any extra: five companies, and bitcoin."""
    return [
        PackagedCloses(
            "equity",
            _read("perdure.cli.demo", "closes.csv", "month"),
            "monthly closes packaged with perdure (vega-datasets)",
            frozenset({"US", "NASDAQ", "NYSE"}),
        ),
        PackagedCloses(
            "coin",
            _read(f"{__package__}.data", "bitcoin.csv", "day"),
            "daily prices packaged with perdure (@visx/mock-data)",
            frozenset(),
        ),
    ]


@functools.cache
def _read(package: str, name: str, column: str) -> Mapping[str, Sequence[Close]]:
    text = resources.files(package).joinpath(name).read_text(encoding="utf-8")
    closes: dict[str, list[Close]] = {}
    for row in csv.DictReader(text.splitlines()):
        closes.setdefault(row["symbol"], []).append(Close(at=row[column], close=float(row["close"])))
    return closes
