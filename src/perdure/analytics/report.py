"""Statistics as one page of HTML that needs nothing else: no network, no files beside it."""

from __future__ import annotations

from datetime import datetime
from html import escape
from importlib.resources import files
from string import Template

from perdure.analytics.statistics import Durations, SessionStats
from perdure.errors import MissingExtraError

__all__ = ["html_report"]


def html_report(stats: SessionStats, *, title: str = "Sessions") -> str:
    """The page; about 5 MB, most of which is the library that draws the charts.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    try:
        from perdure.analytics.charts import charts_of, library
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("plotly", "narwhals"):
            raise
        raise MissingExtraError("a report with charts", extra="report") from error
    charts = charts_of(stats) if stats.total_sessions else {}
    figures = [f"<figure><figcaption>{escape(name)}</figcaption>{chart}</figure>" for name, chart in charts.items()]
    page = Template(files("perdure.analytics").joinpath("report.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=escape(title),
        about=escape(_about(stats)),
        library=library() if charts else "",
        tiles="\n".join(f"<div><b>{value}</b><span>{escape(name)}</span></div>" for name, value in _tiles(stats)),
        charts="\n".join(figures) or "<p>There are no sessions in this period.</p>",
        table=_table(stats) if stats.query_type_distribution else "",
    )


def _about(stats: SessionStats) -> str:
    """Which sessions the page is about."""
    whose = "" if stats.user_id is None else f" of {stats.user_id}"
    kind = "" if stats.session_type is None else f" of type {stats.session_type}"
    since = "" if stats.since is None else f" from {_moment(stats.since)}"
    return f"Sessions{whose}{kind} created{since} to {_moment(stats.until)}"


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")


def _tiles(stats: SessionStats) -> list[tuple[str, str]]:
    """The numbers that come first: what each is called, and how it reads."""
    return [
        (
            f"sessions: {stats.active_sessions:,} active, {stats.archived_sessions:,} archived",
            f"{stats.total_sessions:,}",
        ),
        (
            f"queries, {stats.avg_queries_per_session:,.2f} a session, {stats.longest_session:,} at most",
            f"{stats.total_queries:,}",
        ),
        (f"users, {stats.returning_users:,} of them with several sessions", f"{stats.users:,}"),
        ("of queries were answered by a cache", f"{stats.cache_hit_rate:.1%}"),
        ("of queries failed", f"{stats.error_rate:.1%}"),
        ("of sessions expired with fewer than two queries", f"{stats.abandonment_rate:.1%}"),
        (
            f"median duration of a session; 99\u00a0% last at most {_seconds(stats.duration_seconds.p99)}",
            _seconds(stats.duration_seconds.p50),
        ),
        (
            f"median execution time of a query; 99\u00a0% take at most {_milliseconds(stats.execution_time_ms.p99)}",
            _milliseconds(stats.execution_time_ms.p50),
        ),
    ]


def _table(stats: SessionStats) -> str:
    """Every query type: how many, and how long they take."""
    rows = []
    for name, count in stats.query_type_distribution.items():
        took = stats.execution_time_ms_by_query_type.get(name, Durations())
        cells = [
            f"{count:,}",
            f"{count / stats.total_queries:.1%}",
            *map(_milliseconds, (took.p50, took.p95, took.p99)),
        ]
        rows.append(f"<tr><th>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th>{name}</th>" for name in ("query type", "queries", "share", "p50", "p95", "p99"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<section><div class="table"><h2>Query types</h2>{table}</div></section>'


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return _seconds(value / 1000) if value >= 1_000 else f"{value:,.0f} ms" if value >= 10 else f"{value:,.2f} ms"


def _seconds(value: float | None) -> str:
    """A length of time in a unit that keeps it short."""
    if value is None:
        return "–"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if value >= 2 * size:
            return f"{value / size:,.1f} {unit}"
    return f"{value:,.1f} s"
