"""Statistics in a terminal: tables, and small charts drawn with block characters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from rich.bar import Bar
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perdure.analytics import Durations, SessionStats
from perdure.cli.output import compact_json, moment, table

__all__ = ["stats_view"]

BARS = 10
"""Most rows of one chart."""

BAR_WIDTH = 24
BLOCKS = " ▁▂▃▄▅▆▇█"
SPARKS = 60
"""Columns of a line of days; of a longer period, several days share one."""


def stats_view(stats: SessionStats, *, width: int) -> Iterator[RenderableType]:
    """What to print, one after the other."""
    since = "" if stats.since is None else f" from {moment(stats.since)}"
    yield Text(f"sessions created{since} to {moment(stats.until)}", style="dim")
    if not stats.total_sessions:
        yield Text("no sessions")
        return
    yield _numbers(stats)
    yield Text()
    yield _lines(stats)
    charts = [
        _bars("queries by type", stats.query_type_distribution),
        _bars("session types", stats.session_type_breakdown),
        _bars("top assets", stats.top_assets),
        _bars("popular tags", stats.popular_tags),
    ]
    yield Columns([chart for chart in charts if chart is not None], padding=(0, 4))
    if stats.execution_time_ms_by_query_type:
        yield Text()
        yield _times(stats)


def _numbers(stats: SessionStats) -> Table:
    rows = [
        (
            "sessions",
            f"{stats.total_sessions:,}",
            f"{stats.active_sessions:,} active, {stats.archived_sessions:,} archived",
        ),
        (
            "queries",
            f"{stats.total_queries:,}",
            f"{stats.avg_queries_per_session:,.2f} a session, {stats.longest_session:,} at most",
        ),
        ("users", f"{stats.users:,}", f"{stats.returning_users:,} of several sessions"),
        ("cache hits", f"{stats.cache_hit_rate:.1%}", "of queries"),
        ("errors", f"{stats.error_rate:.1%}", "of queries"),
        (
            "abandoned",
            f"{stats.abandonment_rate:.1%}",
            f"of sessions: {stats.abandoned_sessions:,} expired with fewer than two queries",
        ),
        ("duration", _seconds(stats.avg_duration_seconds), f"on average; {_percentiles(stats.duration_seconds, 1)}"),
        (
            "execution time",
            _seconds(stats.avg_execution_time_ms / 1000),
            f"on average; {_percentiles(stats.execution_time_ms, 1000)}",
        ),
    ]
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="dim")
    made.add_column(justify="right", style="bold")
    made.add_column(style="dim")
    for row in rows:
        made.add_row(*row)
    return made


def _percentiles(found: Durations, unit: int) -> str:
    named = (("p50", found.p50), ("p95", found.p95), ("p99", found.p99))
    return ", ".join(f"{name} {'–' if value is None else _seconds(value / unit)}" for name, value in named)


def _lines(stats: SessionStats) -> Table:
    """Days and hours, each as a line of small bars, with the most in one of them."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="dim")
    made.add_column(no_wrap=True)
    made.add_column(style="dim")
    days = list(stats.queries_by_day)
    each = -(-len(days) // SPARKS)
    span = "a day" if each == 1 else f"in {each} days"
    for name, counts in (("sessions", stats.sessions_by_day), ("queries", stats.queries_by_day)):
        values = [counts.get(day, 0) for day in days]
        sums = [sum(values[start : start + each]) for start in range(0, len(values), each)]
        made.add_row(f"{name} by day", _spark(sums), f"{max(sums):,} {span} at most")
    asked = stats.queries_by_hour
    made.add_row("queries by hour", _spark(asked), f"0 to 23 h UTC, most at {asked.index(max(asked))} h")
    return made


def _spark(values: Sequence[int]) -> str:
    """A bar of up to eight eighths for each value; anything above nothing shows."""
    most = max(values, default=0) or 1
    return "".join(BLOCKS[-(-8 * value // most)] for value in values)


def _bars(title: str, counts: Mapping[str, int]) -> RenderableType | None:
    """A chart of the counts, most first, below an empty line; None where there are none."""
    if not counts:
        return None
    made = Table.grid(padding=(0, 1, 0, 0))
    made.add_column(max_width=28, overflow="ellipsis", no_wrap=True)
    made.add_column(justify="right")
    made.add_column()
    most = max(counts.values())
    for name, count in list(counts.items())[:BARS]:
        made.add_row(compact_json(name), f"{count:,}", Bar(most, 0, count, width=BAR_WIDTH, color="cyan"))
    left = len(counts) - BARS
    return Group(
        Text(), Text(title, style="bold"), made, *([Text(f"and {left:,} more", style="dim")] if left > 0 else [])
    )


def _times(stats: SessionStats) -> Table:
    made = table("execution time by query type", "timed", "p50", "p95", "p99", right=("timed", "p50", "p95", "p99"))
    for name, took in list(stats.execution_time_ms_by_query_type.items())[:BARS]:
        told = ("–" if value is None else _seconds(value / 1000) for value in (took.p50, took.p95, took.p99))
        made.add_row(compact_json(name), f"{took.count:,}", *told)
    return made


def _seconds(seconds: float) -> str:
    """A length of time in a unit that keeps it short."""
    if seconds < 1:
        return f"{seconds * 1000:,.1f} ms"
    if seconds < 120:
        return f"{seconds:,.1f} s"
    minutes = seconds / 60
    return (
        f"{minutes:,.1f} min"
        if minutes < 120
        else f"{minutes / 60:,.1f} h"
        if minutes < 2880
        else str(timedelta(seconds=round(seconds)))
    )
