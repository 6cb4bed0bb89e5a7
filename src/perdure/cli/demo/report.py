"""What `perdure demo` shows: everything in it is read back from the session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from perdure import QueryRecord, Session
from perdure.cli.command import Run
from perdure.cli.demo.analysis import Series, bar, sparkline
from perdure.cli.demo.comparison import PERIODS, kept_answer
from perdure.cli.errors import one_line
from perdure.cli.output import console, duration, relative, table
from perdure.cli.views import history_table

__all__ = ["Expired", "Found", "Report", "as_dict"]

WIDTH = 80
BAR_WIDTH = 40
SPARKLINE_WIDTH = 24
QUERIES_SHOWN = 6

_QUESTIONS = ("price", "total_return", "volatility")


@dataclass(frozen=True, slots=True)
class Found:
    """The session that an earlier run left, with its newest query, and whether it had to be brought back."""

    session: Session
    restored: bool


@dataclass(frozen=True, slots=True)
class Expired:
    """The short-lived session, as it is read afterwards, and what it says to a writer."""

    session: Session
    refusal: str | None


class Report:
    """Tells the story while it happens; silent where JSON is wanted."""

    def __init__(self, run: Run, closes: Mapping[str, Series]) -> None:
        self._run = run
        self._closes = closes
        self._out = console()
        self._out.width = min(self._out.width, WIDTH)
        self._out.quiet = run.json

    def opening(self, session: Session, found: Found | None) -> None:
        """Which session this is."""
        now = datetime.now(UTC)
        months = [month for series in self._closes.values() for month in series.months]
        self._heading("perdure demo", f"five companies, monthly closes {min(months)} to {max(months)}")
        self._say(f"The store is {self._run.place}")
        if found is None:
            self._say(f"A new session of user {session.user_id!r}, for {duration(session.time_remaining)}: {session.id}")
            return
        age = relative(session.created_at, now=now)
        self._say(f"Found your session of {age}, with {session.state.history.total_queries} queries: {session.id}")
        if found.restored:
            self._say("It had expired; extend_session brought it back, with all that is in it.")
        previous = session.last_query
        if previous is not None:
            self._say(f"Your previous query was {previous.query_type}: {one_line(previous.result_summary or '–')}")

    def comparison(self, session: Session) -> None:
        """All companies, and how much each swings."""
        made = table("company", "close", "return", "a year", "volatility", "", right=("close", "return", "a year", "volatility"))
        answers = {symbol: _answers(session, symbol) for symbol in self._closes}
        for symbol, (price, gain, swing) in answers.items():
            made.add_row(
                symbol,
                f"${price['close']:,.2f}",
                f"{gain['total']:+,.0%}",
                f"{gain['annualised']:+.1%}",
                f"{swing['annualised']:.0%}",
                Text(sparkline(self._closes[symbol].closes, SPARKLINE_WIDTH), style="cyan"),
            )
        self._heading("The comparison", "each number is a query, its answer kept in the session")
        self._out.print(made)

    def focus(self, session: Session) -> None:
        """What the context made the next queries be about."""
        context = session.state.context
        focus, period = str(context["focus"]), context["period"]
        self._heading(f"The focus: {focus}", _reason(context))
        fall = kept_answer(session, "drawdown", focus)
        if fall is not None:
            self._say(_fall(fall))
        self._say(f"How far the others move together with {focus} (1 is always):")
        chart = Table.grid(padding=(0, 2))
        for other in self._closes:
            answer = kept_answer(session, "correlation", focus, other)
            if answer is not None:
                length = bar(answer["coefficient"], 1, BAR_WIDTH)
                mark = "  ← the least: its counterpart" if other == context["counterpart"] else ""
                chart.add_row(f"  {other}", f"{answer['coefficient']:+.2f}", Text(length, style="magenta"), mark)
        self._out.print(chart)
        if period is not None:
            self._period(session, focus, str(period), str(context["counterpart"]))

    def _period(self, session: Session, focus: str, period: str, counterpart: str) -> None:
        start, end = PERIODS[period]
        self._out.print()
        gain = kept_answer(session, "total_return", focus, period=period)
        fall = kept_answer(session, "drawdown", focus, period=period)
        together = kept_answer(session, "correlation", focus, counterpart, period=period)
        self._say(f"In {period} ({start} to {end}):")
        if gain is None or fall is None:
            self._say(f"  the data have no {focus} then; the queries are recorded with that as their error")
            return
        self._say(f"  {focus} returned {gain['total']:+.0%}; its deepest fall was {fall['depth']:.0%}")
        if together is not None:
            self._say(f"  its correlation with {counterpart} was {together['coefficient']:+.2f}")

    def asked(self, session: Session, asked: Sequence[QueryRecord]) -> None:
        """The newest of the queries that this run added."""
        hits = sum(query.cache_hit for query in asked)
        history = session.state.history
        found = f"{hits} of them answered from the session" if hits else "none of them asked before"
        self._heading(f"The history: {history.total_queries} queries", f"{len(asked)} by this run, {found}")
        self._out.print(history_table(asked[-QUERIES_SHOWN:]))

    def expired(self, expired: Expired) -> None:
        """What became of the short-lived session."""
        session = expired.session
        self._heading("A second session lived for one second", "it expired, and the sweep archived it")
        last = session.last_query
        self._say(f"Still readable: {'–' if last is None else last.result_summary}")
        if expired.refusal is not None:
            self._say(f"Not writable: {_without_id(expired.refusal, session)}")

    def closing(self, session: Session) -> None:
        """What to try next."""
        self._heading("What next?", "all of it is on your disk")
        next_steps = {
            "perdure demo": "again: it finds this session and goes on",
            "perdure sessions list --user demo": "what is kept",
            f"perdure sessions show {session.id}": "everything of it",
            "perdure doctor": "how the store is",
        }
        steps = Table.grid(padding=(0, 2))
        for line, meaning in next_steps.items():
            steps.add_row(Text(f"  {line}", style="bold"), Text(meaning, style="dim"))
        self._out.print(steps)

    def _heading(self, title: str, subtitle: str) -> None:
        self._out.print()
        self._out.print(Text.assemble((title, "bold"), ("  ·  ", "dim"), (subtitle, "dim")))

    def _say(self, text: str) -> None:
        self._out.print(text)


def as_dict(
    run: Run, session: Session, found: Found | None, asked: Sequence[QueryRecord], expired: Expired
) -> dict[str, Any]:
    """The results, as JSON."""
    history, context = session.state.history, session.state.context
    previous = None if found is None else found.session.last_query
    return {
        "store": run.place,
        "session": {
            "id": str(session.id),
            "continued": found is not None,
            "restored": found is not None and found.restored,
            "expires_at": session.expires_at.isoformat(),
            "total_queries": history.total_queries,
            "cache_hits": history.cache_hits,
        },
        "previous_query": None if previous is None else previous.model_dump(mode="json"),
        "context": dict(context),
        "comparison": {
            symbol: dict(zip(_QUESTIONS, _answers(session, symbol), strict=True)) for symbol in session.assets
        },
        "queries": [query.model_dump(mode="json") for query in asked],
        "expired": {
            "id": str(expired.session.id),
            "is_archived": expired.session.is_archived,
            "queries": [query.model_dump(mode="json") for query in expired.session.state.history.queries],
            "refusal": expired.refusal,
        },
    }


def _answers(session: Session, symbol: str) -> list[dict[str, Any]]:
    return [kept_answer(session, question, symbol) or {} for question in _QUESTIONS]


def _reason(context: Mapping[str, Any]) -> str:
    rank = list(context["ranking"]).index(context["focus"])
    place = ("the most volatile", "the second most volatile", "the third", "the fourth", "the least volatile")[rank]
    return f"{place} of the five; the context says so, and steers what is asked"


def _fall(fall: Mapping[str, Any]) -> str:
    after = "has not recovered" if fall["recovered"] is None else f"recovered in {fall['recovered']}"
    return f"{fall['symbol']} fell {fall['depth']:.0%} from {fall['peak']} to {fall['trough']}, and {after}."


def _without_id(text: str, session: Session) -> str:
    return text.replace(f"session {session.id}", "it")
