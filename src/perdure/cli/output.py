"""How answers look: consoles, JSON, tables, progress bars, times."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit, urlunsplit

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from perdure.cli.errors import one_line

__all__ = [
    "compact_json",
    "console",
    "count_of",
    "counted",
    "duration",
    "moment",
    "print_json",
    "relative",
    "shown_url",
    "table",
]

PIPED_WIDTH = 160
"""Columns where nobody says how wide the output is: it goes to a file or another program."""


def console(*, stderr: bool = False) -> Console:
    """A console that shows text as it is: data are no markup. Without a terminal it is wide, so that nothing is cut."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


def print_json(data: object, *, indent: int | None = 2) -> None:
    """JSON in UTF-8 on stdout."""
    typer.echo(json.dumps(data, ensure_ascii=False, allow_nan=False, indent=indent, default=str).encode())


def compact_json(value: object) -> str:
    """A value for a table: one line, without what would steer a terminal."""
    return one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def table(*columns: str, title: str | None = None, right: tuple[str, ...] = (), kept: tuple[str, ...] = ()) -> Table:
    """A table with a light head; `right` columns are numbers, `kept` ones are never wrapped or cut."""
    made = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        title=title,
        title_justify="left",
        title_style="bold",
    )
    for name in columns:
        number = name in right
        made.add_column(
            name,
            justify="right" if number else "left",
            no_wrap=number or name in kept,
            overflow="fold",
        )
    return made


@contextmanager
def counted(err: Console, what: str, *, total: float | None) -> Iterator[Callable[..., None]]:
    """A bar on stderr that is told `reached(sessions)`, and shows how many and how fast.

    `total` is in sessions, or in whatever `reached(sessions, completed=…)` counts; None where nobody knows. Nothing is
    shown where stderr is no terminal.
    """
    if not err.is_terminal:
        yield lambda *_, **__: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30), _CountColumn())
    with Progress(*columns, console=err, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(what, total=total, sessions=0)

        def reached(sessions: int, *, completed: float | None = None) -> None:
            bar.update(task, completed=sessions if completed is None else completed, sessions=sessions)

        yield reached


class _CountColumn(ProgressColumn):
    """Sessions so far, and how many of them a second."""

    def render(self, task: Task) -> Text:
        done = int(task.fields["sessions"])
        rate = f", {done / task.elapsed:,.0f}/s" if task.elapsed else ""
        return Text(f"{done:,} sessions{rate}", style="progress.download")


def moment(at: datetime) -> str:
    """An instant, to the minute, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def relative(at: datetime, *, now: datetime) -> str:
    """How far an instant is from `now`."""
    return f"in {duration(at - now)}" if at > now else f"{duration(now - at)} ago"


def duration(length: timedelta) -> str:
    """A length of time in its largest unit."""
    seconds = length.total_seconds()
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= (2 * size if unit == "d" else size):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def count_of(number: int, noun: str) -> str:
    """A number of things: `1 session`, `2 sessions`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shown_url(url: str) -> str:
    """A URL without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    netloc = parts.netloc.replace(f":{parts.password}@", ":***@", 1)
    return urlunsplit(parts._replace(netloc=netloc))
