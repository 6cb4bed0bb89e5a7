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
from perdure.cli.output import counted, moment, print_json, relative
from perdure.cli.signals import stopped_by_signals, wait_for
from perdure.errors import BackendError
from perdure.store import DUE_COUNTED

__all__ = ["register_maintain"]

ARCHIVE_BATCH = 2_000
"""Sessions that are archived before a signal is looked at again: what takes about a second."""
RETENTION_BATCH = 500
ROLL_UP_BATCH = 1_000

RETRY_S = 15.0
"""First pause after a round that failed as a whole; each further one is twice as long, up to the interval."""

MOST_DOUBLINGS = 30
"""500 years: longer than any interval. A number that grew on would not fit a float one day."""

MISSED_INTERVALS = 2
"""So many intervals without a sweep, and nobody is sweeping."""


def register_maintain(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "maintain")(maintain)


@dataclass(slots=True)
class Round:
    """What one round of maintenance did; `finished` is False where it stopped before the end.

    `gathered` are changes of sessions' metrics that the roll-up took in.
    """

    archived: int = 0
    skipped: int = 0
    deleted: int = 0
    gathered: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    finished: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The round as JSON."""
        return {
            "archived": self.archived,
            "skipped": self.skipped,
            "deleted": self.deleted,
            "gathered": self.gathered,
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
    check: Annotated[
        bool, typer.Option("--check", help="Do nothing but say, by exit code, whether it is being done: for probes.")
    ] = False,
) -> None:
    """Archive what has expired, delete what is past its retention, roll up metrics: now and at every cleanup interval.

    SIGINT and SIGTERM end it after the batch under way. Safe in any number of processes at once. With --json each round
    is one line. --check exits with 1 where the store does not answer, or nobody has swept for two intervals.
    """
    if once and check:
        raise typer.BadParameter("--once does it, --check only looks", param_hint="--check")
    if check:
        await _check(run)
        return
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
            failures = 0
            while not stopping.is_set():
                pause_s = interval_s
                try:
                    _tell(run, await _round(run, store, stopping), at=datetime.now(UTC))
                    failures = 0
                except BackendError as error:
                    pause_s = min(interval_s, RETRY_S * 2**failures)
                    failures = min(failures + 1, MOST_DOUBLINGS)
                    complain(f"{error}; trying again in {pause_s / 60:g} minutes")
                await wait_for(stopping, seconds=pause_s)


async def _check(run: Run) -> None:
    """Whether the store answers, and somebody sweeps it."""
    async with run.open_store(sweeping=False) as store:
        health, now = await store.health(), datetime.now(UTC)
        latest = MISSED_INTERVALS * store.settings.cleanup_interval
    swept = max((tier.last_swept_at for tier in health.tiers.values() if tier.last_swept_at is not None), default=None)
    overdue = swept is None or now - swept > latest
    found = {"ok": health.ok and not overdue, "answers": health.ok, "last_swept_at": swept and swept.isoformat()}
    if not run.answer(found):
        answers = "the store answers" if health.ok else "the store does not answer"
        last = "never" if swept is None else relative(swept, now=now)
        run.out.print(f"{answers}; the last sweep was {last}", soft_wrap=True)
    if not found["ok"]:
        raise typer.Exit(FAILURE)


async def _round(run: Run, store: SessionStore, stopping: asyncio.Event) -> Round:
    done = Round()
    steps = [await step(run, store, stopping, done) for step in (_archive, _delete, _roll_up)]
    done.finished = all(steps)
    return done


async def _archive(run: Run, store: SessionStore, stopping: asyncio.Event, done: Round) -> bool:
    """Whether it was not told to stop half way."""
    due = sum(tier.due for tier in (await store.health()).tiers.values())
    with counted(run.err, "archiving", total=due if due < DUE_COUNTED else None) as reached:

        def dealt_with(more: int = 0) -> None:
            reached(done.archived + done.skipped + len(done.failed) + more)

        more, stopped, limit = True, False, max(ARCHIVE_BATCH, store.settings.sweep_batch)
        while more and not stopping.is_set():
            report = await store.cleanup_expired_sessions(limit=limit, progress=dealt_with)
            done.archived += report.archived
            done.skipped += report.skipped
            done.failed.update((str(session_id), reason) for session_id, reason in report.failed.items())
            dealt_with()
            taken = report.archived + report.skipped + len(report.failed)
            more = taken == limit > len(report.failed)  # where all of them fail, so would the next ones
            stopped = report.stopped
    return not stopped


async def _delete(run: Run, store: SessionStore, stopping: asyncio.Event, done: Round) -> bool:
    """Whether nothing is left to do."""
    with counted(run.err, "deleting", total=None) as reached:
        more = True
        while more and not stopping.is_set():
            deleted = (await store.delete_old_archived_sessions(limit=RETENTION_BATCH)).deleted
            done.deleted += deleted
            reached(done.deleted)
            more = deleted == RETENTION_BATCH
    return not more


async def _roll_up(run: Run, store: SessionStore, stopping: asyncio.Event, done: Round) -> bool:
    """Whether nothing is left to do."""
    with counted(run.err, "rolling up", total=None) as reached:
        more = True
        while more and not stopping.is_set():
            gathered = await store.generate_session_metrics(limit=ROLL_UP_BATCH)
            done.gathered += gathered
            reached(done.gathered)
            more = gathered == ROLL_UP_BATCH
    return not more


def _tell(run: Run, done: Round, *, at: datetime | None = None) -> None:
    if run.json:
        print_json({**({} if at is None else {"at": at.isoformat()}), **done.as_dict()}, indent=None)
    else:
        run.out.print(f"{'' if at is None else moment(at) + '  '}{done}", soft_wrap=True)
    for session_id, reason in done.failed.items():
        complain(f"session {session_id}: {reason}")
