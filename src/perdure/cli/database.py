"""`perdure db …`: the schema of the database that holds the sessions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any

import typer

from perdure.cli.command import Run, command
from perdure.cli.errors import FAILURE, complain
from perdure.cli.output import shown_url
from perdure.store import SchemaAdmin, schemas_of

__all__ = ["database"]

database = typer.Typer(no_args_is_help=True, help="Create, upgrade, verify or drop the database.")


@command(database, "create")
async def create(run: Run) -> None:
    """Make the database, or what is missing in it; there is no harm in doing so twice."""
    done = []
    for place, schema in _schemas(run).items():
        await schema.create()
        done.append({"url": place, "created": True})
    _answer(run, done, lambda made: [f"{made['url']} is ready"])


@command(database, "upgrade")
async def upgrade(run: Run) -> None:
    """Bring an older database to the schema of this perdure."""
    done = []
    for place, schema in _schemas(run).items():
        before, now = await schema.upgrade()
        done.append({"url": place, "before": before, "now": now})
    _answer(run, done, _upgraded)


def _upgraded(done: Mapping[str, Any]) -> list[str]:
    place, before, now = done["url"], done["before"], done["now"]
    if before == now:
        return [f"{place} was at revision {now} already"]
    return [f"{place} went from revision {before} to {now}"]


@command(database, "verify")
async def verify(run: Run) -> None:
    """Compare the database with what this perdure expects; exits with 1 where they differ."""
    done = []
    for place, schema in _schemas(run).items():
        differences = await schema.verify()
        done.append({"url": place, "ok": not differences, "differences": differences})
    _answer(run, done, lambda seen: seen["differences"] or [f"{seen['url']} is as expected"])
    if not all(seen["ok"] for seen in done):
        raise typer.Exit(FAILURE)


@command(database, "drop")
def drop(
    run: Run, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> Coroutine[None, None, None]:
    """Delete the database with every session in it. Not to be undone; asks first."""
    schemas = _schemas(run)
    # Asked before the event loop runs, which would take the first Ctrl-C for itself.
    if not yes and not _confirmed(run, f"Delete every session in {' and in '.join(schemas)}?"):
        complain("nothing was dropped; answer y, or give --yes")
        raise typer.Exit(FAILURE)
    return _drop(run, schemas)


async def _drop(run: Run, schemas: Mapping[str, SchemaAdmin]) -> None:
    done = []
    for place, schema in schemas.items():
        await schema.drop()
        done.append({"url": place, "dropped": True})
    _answer(run, done, lambda dropped: [f"{dropped['url']} is gone"])


def _confirmed(run: Run, question: str) -> bool:
    run.err.print(f"{question} [y/N]", end=" ", soft_wrap=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # the input ended, and the line of the question with it
        run.err.print()
    return answer.strip().lower() in ("y", "yes")


def _schemas(run: Run) -> dict[str, SchemaAdmin]:
    """What keeps a schema, by the place that people are told."""
    return {run.place if url is None else shown_url(url): schema for url, schema in schemas_of(run.settings()).items()}


def _answer(run: Run, done: Sequence[dict[str, Any]], lines: Callable[[dict[str, Any]], Sequence[str]]) -> None:
    """What was done: for programs an object, or with two places a list of them; for people the lines of each."""
    if not run.answer(done[0] if len(done) == 1 else done):
        for each in done:
            for line in lines(each):
                run.out.print(line, soft_wrap=True)
