"""The report: one page that needs nothing else, whatever people call things."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from html import escape
from pathlib import Path

import pytest

from perdure.analytics import SessionStats, html_report
from perdure.backends.measuring import measures_of
from perdure.errors import MissingExtraError
from perdure.models import Measured, StatsFilter
from perdure.testing import START, stored_query, stored_session

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-component-update",
    "--disable-quic",
    "--virtual-time-budget=8000",
    "--window-size=1240,2000",
]

EVIL = [
    "</script><script>document.title='taken'</script>",
    "<img src=x onerror=document.title='taken'>",
    "$title {} %s",
]


def stats_of(*names: str) -> SessionStats:
    """Statistics in which everything has these names."""
    return stats_taking({name: 10.0**number for number, name in enumerate(names, 1)})


def stats_taking(took_ms: Mapping[str, float]) -> SessionStats:
    """Statistics in which everything has the names of query types that took so long."""
    names = tuple(took_ms)
    queries = [stored_query(name, execution_time_ms=took, timestamp=START) for name, took in took_ms.items()]
    session = stored_session(user_id="ann", assets=names, tags=names, queries=tuple(queries))
    wanted = StatsFilter(since=START)
    return SessionStats.of(measures_of([Measured.of(session, now=START)]), wanted, until=START + timedelta(days=3))


EMPTY = SessionStats(until=START)


def test_it_has_the_numbers_the_charts_and_the_library_that_draws_them() -> None:
    page = html_report(stats_of("price", "news"), title="Our sessions")
    assert page.count("<figure>") == 7
    assert re.findall(r'<div id="(chart-\d)"', page) == [f"chart-{number}" for number in range(1, 8)]
    assert "<title>Our sessions</title>" in page
    assert "<b>2</b><span>queries, 2.00 a session, 2 at most</span>" in page
    assert "plotly.js v" in page
    assert 3_000_000 < len(page) < 8_000_000


@pytest.mark.parametrize(
    ("took_ms", "ticks"),
    [
        ((170, 30_000), ["100 ms", "200 ms", "500 ms", "1 s", "2 s", "5 s", "10 s", "20 s", "50 s", "100 s"]),
        ((0, 2), ["0.01 ms", "0.02 ms", "0.05 ms", "0.1 ms", "1 ms", "2 ms"]),
        ((0.5, 1e9), ["0.1 ms", "10 ms", "1 s", "100 s", "10,000 s", "1,000,000 s"]),
        ((5, 5), ["1 ms", "2 ms", "3 ms", "5 ms", "9 ms", "10 ms"]),
    ],
)
def test_times_are_labelled_with_their_units_however_far_apart(took_ms: tuple[float, ...], ticks: list[str]) -> None:
    named = {f"type-{number}": value for number, value in enumerate(took_ms)}
    (labels,) = re.findall(r'"ticktext":(\["[\d.,]+ m?s".*?\])', html_report(stats_taking(named)))
    assert set(ticks) <= set(json.loads(labels))
    assert 2 <= len(json.loads(labels)) <= 18


@pytest.mark.parametrize(
    ("days", "title", "first"),
    [
        (100, "Day by day", "2026-01-01"),
        (101, "Week by week", "2025-12-29"),
        (700, "Week by week", "2025-12-29"),
        (701, "Month by month", "2026-01-01"),
    ],
)
def test_bars_of_a_long_period_stand_for_weeks_or_months(days: int, title: str, first: str) -> None:
    counted = {(START + timedelta(days=number)).date(): 1 for number in range(days)}
    stats = stats_of("price").model_copy(update={"sessions_by_day": counted, "queries_by_day": counted})
    page = html_report(stats)
    assert f"<figcaption>{title}</figcaption>" in page
    (bars, *_) = re.findall(r'"x":(\["\d{4}-.*?\]),"y":(\[.*?\])', page)
    periods, sums = map(json.loads, bars)
    assert (periods[0], sum(sums), len(periods)) == (first, days, len(set(periods)))
    assert len(periods) <= 101


def test_it_names_nothing_outside_itself() -> None:
    page = html_report(stats_of("price"))
    without_library = re.sub(r"<script>.*?</script>", "", page, count=1, flags=re.DOTALL)
    assert re.findall(r"""(?:src|href)\s*=\s*["'][^"']*""", without_library) == []
    assert "default-src 'none'" in page


@pytest.mark.parametrize("name", EVIL)
def test_names_are_text_and_nothing_else(name: str) -> None:
    page = html_report(stats_of(name), title=name)
    assert f"<title>{escape(name)}</title>" in page
    assert page.count("<script") == html_report(stats_of("price")).count("<script")
    assert page.count("<img") == html_report(stats_of("price")).count("<img")


def test_without_sessions_it_says_so_and_brings_no_library() -> None:
    page = html_report(EMPTY)
    assert "There are no sessions in this period." in page
    assert "<figure>" not in page
    assert len(page) < 10_000


def test_without_the_extra_it_says_which_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.delitem(sys.modules, "perdure.analytics.charts", raising=False)
    with pytest.raises(MissingExtraError, match=r"perdure\[report\]"):
        html_report(EMPTY)


@pytest.mark.parametrize("names", [["price", "2024", "2025"], EVIL], ids=["plain", "evil"])
def test_a_browser_draws_it_and_runs_nothing_else(names: list[str], tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is on the PATH")
    page = tmp_path / "report.html"
    page.write_text(html_report(stats_of(*names), title="Our sessions"), encoding="utf-8")
    folder = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [browser, *QUIET, folder, "--enable-logging=stderr", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    drawn = done.stdout
    assert "<title>Our sessions</title>" in drawn
    assert len(re.findall(r'class="main-svg"', drawn)) >= 7
    assert "Uncaught" not in done.stderr
    assert "Content Security Policy" not in done.stderr
