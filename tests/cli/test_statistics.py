"""`perdure stats`, `perdure report` and `perdure metrics`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cli.running import CommandLine

from perdure.analytics import SessionStats

DAY = timedelta(days=1)


def test_statistics_are_shown_in_tables_and_charts(perdure: CommandLine) -> None:
    perdure.session(queries=3)
    perdure.archived(age=DAY, user_id="bob", tags=["tech"])

    shown = perdure.text("stats")

    for line in (
        "sessions 2 1 active, 1 archived",
        "queries 5 2.50 a session, 3 at most",
        "users 2 0 of several sessions",
    ):
        assert line in " ".join(shown.split())
    assert "40.0%" in shown  # two of five were cache hits
    for title in ("queries by type", "session types", "top assets", "popular tags", "execution time by query type"):
        assert title in shown
    assert "█" in shown


def test_as_json_they_are_the_statistics_and_nothing_else(perdure: CommandLine) -> None:
    perdure.session(queries=3)

    stats = SessionStats.model_validate(perdure.json("stats"))

    assert (stats.total_sessions, stats.total_queries, stats.period_days) == (1, 3, 30)


@pytest.mark.parametrize(
    ("options", "sessions"),
    [
        ([], 3),
        (["--user", "ann"], 2),
        (["--user", "nobody"], 0),
        (["--type", "macro"], 1),
        (["--days", "1"], 1),
        (["--days", "3", "--user", "ann"], 1),
        (["--days", "60"], 4),
    ],
)
def test_they_are_about_the_sessions_that_were_asked_for(
    perdure: CommandLine, options: list[str], sessions: int
) -> None:
    perdure.session()
    perdure.archived(age=DAY, user_id="bob", session_type="macro")
    perdure.archived(age=5 * DAY)
    perdure.archived(age=40 * DAY)

    assert perdure.json("stats", *options)["total_sessions"] == sessions


def test_looking_at_them_archives_nothing(perdure: CommandLine) -> None:
    perdure.session(age=2 * DAY)
    for _ in range(2):
        stats = perdure.json("stats")
        assert (stats["active_sessions"], stats["expired_sessions"]) == (1, 1)


@pytest.mark.parametrize("columns", ["80", "200"])
def test_they_fit_the_terminal(perdure: CommandLine, columns: str) -> None:
    perdure.session(assets=["A" * 200, "[red]x\x1b[2J"], tags=["t" * 200])

    result = perdure.run("stats", env={"COLUMNS": columns})

    assert max(map(len, result.stdout.splitlines())) <= int(columns)
    assert "\x1b[2J" not in result.stdout


def test_where_there_is_nothing_it_says_so(perdure: CommandLine) -> None:
    assert "no sessions" in perdure.text("stats")
    assert perdure.json("stats")["abandonment_rate"] == 0


def test_a_report_is_one_page(perdure: CommandLine, machine: Path) -> None:
    perdure.session()

    told = perdure.text("report", "out.html", "--title", "This week")

    page = (machine / "out.html").read_text(encoding="utf-8")
    assert told == "wrote out.html: 1 session\n"
    assert "<title>This week</title>" in page
    assert page.count("<figure>") == 6  # no tags
    assert sorted(path.suffix for path in machine.iterdir() if path.is_file()) == [".db", ".html"]
    again = perdure.json("report", "out.html", "--days", "7")
    assert again == {"file": "out.html", "sessions": 1, "size_bytes": (machine / "out.html").stat().st_size}
    assert "<!doctype html>" in perdure.text("report", "-", "--user", "nobody")


@pytest.mark.parametrize(
    ("file", "options", "form"),
    [
        ("m.json", [], "json"),
        ("m.jsonl", [], "jsonl"),
        ("m.CSV", [], "csv"),
        ("m.txt", [], "jsonl"),
        ("m.json", ["--format", "csv"], "csv"),
    ],
)
def test_metrics_are_written_in_the_format_of_the_name(
    perdure: CommandLine, machine: Path, file: str, options: list[str], form: str
) -> None:
    session = perdure.session()

    assert perdure.json("metrics", file, *options) == {"file": file, "format": form, "sessions": 1}

    text = (machine / file).read_text(encoding="utf-8")
    read: dict[str, Callable[[], Any]] = {
        "json": lambda: json.loads(text),
        "jsonl": lambda: [json.loads(line) for line in text.splitlines()],
        "csv": lambda: list(csv.DictReader(io.StringIO(text))),
    }
    rows = read[form]()
    assert [row["session_id"] for row in rows] == [str(session.id)]


def test_metrics_go_to_stdout_where_no_file_is_named(perdure: CommandLine) -> None:
    session, _ = perdure.session(), perdure.archived(age=DAY, user_id="bob")

    result = perdure.run("metrics", "--user", "ann", "--type", "comparative", "--days", "1")

    assert [json.loads(line)["session_id"] for line in result.stdout.splitlines()] == [str(session.id)]
    assert result.stderr == "wrote 1 session\n"


def test_a_format_that_there_is_not_is_wrong_usage(perdure: CommandLine, machine: Path) -> None:
    perdure.session()
    assert "'xml'" in perdure.error("metrics", "m.xml", "--format", "xml", code=2)
    assert not (machine / "m.xml").exists()


def test_a_file_that_cannot_be_written_is_told(perdure: CommandLine) -> None:
    perdure.session()
    assert "nowhere" in perdure.error("metrics", "nowhere/m.csv", code=1)
    assert "nowhere" in perdure.error("report", "nowhere/out.html", code=1)
