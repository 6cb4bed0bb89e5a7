"""`perdure stats`, `report` and `metrics`: what sessions amount to, in the terminal, as a page, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from perdure.analytics import SessionAnalytics, html_report
from perdure.cli.charts import stats_view
from perdure.cli.command import Run, command
from perdure.cli.output import count_of, counted
from perdure.cli.transfer import STREAM, destination

__all__ = ["register_statistics"]

User = Annotated[str | None, typer.Option(help="Only this user's sessions.")]
Type = Annotated[str | None, typer.Option("--type", help="Only sessions of this type, such as equity.")]
Days = Annotated[int, typer.Option(help="Only sessions that were created within so many days.", min=1)]

FORMATS = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


def register_statistics(app: typer.Typer) -> None:
    """Add the three commands."""
    command(app, "stats")(stats)
    command(app, "report")(report)
    command(app, "metrics")(metrics)


async def stats(run: Run, user: User = None, session_type: Type = None, days: Days = 30) -> None:
    """Show what sessions amount to: active, archived, and past their retention, each once."""
    async with run.open_store(sweeping=False) as store:
        found = await SessionAnalytics(store).get_session_stats(user, session_type, days)
    if run.answer(found.model_dump(mode="json") if run.json else None):
        return
    for part in stats_view(found, width=run.out.width):
        run.out.print(part)


async def report(
    run: Run,
    file: Annotated[str, typer.Argument(help="The page to write; - is stdout.", show_default=False)],
    user: User = None,
    session_type: Type = None,
    days: Days = 30,
    title: Annotated[str, typer.Option(help="What the page is called.")] = "Sessions",
) -> None:
    """Write the same with charts as one page of HTML that needs no network. It needs the extra `report`."""
    async with run.open_store(sweeping=False) as store:
        found = await SessionAnalytics(store).get_session_stats(user, session_type, days, top=12)
    page = html_report(found, title=title)
    with destination(file) as stream:
        stream.write(page.encode())
    if file == STREAM:
        return
    if not run.answer({"file": file, "sessions": found.total_sessions, "size_bytes": len(page.encode())}):
        run.out.print(f"wrote {file}: {count_of(found.total_sessions, 'session')}", soft_wrap=True)


async def metrics(
    run: Run,
    file: Annotated[str, typer.Argument(help="Where to; - is stdout.")] = STREAM,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="json, jsonl or csv; else by the name of FILE, else jsonl."),
    ] = None,
    user: User = None,
    session_type: Type = None,
    days: Days = 30,
) -> None:
    """Write the numbers of each session, newest first. A FILE appears when it is complete, or not at all."""
    chosen = FORMATS.get(Path(file).suffix.lower(), "jsonl") if form is None else form
    async with run.open_store(sweeping=False) as store:
        analytics = SessionAnalytics(store)
        expected = (await analytics.get_session_stats(user, session_type, days)).total_sessions
        with destination(file) as stream, counted(run.err, "writing", total=expected) as reached:
            written = await analytics.export_session_metrics(
                cast(Literal["json", "jsonl", "csv"], chosen),  # checked there
                stream,
                user_id=user,
                session_type=session_type,
                days=days,
                progress=reached,
            )
    if file == STREAM:
        run.say(f"wrote {count_of(written, 'session')}")
    elif not run.answer({"file": file, "format": chosen, "sessions": written}):
        run.out.print(f"wrote {count_of(written, 'session')} to {file}", soft_wrap=True)
