"""`perdure export`, `import` and `copy`: whole sessions from one place to another, nothing lost, repeatable."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from uuid import UUID

import typer

from perdure import Session, SessionStore, Settings
from perdure.cli.command import Run, command
from perdure.cli.errors import FAILURE, USAGE, complain, sentence
from perdure.cli.output import count_of, counted, shown_url
from perdure.errors import ConfigurationError
from perdure.files import whole_file
from perdure.store import ImportReport, schema_of

__all__ = ["STREAM", "destination", "register_transfer"]

STREAM = "-"
"""In place of a file: stdin or stdout."""


def register_transfer(app: typer.Typer) -> None:
    """Add the three commands."""
    command(app, "export")(export_sessions)
    command(app, "import")(import_sessions)
    command(app, "copy", of_one_store=False)(copy_sessions)


async def export_sessions(
    run: Run, file: Annotated[str, typer.Argument(help="Where to; - is stdout.")] = STREAM
) -> None:
    """Write every session, whole, as one line of JSON each. A FILE appears when it is complete, or not at all."""
    exported, failed = 0, dict[str, str]()
    async with run.open_store(sweeping=False) as store:
        expected = (await store.get_totals()).sessions
        with destination(file) as lines, counted(run.err, "exporting", total=expected) as reached:
            async for session in store.export_sessions():
                try:
                    line = json.dumps(session.to_dict(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
                except ValueError as error:
                    failed[str(session.id)] = sentence(error)
                    continue
                lines.write(line.encode() + b"\n")
                exported += 1
                reached(exported)
    missing = max(0, expected - exported - len(failed))
    if file == STREAM:
        run.say(f"exported {count_of(exported, 'session')}")
    elif not run.answer({"file": file, "exported": exported, "failed": failed, "missing": missing}):
        run.out.print(f"exported {count_of(exported, 'session')} to {file}", soft_wrap=True)
    for session_id, reason in failed.items():
        complain(f"session {session_id}: {reason}")
    if missing:
        complain(f"{count_of(missing, 'session')} could not be read, or were deleted meanwhile; see `perdure doctor`")
    if failed or missing:
        raise typer.Exit(FAILURE)


async def import_sessions(
    run: Run, file: Annotated[str, typer.Argument(help="Where from; - is stdin.", show_default=False)]
) -> None:
    """Take in the sessions of an export. May be repeated; a line that is no session is reported, the rest goes on."""
    bad, lines_by_id = dict[int, str](), dict[UUID, int]()
    with _source(file) as (lines, size), counted(run.err, "importing", total=size) as reached:
        taken = 0

        def parsed() -> Iterator[Session]:
            nonlocal taken
            for number, line in enumerate(lines, 1):
                taken += len(line)
                try:
                    session = _session(line)
                except (ValueError, RecursionError) as error:
                    bad[number] = sentence(error)
                    continue
                if session is not None:
                    lines_by_id[session.id] = number
                    yield session

        async with run.open_store(sweeping=False) as store:
            report = await store.import_sessions(parsed(), progress=lambda seen: reached(seen, completed=taken))
    bad.update((lines_by_id[session_id], reason) for session_id, reason in report.failed.items())
    _tell(run, report, bad=[{"line": number, "error": bad[number]} for number in sorted(bad)])


async def copy_sessions(
    run: Run,
    source: Annotated[str, typer.Option("--from", metavar="URL", help="Where the sessions are.", show_default=False)],
    target: Annotated[str, typer.Option("--to", metavar="URL", help="Where they are to be too.", show_default=False)],
) -> None:
    """Copy every session from one store to another. May be repeated: only what is new is written then."""
    if source == target:
        raise typer.BadParameter("it is the store that --from names", param_hint="--to")
    from_store, to_store = _quiet_store(source), _quiet_store(target)
    await _must_exist(source)
    async with from_store as there, to_store as here:
        expected = (await there.get_totals()).sessions
        with counted(run.err, "copying", total=expected) as reached:
            report = await here.import_sessions(there.export_sessions(), progress=reached)
    bad = [{"id": str(session_id), "error": reason} for session_id, reason in report.failed.items()]
    _tell(run, report, bad=bad, source=shown_url(source), target=shown_url(target))


def _tell(run: Run, report: ImportReport, *, bad: list[dict[str, Any]], **facts: str) -> None:
    counts = {name: count for name, count in asdict(report).items() if name != "failed"}
    if not run.answer({**facts, **counts, "failed": bad}):
        run.out.print(
            f"sessions: {report.stored:,} new, {report.merged:,} brought up to date, "
            f"{report.unchanged:,} there already"
            + (f", {report.deleted:,} deleted here before, and left so" if report.deleted else "")
        )
    for problem in bad:
        where = f"line {problem['line']}" if "line" in problem else f"session {problem['id']}"
        complain(f"{where}: {problem['error']}")
    if bad:
        raise typer.Exit(FAILURE)


def _session(line: bytes) -> Session | None:
    """The session of one line; None of an empty one.

    Raises:
        ValueError, RecursionError: it is none.
    """
    text = line.decode("utf-8-sig").strip()
    if not text:
        return None
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(data, dict):
        raise ValueError(f"a session is a JSON object, not {type(data).__name__}")
    return Session.from_dict(data)


@contextmanager
def _source(file: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The lines to read, and how many bytes they are, where that is known."""
    if file == STREAM:
        yield sys.stdin.buffer, None
        return
    try:
        opened = Path(file).open("rb")  # noqa: SIM115 (closed below; a failure here is wrong input)
    except OSError as error:
        complain(sentence(error))
        raise typer.Exit(USAGE) from None
    with opened:
        yield opened, os.fstat(opened.fileno()).st_size or None


@contextmanager
def destination(file: str) -> Iterator[BinaryIO]:
    """Where to write. A file is put in place when all is written and on the disk, and left as it was otherwise."""
    if file == STREAM:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with whole_file(Path(file)) as stream:
        yield stream


async def _must_exist(url: str) -> None:
    """A store that is not there is a mistake in the URL, not an empty store.

    Raises:
        SchemaError: there is none.
    """
    try:
        schema = schema_of(url)
    except ConfigurationError:
        return  # a kind of store that has no schema to look at
    await schema.upgrade()


def _quiet_store(url: str) -> SessionStore:
    settings = Settings(url=url, sweep_on_open=False, sweep_in_background=False)
    return SessionStore.open(settings=settings.model_copy(update={"archive": None}))
