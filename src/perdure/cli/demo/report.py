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
from perdure.cli.demo.analysis import Drawdown, Series, bar, sparkline
from perdure.cli.demo.comparison import PERIODS, kept_answer
from perdure.cli.errors import one_line
from perdure.cli.output import console, duration, relative, shown_url, table

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
    """Tells the story while it happens; silent where JSON is wanted. A temporary store does not outlive it."""

    def __init__(self, run: Run, closes: Mapping[str, Series], *, temporary: bool = False) -> None:
        self._run = run
        self._closes = closes
        self._temporary = temporary
        self._out = console()
        self._out.width = min(self._out.width, WIDTH)
        self._out.quiet = run.json

    def opening(self, session: Session, found: Found | None) -> None:
        """Which session this is."""
        months = [month for series in self._closes.values() for month in series.months]
        self._heading("perdure demo", f"five companies, monthly closes {min(months)} to {max(months)}")
        self._say(f"The store is {self._run.place}")
        archive = self._run.settings().archive
        if archive is not None:
            self._say(f"Expired sessions go to {shown_url(archive)}")
        if found is None:
            self._say(f"A new session of the user {session.user_id!r}, for {duration(session.time_remaining)}:")
            self._say(f"  {session.id}")
            return
        age = relative(session.created_at, now=datetime.now(UTC))
        self._say(f"Found your session, begun {age}, with {session.state.history.total_queries} queries:")
        self._say(f"  {session.id}")
        if found.restored:
            self._say("It had expired; extend_session brought it back, with all that is in it.")
        previous = session.last_query
        if previous is not None:
            self._say(f"Your previous query was {previous.query_type}:")
            self._say(f"  {one_line(previous.result_summary or previous.error or '–')}")

    def comparison(self, session: Session) -> None:
        """All companies, and how much each swings."""
        numbers = ("close", "return", "a year", "volatility")
        made = table("company", *numbers, "over the years", right=numbers)
        for symbol, series in self._closes.items():
            price, gain, swing = _answers(session, symbol)
            made.add_row(
                symbol,
                f"${price['close']:,.2f}",
                f"{gain['total']:+,.0%}",
                f"{gain['annualised']:+.1%}",
                f"{swing['annualised']:.0%}",
                Text(sparkline(series.closes, SPARKLINE_WIDTH), style="cyan"),
            )
        self._heading("The comparison", "each number is a query, its answer kept in the session")
        self._out.print(made)

    def focus(self, session: Session) -> None:
        """What the context made the next queries be about."""
        context = session.state.context
        focus = str(context["focus"])
        self._heading(f"The focus is {focus}", f"{_rank(context)}: the context steers the next queries")
        fall = kept_answer(session, "drawdown", focus)
        if fall is not None:
            self._say(Drawdown(**fall).summary)
        self._say(f"The others move with {focus} by a correlation of")
        chart = Table.grid(padding=(0, 2))
        for other in self._closes:
            answer = kept_answer(session, "correlation", focus, other)
            if answer is not None:
                length = bar(answer["coefficient"], 1, BAR_WIDTH)
                mark = "the least" if other == context["counterpart"] else ""
                chart.add_row(f"  {other}", f"{answer['coefficient']:+.2f}", Text(length, style="magenta"), mark)
        self._out.print(chart)

    def asked(self, session: Session, asked: Sequence[QueryRecord]) -> None:
        """The newest of the queries that this run added."""
        hits = sum(query.cache_hit for query in asked)
        period = session.state.context["period"]
        if period is not None:
            start, end = PERIODS[period]
            self._heading(f"Next: {period}", f"{start} to {end}")
        else:
            self._heading("The queries", "kept in order, with what they asked and found")
        self._out.print(_newest(asked))
        total = session.state.history.total_queries
        self._say(f"{len(asked)} queries by this run, {hits} of them found in the session; {total} in all")

    def expired(self, expired: Expired) -> None:
        """What became of the short-lived session."""
        session = expired.session
        last = session.last_query
        self._heading("A second session lived for one second", "the sweep archived it")
        self._say("It takes no more writes until extend_session restores it, but can be read:")
        self._say(f"  {'–' if last is None else last.result_summary}")

    def closing(self, session: Session) -> None:
        """What to try next."""
        if self._temporary:
            self._heading("What next?", "these servers end here, with all that they hold")
            next_steps = {
                "perdure dev-servers": "keeps two running, and says where they are",
                "perdure demo": "run twice there, goes on with its session",
            }
        else:
            self._heading("What next?", "everything is kept")
            next_steps = {
                "perdure demo": "finds this session, and goes on with it",
                f"perdure sessions list --user {session.user_id}": "the sessions there are",
                f"perdure sessions show {session.id}": "",
                "perdure doctor": "how the store is",
            }
        for line, meaning in next_steps.items():
            self._out.print(Text.assemble("  ", (f"{line:<36}", "bold"), (meaning, "dim")), soft_wrap=True)
        self._out.print()

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


def _newest(asked: Sequence[QueryRecord]) -> Table:
    made = table("#", "what was asked and found", "ms", right=("#", "ms"))
    if len(asked) > QUERIES_SHOWN:
        made.add_row("…", Text(f"{len(asked) - QUERIES_SHOWN} more", style="dim"))
    for query in asked[-QUERIES_SHOWN:]:
        took = Text("cached", style="cyan") if query.cache_hit else f"{query.execution_time_ms or 0:,.1f}"
        made.add_row(str(query.position), query.result_summary, took)
    return made


def _rank(context: Mapping[str, Any]) -> str:
    words = ("most volatile", "second most volatile", "third most volatile", "fourth most volatile", "least volatile")
    return words[list(context["ranking"]).index(context["focus"])]
