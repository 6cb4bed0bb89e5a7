"""What keeps a store in order: archiving what has expired, deleting what is past its retention."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias
from uuid import UUID

from perdure.backends import ArchiveOutcome, Claimed, Purged
from perdure.errors import BackendError, PerdureError
from perdure.logs import EventLog
from perdure.store.core import StoreCore
from perdure.store.reports import CleanupReport, RetentionReport
from perdure.store.telling import RETENTION_HOOK, tell_archived, tell_past_retention

__all__ = ["Maintenance", "Progress"]

log = EventLog("perdure.maintenance")

Progress: TypeAlias = Callable[[int], None]
"""Told, after each batch, how many sessions have been dealt with so far."""

CLAIM_BYTES = 64 * 1024 * 1024
ARCHIVED_AT_ONCE = 2
"""Batches on their way: one is made ready while the archive is busy with the other."""
PURGE_BATCH = 500
TOLD_BATCH = 100
"""Sessions that retention tells of before it removes them: what a crash in between tells again, at most."""
ROLL_UP_BATCH = 1_000
CLOSING_PATIENCE_S = 5.0


class Maintenance:
    """Archiving, retention and the roll-up of one store: on request, and by itself while the store is open."""

    def __init__(self, core: StoreCore) -> None:
        self._core = core
        self._task: asyncio.Task[None] | None = None
        self._in_round = asyncio.Lock()

    async def archive_expired(self, *, limit: int | None = None, progress: Progress | None = None) -> CleanupReport:
        """Archive what has expired, batch by batch; safe to run anywhere, any number of times and at once."""
        core, report = self._core, CleanupReport()

        async def archive(claimed: Claimed) -> None:
            await self._archive_claimed(claimed, report)
            if progress is not None and not report.stopped:
                progress(report.archived + report.skipped + len(report.failed))

        archiving: set[asyncio.Task[None]] = set()
        try:
            async with aclosing(self._claims(core.now(), limit)) as batches:
                async for claimed in batches:
                    archiving.add(asyncio.create_task(archive(claimed)))
                    if len(archiving) == ARCHIVED_AT_ONCE:
                        done, archiving = await asyncio.wait(archiving, return_when=asyncio.FIRST_COMPLETED)
                        await asyncio.gather(*done)
                    if report.stopped:
                        break  # what was claimed comes back by itself
        except asyncio.CancelledError:
            for task in archiving:
                task.cancel()
            raise
        finally:
            await asyncio.gather(*archiving)
        if report.archived or report.failed:
            log.info(
                "sessions.archived",
                archived=report.archived,
                skipped=report.skipped,
                forked=len(report.forked),
                failed=len(report.failed),
            )
        return report

    async def _claims(self, now: datetime, limit: int | None) -> AsyncGenerator[Claimed, None]:
        """Batches of what is due, the next one claimed while the one before is being archived; `limit` in all."""
        core, left = self._core, 2**31 if limit is None else limit

        def claim() -> asyncio.Task[Claimed]:
            batch = min(left, core.settings.sweep_batch)
            lease = core.settings.sweep_lease
            return asyncio.create_task(
                core.backend.claim_expired(now=now, lease=lease, limit=batch, max_bytes=CLAIM_BYTES)
            )

        claiming = claim()
        try:
            while taken := len((claimed := await claiming).sessions) + len(claimed.unreadable):
                left -= taken
                if left <= 0:
                    yield claimed
                    return
                claiming = claim()
                yield claimed
        finally:
            claiming.cancel()
            await asyncio.wait([claiming])
        # Nothing is left that is due: whoever asked, and if only a cron job, this was a sweep.
        await core.backend.start_sweep(now=now, interval=timedelta(0))

    async def _archive_claimed(self, claimed: Claimed, report: CleanupReport) -> None:
        """Archive what was claimed, and note what became of each, or that nothing can be archived at present."""
        core = self._core
        for session_id, reason in claimed.unreadable.items():
            _note_failure(report, session_id, reason)
        try:
            outcomes = await core.backend.archive(claimed.sessions, at=core.now(), deliver=partial(tell_archived, core))
        except BackendError as error:
            for session in claimed.sessions:
                _note_failure(report, session.id, _described(error))
            report.stopped = True
            return
        for done in outcomes:
            match done.outcome:
                case ArchiveOutcome.ARCHIVED:
                    report.archived += 1
                case ArchiveOutcome.FORKED:
                    report.archived += 1
                    report.forked.append(done.session_id)
                    log.warning("session.forked", session_id=str(done.session_id))
                case ArchiveOutcome.CHANGED | ArchiveOutcome.DELETED:
                    report.skipped += 1
                case ArchiveOutcome.FAILED:
                    _note_failure(report, done.session_id, done.error or "it could not be archived")

    async def purge_archived(
        self,
        *,
        retention: timedelta,
        dry_run: bool = False,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> RetentionReport:
        """Delete what was archived longer ago than `retention`."""
        now = self._core.now()
        report = RetentionReport([], now - retention, dry_run)
        more, most = True, 2**31 if limit is None else limit
        while more and most > len(report.session_ids):
            purged = await self._purge_batch(report, now=now, limit=most - len(report.session_ids))
            report.session_ids.extend(purged.session_ids)
            more = purged.more and bool(purged.session_ids)
            if progress is not None:
                progress(len(report.session_ids))
        if report.deleted:
            log.info("sessions.purged", deleted=report.deleted, cutoff=report.cutoff.isoformat())
        return report

    async def _purge_batch(self, report: RetentionReport, *, now: datetime, limit: int) -> Purged:
        """Remove up to `limit` of what is past its retention, told of before where anybody listens."""
        purge = partial(self._core.backend.purge, archived_before=report.cutoff, now=now)
        if report.dry_run:  # it removes nothing: a second batch would be the first one again, so it takes all at once
            return await purge(limit=limit, dry_run=True)
        if not self._core.hooks.listens(RETENTION_HOOK):
            return await purge(limit=min(limit, PURGE_BATCH))
        chosen = await purge(limit=min(limit, TOLD_BATCH), dry_run=True)
        told = await tell_past_retention(self._core, chosen.session_ids)
        # None but these, and of them only what is still past its retention: somebody may have restored the others.
        purged = await purge(limit=TOLD_BATCH, among=told)
        return Purged(purged.session_ids, chosen.more)

    async def roll_up(self, *, limit: int | None = None, progress: Progress | None = None) -> int:
        """Gather what archived sessions count, batch by batch, so that statistics stay cheap; tells how many."""
        done, most = 0, 2**31 if limit is None else limit
        while done < most and (gathered := await self._core.backend.roll_up(limit=min(ROLL_UP_BATCH, most - done))):
            done += gathered
            if progress is not None:
                progress(done)
        if done:
            log.info("metrics.gathered", changes=done)
        return done

    def start(self) -> None:
        """Begin to do so by itself, as the settings say. No effect where it has begun."""
        if self._task is not None:
            return
        if self._core.settings.sweep_in_background or self._core.settings.sweep_on_open:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End it; a round that has begun may finish, within a few seconds."""
        task = self._task
        if task is None:
            return
        try:
            await asyncio.sleep(0)  # a round that is due begins, however soon after opening this is
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSING_PATIENCE_S), self._in_round:
                    pass  # between two rounds
        finally:
            task.cancel()  # also where who closes is cancelled: the backend may be closed next
        await asyncio.wait([task])
        self._task = None

    async def _run(self) -> None:
        settings = self._core.settings
        interval = settings.cleanup_interval
        if settings.sweep_on_open:
            await self._round(interval)
        while settings.sweep_in_background:
            # A tenth of jitter, so that many processes that started together do not all ask at once.
            await asyncio.sleep(interval.total_seconds() * random.uniform(0.95, 1.05))
            await self._round(interval / 2)

    async def _round(self, interval: timedelta) -> None:
        """Archive, purge and gather, unless this or another process has begun to within `interval`."""
        async with self._in_round:
            try:
                if await self._core.backend.start_sweep(now=self._core.now(), interval=interval):
                    await self.archive_expired()
                    await self.purge_archived(retention=self._core.settings.retention)
                    await self.roll_up()
            except Exception as error:  # noqa: BLE001 (the next round may do better)
                log.error("maintenance.failed", error=_described(error))


def _note_failure(report: CleanupReport, session_id: UUID, reason: str) -> None:
    report.failed[session_id] = reason
    log.error("session.not_archived", session_id=str(session_id), reason=reason)


def _described(error: Exception) -> str:
    """What reports and logs say of it: what others raise may quote values, which do not go there."""
    return str(error) if isinstance(error, PerdureError) else type(error).__name__
