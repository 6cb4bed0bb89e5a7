"""The charts of the report, made by plotly, whose JavaScript goes into the page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from html import escape
from typing import Any, NamedTuple

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from perdure.analytics.statistics import SessionStats

__all__ = ["charts_of", "library"]

INK, FAINT, LINE = "#1f2937", "#6b7280", "#e5e7eb"
SESSIONS, QUERIES = "#2563eb", "#0d9488"
PERCENTILES = {"p50": "#93c5fd", "p95": "#3b82f6", "p99": "#1e3a8a"}
HEAT = [[0.0, "#f3f4f6"], [0.001, "#ccfbf1"], [0.5, "#14b8a6"], [1.0, "#134e4a"]]
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]

LEAST_MS = 0.01
"""What takes no time is drawn there, as a logarithmic axis has no zero."""

TICKS = 6

BARS = 12
"""Most names in one chart; the tables below have all."""

_CONFIG = {"displaylogo": False, "displayModeBar": False, "responsive": True}


def library() -> str:
    """The JavaScript that draws the charts."""
    text: str = get_plotlyjs()
    return text


def charts_of(stats: SessionStats) -> dict[str, str]:
    """The charts as pieces of HTML, by title, those left out of which there would be nothing to see."""
    span = _span_of(len(stats.sessions_by_day))
    figures: dict[str, Any] = {span.title: _days(stats, span), "When queries are asked": _week(stats)}
    if stats.execution_time_ms_by_query_type:
        figures["How long queries take"] = _times(stats)
    for title, counts, color, unit in (
        ("Queries by type", stats.query_type_distribution, QUERIES, "queries"),
        ("Session types", stats.session_type_breakdown, SESSIONS, "sessions"),
        ("Top assets", stats.top_assets, SESSIONS, "sessions"),
        ("Popular tags", stats.popular_tags, SESSIONS, "sessions"),
    ):
        if counts:
            figures[title] = _bars(counts, color, unit)
    return {
        title: figure.to_html(full_html=False, include_plotlyjs=False, config=_CONFIG, div_id=f"chart-{number}")
        for number, (title, figure) in enumerate(figures.items(), 1)
    }


class _Span(NamedTuple):
    """What one bar stands for."""

    title: str
    first_day: Callable[[date], date]
    """Of the one that a day is in."""
    hover: str


_DAY = _Span("Day by day", lambda day: day, "%{x|%a %d %b %Y}")
_WEEK = _Span("Week by week", lambda day: day - timedelta(days=day.weekday()), "week of %{x|%d %b %Y}")
_MONTH = _Span("Month by month", lambda day: day.replace(day=1), "%{x|%b %Y}")


def _span_of(days: int) -> _Span:
    """One of which there are not so many that their bars become hair."""
    return _DAY if days <= 100 else _WEEK if days <= 700 else _MONTH


def _days(stats: SessionStats, span: _Span) -> Any:
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.12)
    for row, name, color, counts in (
        (1, "sessions", SESSIONS, stats.sessions_by_day),
        (2, "queries", QUERIES, stats.queries_by_day),
    ):
        sums: Counter[str] = Counter()
        for day, count in counts.items():
            sums[str(span.first_day(day))] += count
        hover = span.hover + "<br>%{y:,} " + name + "<extra></extra>"
        figure.add_bar(x=list(sums), y=list(sums.values()), marker_color=color, hovertemplate=hover, row=row, col=1)
        figure.update_yaxes(title_text=name, row=row, col=1)
    return _laid_out(figure, height=380)


def _week(stats: SessionStats) -> Any:
    heat = go.Heatmap(
        z=stats.queries_by_weekday_and_hour,
        x=[f"{hour:02}" for hour in range(24)],
        y=WEEKDAYS,
        colorscale=HEAT,
        xgap=2,
        ygap=2,
        colorbar={"thickness": 8, "outlinewidth": 0, "tickfont": {"color": FAINT}},
        hovertemplate="%{y}, %{x}:00 UTC<br>%{z:,} queries<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    figure.update_xaxes(title_text="hour of the day, UTC", showgrid=False, type="category", dtick=3)
    return _laid_out(figure, height=380)


def _bars(counts: Mapping[str, int], color: str, unit: str) -> Any:
    shown = dict(list(counts.items())[:BARS])
    labels = _labels(list(shown))
    figure = go.Figure(
        go.Bar(
            x=list(shown.values()),
            y=list(range(len(shown))),
            customdata=labels,
            orientation="h",
            marker_color=color,
            text=[f"{count:,}" for count in shown.values()],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{customdata}<br>%{x:,} " + unit + "<extra></extra>",
        )
    )
    _name_rows(figure, labels)
    figure.update_xaxes(visible=False, range=[0, max(shown.values()) * 1.15])
    return _laid_out(figure, height=90 + 26 * len(shown))


def _times(stats: SessionStats) -> Any:
    """A dot for each percentile of each type, on one line for each type."""
    names = list(stats.execution_time_ms_by_query_type)[:BARS]
    labels = _labels(names)
    figure = go.Figure()
    for percentile, color in PERCENTILES.items():
        values = [getattr(stats.execution_time_ms_by_query_type[name], percentile) for name in names]
        figure.add_scatter(
            x=[max(value, LEAST_MS) for value in values],
            y=list(range(len(names))),
            customdata=[[label, _duration(value)] for label, value in zip(labels, values, strict=True)],
            mode="markers",
            marker={"color": color, "size": 12},
            name=percentile,
            hovertemplate="%{customdata[0]}<br>" + percentile + " %{customdata[1]}<extra></extra>",
        )
    _name_rows(figure, labels)
    figure.update_yaxes(showgrid=True)
    shown = [max(value, LEAST_MS) for trace in figure.data for value in trace.x]
    ticks = _ticks(min(shown), max(shown))
    figure.update_xaxes(type="log", tickmode="array", tickvals=list(ticks), ticktext=list(ticks.values()))
    return _laid_out(figure, height=150 + 26 * len(names), legend=True)


def _ticks(least: float, most: float) -> dict[float, str]:
    """Milliseconds at which a logarithmic axis is labelled, and how: tens, and some between them if they are few."""
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    steps = range(1, 10) if last - first <= 1 else (1, 2, 5) if last - first <= TICKS // 2 else (1,)
    powers = range(first, last + 1, 1 + (last - first) // TICKS)
    ticks = [float(f"{step}e{power}") for power in powers for step in steps]
    return {tick: f"{tick / 1000:,.0f} s" if tick >= 1000 else f"{tick:g} ms" for tick in ticks}


def _labels(names: Sequence[str]) -> list[str]:
    """The names, as plotly shows text: it would take markup in it for markup."""
    return [escape(name if len(name) <= 28 else f"{name[:27]}…") for name in names]


def _name_rows(figure: Any, labels: Sequence[str]) -> None:
    """Name the rows by hand: as categories, names that look alike would become one, and numbers an axis."""
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(labels))),
        ticktext=list(labels),
        range=[len(labels) - 0.5, -0.5],
        ticks="outside",
        ticklen=6,
        tickcolor="rgba(0,0,0,0)",
        showgrid=False,
        zeroline=False,
    )


def _duration(milliseconds: float) -> str:
    return f"{milliseconds / 1000:,.2f} s" if milliseconds >= 1000 else f"{milliseconds:,.2f} ms"


def _laid_out(figure: Any, *, height: int, legend: bool = False) -> Any:
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 16, "t": 10, "b": 10},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        bargap=0.25,
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"font": {"family": "system-ui, sans-serif"}},
    )
    figure.update_xaxes(gridcolor=LINE, linecolor=LINE, zeroline=False, automargin=True, tickfont={"color": FAINT})
    figure.update_yaxes(gridcolor=LINE, zeroline=False, automargin=True)
    return figure
