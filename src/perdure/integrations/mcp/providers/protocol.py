"""What a source of quotes must do, and what it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Protocol, TypeAlias

from pydantic import BaseModel

from perdure.errors import PerdureError

__all__ = ["Close", "Kind", "Quote", "QuoteError", "QuoteProvider", "QuoteRequest"]

Kind: TypeAlias = Literal["equity", "coin"]


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """Which quote is wanted. `market` is a market of shares or an exchange of coins, `pair` such as "BTC/USD".

    Both may be empty: whichever the provider has. `depth` is how many of the newest closes are wanted, from 1.
    """

    kind: Kind
    symbol: str
    market: str = ""
    pair: str = ""
    depth: int = 1


class Close(BaseModel):
    """One closing price; `at` is a month, a day or an instant, as exact as the source is."""

    at: str
    close: float


class Quote(BaseModel):
    """What a source knows of a price, and how old that is."""

    symbol: str
    market: str | None
    currency: str
    price: float
    as_of: str
    """When that was the price: a month, a day or an instant, in ISO form."""
    change_percent: float | None
    """Against the close before; None where there is none."""
    closes: list[Close]
    """As many as asked for and known, oldest first."""
    source: str


class QuoteError(PerdureError):
    """No quote: an unknown symbol, market or pair (the message lists what there is), or a source that failed."""


class QuoteProvider(Protocol):
    """A source of quotes."""

    @property
    def name(self) -> str:
        """What answers and errors call it."""

    @property
    def kind(self) -> Kind:
        """What it has quotes of."""

    @property
    def max_age(self) -> timedelta | None:
        """How long an answer may be given again from a session; None: for ever, since it never changes."""

    async def quote(self, request: QuoteRequest) -> Quote:
        """The newest quote.

        Raises:
            QuoteError: there is none.
        """
