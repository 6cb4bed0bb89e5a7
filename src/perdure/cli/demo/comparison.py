"""The comparison of the demo: every question is a tracked query of a session, every answer is kept in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from perdure import Session, SessionStore
from perdure.cli.demo.analysis import (
    Correlation,
    Drawdown,
    Price,
    Series,
    TotalReturn,
    Volatility,
    correlation,
    drawdown,
    price,
    total_return,
    volatility,
)
from perdure.errors import SessionNotFoundError

__all__ = ["PERIODS", "Comparison", "Measured", "kept_answer"]

Measured: TypeAlias = Price | TotalReturn | Volatility | Drawdown | Correlation

_MEASURES: dict[str, tuple[Callable[..., Measured], Callable[..., Measured]]] = {
    "price": (price, Price),
    "total_return": (total_return, TotalReturn),
    "volatility": (volatility, Volatility),
    "drawdown": (drawdown, Drawdown),
    "correlation": (correlation, Correlation),
}

PERIODS: dict[str, tuple[str, str]] = {
    "the years before the crisis": ("2004-08", "2007-10"),
    "the crisis of 2008": ("2007-10", "2009-02"),
    "the rebound of 2009": ("2009-02", "2010-03"),
}
"""Stretches of which the data have all five companies."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An analysis that goes on from whatever its session holds."""

    store: SessionStore
    session_id: UUID
    closes: Mapping[str, Series]

    async def ask(self, query_type: str, *symbols: str, period: str | None = None) -> Measured:
        """One query: answered from the session where it was asked before, else computed, and kept for the next time."""
        measure, kept_form = _MEASURES[query_type]
        start, end = (None, None) if period is None else PERIODS[period]
        parameters = {"symbols": list(symbols)} | ({} if period is None else {"start": start, "end": end})
        async with self.store.tracking(self.session_id, query_type, parameters, strict=True) as query:
            kept = kept_answer(await self.session(), query_type, *symbols, period=period)
            query.cache_hit = kept is not None
            result = kept_form(**kept) if kept is not None else measure(self.closes, *symbols, start=start, end=end)
            query.result_summary = result.summary
        if kept is None:
            await self.store.store_intermediate_result(self.session_id, _key(query_type, symbols, period), result)
        return result

    async def session(self) -> Session:
        """The session as it is kept now, without its queries.

        Raises:
            SessionNotFoundError: somebody deleted it meanwhile.
        """
        session = await self.store.get_session(self.session_id, history=0)
        if session is None:
            raise SessionNotFoundError(self.session_id)
        return session

    async def begin(self) -> None:
        """Compare all companies; the most volatile one becomes the focus, and is looked into."""
        swings: dict[str, float] = {}
        for symbol in self.closes:
            await self.ask("price", symbol)
            await self.ask("total_return", symbol)
            measured = await self.ask("volatility", symbol)
            assert isinstance(measured, Volatility)
            swings[symbol] = measured.annualised
        ranking = sorted(swings, key=lambda symbol: -swings[symbol])
        await self.store.update_context(self.session_id, ranking=ranking, focus=ranking[0], period=None, visits=1)
        await self._look_into_focus()
        await self.ask("volatility", ranking[0])  # asked before: the session has the answer

    async def go_on(self) -> None:
        """Look at the focus in the next period; when it has been seen in all of them, the next company is the focus."""
        context = (await self.session()).state.context
        visits, ranking = int(context["visits"]), list(context["ranking"])
        period = list(PERIODS)[(visits - 1) % len(PERIODS)]
        focus = ranking[(visits - 1) // len(PERIODS) % len(ranking)]
        await self.store.update_context(self.session_id, focus=focus, period=period, visits=visits + 1)
        await self._look_into_focus()
        counterpart = (await self.session()).state.context["counterpart"]
        for query_type in ("total_return", "volatility", "drawdown"):
            await self.ask(query_type, focus, period=period)
        await self.ask("correlation", focus, counterpart, period=period)

    async def _look_into_focus(self) -> None:
        """What the context says is the focus decides what is asked next; whoever moves least with it is noted there."""
        focus = (await self.session()).state.context["focus"]
        await self.ask("drawdown", focus)
        together: dict[str, float] = {}
        for other in self.closes:
            if other != focus:
                measured = await self.ask("correlation", focus, other)
                assert isinstance(measured, Correlation)
                together[other] = measured.coefficient
        await self.store.update_context(self.session_id, counterpart=min(together, key=lambda other: together[other]))


def kept_answer(session: Session, query_type: str, *symbols: str, period: str | None = None) -> dict[str, Any] | None:
    """What the session keeps as the answer to a query; None where it has none."""
    answer: dict[str, Any] | None = session.state.get_intermediate_result(_key(query_type, symbols, period))
    return answer


def _key(query_type: str, symbols: Sequence[str], period: str | None) -> str:
    """Under which an answer is kept."""
    return " ".join([query_type, *symbols, *([] if period is None else ["..".join(PERIODS[period])])])
