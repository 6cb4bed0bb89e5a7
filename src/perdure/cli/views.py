"""Sessions and queries as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from perdure import QueryRecord, Session, SessionSummary
from perdure.cli.errors import one_line
from perdure.cli.output import compact_json, duration, moment, relative, table

__all__ = ["history_table", "session_view", "sessions_table"]

_STATE_STYLES = {"active": "green", "expired": "yellow", "archived": "dim"}


NARROW = 110
"""Columns below which a listing takes two lines for each session, so that no id is cut."""


def sessions_table(summaries: Iterable[SessionSummary], *, now: datetime, width: int) -> Table:
    """One line for each session, or two."""
    if width < NARROW:
        return _narrow_table(summaries, now=now)
    made = table("id", "user", "type", "assets", "queries", "state", right=("queries",), kept=("id",))
    for summary in summaries:
        made.add_row(
            str(summary.id),
            one_line(summary.user_id or "–"),
            one_line(summary.type),
            _few(summary.assets),
            f"{summary.total_queries:,}",
            _state(summary.archived_at, summary.expires_at, now=now),
        )
    return made


def _narrow_table(summaries: Iterable[SessionSummary], *, now: datetime) -> Table:
    made = table("id, assets", "type, queries", "state, user", kept=("id, assets",))
    for summary in summaries:
        state = _state(summary.archived_at, summary.expires_at, now=now)
        made.add_row(
            f"{summary.id}\n  {_few(summary.assets, shown=4)}",
            f"{one_line(summary.type)}\n{summary.total_queries:,}",
            state.append(f"\n{one_line(summary.user_id or '–')}"),
        )
    return made


def session_view(session: Session, *, now: datetime) -> Iterator[RenderableType]:
    """Everything of a session, as far as it is loaded."""
    yield _facts(session, now=now)
    state = session.state
    sections = {
        "context": state.context,
        "preferences": state.preferences,
        "intermediate results": state.intermediate_results,
        "metadata": state.metadata,
    }
    for name, section in sections.items():
        if section:
            entries = table("key", "value", title=name)
            for key, value in section.items():
                entries.add_row(one_line(key), compact_json(value))
            yield ""
            yield entries
    if state.history.queries:
        shown, total = len(state.history.queries), state.history.total_queries
        title = "queries" if shown == total else f"queries, the last {shown} of {total}"
        yield ""
        yield history_table(state.history.queries, title=title)


def history_table(queries: Iterable[QueryRecord], *, title: str | None = None) -> Table:
    """One line for each query."""
    made = table("#", "query", "parameters", "result", "ms", title=title, right=("#", "ms"))
    for query in queries:
        result = Text(one_line(query.result_summary or ""))
        if query.error is not None:
            result = Text(one_line(query.error), style="red")
        took = "–" if query.execution_time_ms is None else f"{query.execution_time_ms:,.1f}"
        made.add_row(
            str(query.position or "new"),
            one_line(query.query_type),
            ", ".join(f"{one_line(name)}={compact_json(value)}" for name, value in query.parameters.items()),
            result,
            Text("cached", style="cyan") if query.cache_hit else took,
        )
    return made


def _facts(session: Session, *, now: datetime) -> Table:
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    history = session.state.history
    made.add_row("session", str(session.id))
    made.add_row("user", one_line(session.user_id or "–"))
    made.add_row("type", one_line(session.type))
    made.add_row("assets", one_line(", ".join(session.assets)))
    made.add_row("tags", one_line(", ".join(session.tags)) or "–")
    made.add_row("state", _state(session.archived_at, session.expires_at, now=now))
    for name, at in (
        ("created", session.created_at),
        ("last used", session.last_accessed_at),
        ("expires", session.expires_at),
        ("archived", session.archived_at),
    ):
        if at is not None:
            made.add_row(name, f"{moment(at)} ({relative(at, now=now)})")
    made.add_row("version", str(session.version))
    hits = f", {history.cache_hits:,} of them cache hits" if history.cache_hits else ""
    made.add_row("queries", f"{history.total_queries:,}{hits}")
    return made


def _state(archived_at: datetime | None, expires_at: datetime, *, now: datetime) -> Text:
    if archived_at is not None:
        word, when = "archived", relative(archived_at, now=now)
    elif expires_at <= now:
        word, when = "expired", relative(expires_at, now=now)
    else:
        word, when = "active", f"for {duration(expires_at - now)}"
    return Text.assemble((word, _STATE_STYLES[word]), " ", (when, "dim"))


def _few(names: Sequence[str], *, shown: int = 3) -> str:
    more = f" +{len(names) - shown}" if len(names) > shown else ""
    return one_line(", ".join(names[:shown])) + more
