"""`perdure db …`: the schema of the database that holds the sessions."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from typing import Annotated

import typer

from perdure.cli.command import Run, command
from perdure.cli.errors import FAILURE, complain
from perdure.store import SchemaAdmin, schema_of

__all__ = ["database"]

database = typer.Typer(no_args_is_help=True, help="Create, upgrade, verify or drop the database.")


@command(database, "create")
async def create(run: Run) -> None:
    """Make the database, or what is missing in it; there is no harm in doing so twice."""
    await _schema(run).create()
    if not run.answer({"url": run.place, "created": True}):
        run.out.print(f"{run.place} is ready")


@command(database, "upgrade")
async def upgrade(run: Run) -> None:
    """Bring an older database to the schema of this perdure."""
    before, now = await _schema(run).upgrade()
    if not run.answer({"url": run.place, "before": before, "now": now}):
        run.out.print(
            f"{run.place} was at revision {now} already"
            if before == now
            else f"{run.place} went from revision {before} to {now}"
        )


@command(database, "verify")
async def verify(run: Run) -> None:
    """Compare the database with what this perdure expects; exits with 1 where they differ."""
    differences = await _schema(run).verify()
    if not run.answer({"url": run.place, "ok": not differences, "differences": differences}):
        for difference in differences or [f"{run.place} is as expected"]:
            run.out.print(difference, soft_wrap=True)
    if differences:
        raise typer.Exit(FAILURE)


@command(database, "drop")
def drop(
    run: Run, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> Coroutine[None, None, None]:
    """Delete the database with every session in it. Not to be undone; asks first."""
    # Asked before the event loop runs, which would take the first Ctrl-C for itself.
    if not yes and not _confirmed(run, f"Delete every session in {run.place}?"):
        complain("nothing was dropped; answer y, or give --yes")
        raise typer.Exit(FAILURE)
    return _drop(run)


async def _drop(run: Run) -> None:
    await _schema(run).drop()
    if not run.answer({"url": run.place, "dropped": True}):
        run.out.print(f"{run.place} is gone")


def _confirmed(run: Run, question: str) -> bool:
    run.err.print(f"{question} [y/N]", end=" ", soft_wrap=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # the input ended, and the line of the question with it
        run.err.print()
    return answer.strip().lower() in ("y", "yes")


def _schema(run: Run) -> SchemaAdmin:
    return schema_of(run.settings().url)
