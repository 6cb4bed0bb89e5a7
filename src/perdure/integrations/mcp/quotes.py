"""The two tools that look prices up, each with the session's own cache: `search-by-symbol` and `search-by-coin`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.tools import Tool, ToolResult
from mcp.types import ToolAnnotations
from pydantic import Field, ValidationError

from perdure.errors import ConfigurationError, PerdureError
from perdure.integrations.mcp.answers import told
from perdure.integrations.mcp.installing import InstalledSessions
from perdure.integrations.mcp.providers.closes import packaged
from perdure.integrations.mcp.providers.protocol import Kind, Quote, QuoteError, QuoteProvider, QuoteRequest
from perdure.integrations.mcp.recording import TrackedCall, current_call, mark_cache_hit
from perdure.integrations.mcp.schemas import answer_schema
from perdure.logs import EventLog

__all__ = ["QuoteAnswer", "install_quotes"]

log = EventLog("perdure.mcp")

DEEPEST = 250
LOOKS_UP = ToolAnnotations.model_validate(
    {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": True}
)

Depth = Annotated[int, Field(ge=1, le=DEEPEST, description="How many of the newest closes to give.")]


class QuoteAnswer(Quote):
    """A quote, and how old it is now."""

    age_days: int
    """Whole days since `as_of`."""
    cache_hit: bool
    """Whether the session had it already."""


def install_quotes(
    mcp: FastMCP,
    sessions: InstalledSessions,
    *,
    providers: Iterable[QuoteProvider] | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Add the two tools to a server that has sessions.

    Without `providers` the packaged closes answer. Of several for one kind the first is asked, and no other: an old
    price must not take the place of one that could not be had. Plugins of `install` may add providers and reorder them.

    Raises:
        ConfigurationError: no provider for shares, or none for coins.
        PluginError: a plugin that fails to say what it has.
    """
    known = sessions.hooks.quote_providers(packaged() if providers is None else providers)
    shares, coins = (QuoteDesk(_first(known, kind), clock) for kind in ("equity", "coin"))

    async def search_by_symbol(
        symbol: Annotated[str, Field(description="The ticker of a share, such as AAPL.")],
        market: Annotated[str, Field(description="Where it is listed, such as US. Optional.")] = "",
        depth: Depth = 1,
    ) -> ToolResult:
        """Look up the price of a share: the newest close, the change, and earlier closes if asked for.

        Says as of when the price is: it may be old.
        """
        return await shares.answer(QuoteRequest("equity", symbol.strip(), market=market.strip(), depth=depth))

    async def search_by_coin(
        symbol: Annotated[str, Field(description="The coin, such as BTC.")],
        exchange: Annotated[str, Field(description="The exchange to ask, such as kraken. Optional.")] = "",
        pair: Annotated[str, Field(description="What it is priced in, such as BTC/USD or USD. Optional.")] = "",
    ) -> ToolResult:
        """Look up the price of a coin: the newest price and the change. Says as of when the price is: it may be old."""
        coin = symbol.strip()
        return await coins.answer(QuoteRequest("coin", coin, market=exchange.strip(), pair=_pair(coin, pair)))

    names, schema = sessions.names, answer_schema(QuoteAnswer)
    for name, verb in ((names.by_symbol, search_by_symbol), (names.by_coin, search_by_coin)):
        mcp.add_tool(Tool.from_function(verb, name=name, annotations=LOOKS_UP, output_schema=schema))


@dataclass(frozen=True, slots=True)
class QuoteDesk:
    """Answers from the session that the call belongs to, else from a provider."""

    provider: QuoteProvider
    clock: Callable[[], datetime]

    async def answer(self, request: QuoteRequest) -> ToolResult:
        """The quote.

        Raises:
            ToolError: there is none; the message says what there is.
        """
        call, key = current_call(), self._key(request)
        quote = None if call is None else await self._kept(call, key)
        cached = quote is not None
        if quote is None:
            try:
                quote = await self.provider.quote(request)
            except QuoteError as error:
                raise ToolError(str(error)) from error
            if call is not None:
                await self._keep(call, key, quote)
        else:
            mark_cache_hit()
        age = max(0, (self.clock().astimezone(UTC).date() - _last_day(quote.as_of)).days)
        answer = QuoteAnswer(**quote.model_dump(), age_days=age, cache_hit=cached)
        price = f"{answer.price:,.2f} {answer.currency} as of {answer.as_of}, {age} days old"
        title = f"{answer.symbol}: {price} ({answer.source})."
        if call is not None:
            call.query.result_summary = title
        return told(answer, title=title)

    def _key(self, request: QuoteRequest) -> str:
        wanted = [request.symbol.upper(), request.market.lower(), request.pair, str(request.depth)]
        return " ".join(["quote", request.kind, self.provider.name, *filter(None, wanted)])

    async def _kept(self, call: TrackedCall, key: str) -> Quote | None:
        """What the session answered before, if that is not too old, and if it can be had and read."""
        try:
            session = await call.bound.sessions.get_session(call.bound.session_id, history=0)
            kept: Any = None if session is None else session.state.get_intermediate_result(key)
            if kept is None or not self._is_fresh(datetime.fromisoformat(kept["looked_up_at"])):
                return None
            return Quote.model_validate(kept["quote"])
        except (PerdureError, ValidationError, KeyError, TypeError, ValueError) as error:
            log.warning("mcp.answer_not_reused", error=type(error).__name__)
            return None

    def _is_fresh(self, looked_up_at: datetime) -> bool:
        most: timedelta | None = self.provider.max_age
        return most is None or self.clock() - looked_up_at <= most

    async def _keep(self, call: TrackedCall, key: str, quote: Quote) -> None:
        value = {"quote": quote.model_dump(mode="json"), "looked_up_at": self.clock().isoformat()}
        try:
            await call.bound.sessions.store_intermediate_result(call.bound.session_id, key, value)
        except PerdureError as error:  # the answer is there all the same
            log.warning("mcp.answer_not_kept", error=type(error).__name__)


def _first(providers: Iterable[QuoteProvider], kind: Kind | str) -> QuoteProvider:
    for provider in providers:
        if provider.kind == kind:
            return provider
    raise ConfigurationError(f"no provider of quotes for {kind!r}")


def _pair(coin: str, pair: str) -> str:
    """A pair in the way that is usual: "USD", "btc-usd" and "BTC/USD" are the same for BTC."""
    known = pair.strip().upper().replace("-", "/")
    return f"{coin.upper()}/{known}" if known and "/" not in known else known


def _last_day(at: str) -> date:
    """The day of an instant, a day, or the last one of a month."""
    if len(at) > len("2010-03"):
        return datetime.fromisoformat(at).date()
    year, month = int(at[:4]), int(at[5:])
    return date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
