"""`perdure maintain`: archiving what has expired and deleting what is past its retention, once or as a service."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from perdure import SessionStore
from perdure.cli.command import Run, command
from perdure.cli.errors import FAILURE, complain
from perdure.cli.output import counted, moment, print_json
from perdure.cli.signals import stopped_by_signals, wait_for
from perdure.errors import BackendError

__all__ = ["register_maintain"]

RETENTION_BATCH = 500

DUE_COUNTED = 1_000
"""As far as a store counts what is due."""


def register_maintain(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "maintain")(maintain)


@dataclass(slots=True)
class Round:
    """What one round of maintenance did; `finished` is False where it was told to stop before the end."""

    archived: int = 0
    skipped: int = 0
    deleted: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    finished: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The round as JSON."""
        return {
            "archived": self.archived,
            "skipped": self.skipped,
            "deleted": self.deleted,
            "failed": self.failed,
            "finished": self.finished,
        }

    def __str__(self) -> str:
        parts = [f"archived {self.archived:,}", f"deleted {self.deleted:,} past their retention"]
        parts += [f"{self.skipped:,} were changed meanwhile"] if self.skipped else []
        parts += [f"{len(self.failed):,} failed"] if self.failed else []
        return ", ".join(parts) + ("" if self.finished else "; stopped before the end")


async def maintain(
    run: Run,
    once: Annotated[bool, typer.Option("--once", help="One round, then exit: for cron.")] = False,
) -> None:
    """Archive what has expired and delete what is past its retention: now and then at every cleanup interval.

    SIGINT and SIGTERM end it after the batch under way. Safe in any number of processes at once. With --json each round
    is one line.
    """
    with stopped_by_signals() as stopping:
        async with run.open_store(sweeping=False) as store:
            interval_s = store.settings.cleanup_interval.total_seconds()
            if once:
                done = await _round(run, store, stopping)
                _tell(run, done)
                if done.failed or not done.finished:
                    raise typer.Exit(FAILURE)
                return
            run.say(f"maintaining {run.place} every {interval_s / 60:g} minutes; Ctrl-C ends it")
            while not stopping.is_set():
                try:
                    _tell(run, await _round(run, store, stopping), at=datetime.now(UTC))
                except BackendError as error:
                    complain(f"{error}; trying again in {interval_s / 60:g} minutes")
                await wait_for(stopping, seconds=interval_s)


async def _round(run: Run, store: SessionStore, stopping: asyncio.Event) -> Round:
    done = Round()
    due = sum(tier.due for tier in (await store.health()).tiers.values())
    with counted(run.err, "archiving", total=due if due < DUE_COUNTED else None) as reached:
        more, batch = True, store.settings.sweep_batch
        while more and not stopping.is_set():
            report = await store.cleanup_expired_sessions(limit=batch)
            done.archived += report.archived
            done.skipped += report.skipped
            done.failed.update((str(session_id), reason) for session_id, reason in report.failed.items())
            reached(done.archived + done.skipped + len(done.failed))
            more = report.archived + report.skipped + len(report.failed) == batch
    with counted(run.err, "deleting", total=None) as reached:
        more = True
        while more and not stopping.is_set():
            deleted = (await store.delete_old_archived_sessions(limit=RETENTION_BATCH)).deleted
            done.deleted += deleted
            reached(done.deleted)
            more = deleted == RETENTION_BATCH
    done.finished = not more
    return done


def _tell(run: Run, done: Round, *, at: datetime | None = None) -> None:
    if run.json:
        print_json({**({} if at is None else {"at": at.isoformat()}), **done.as_dict()}, indent=None)
    else:
        run.out.print(f"{'' if at is None else moment(at) + '  '}{done}", soft_wrap=True)
    for session_id, reason in done.failed.items():
        complain(f"session {session_id}: {reason}")
