"""What keeps a store in order: archiving what has expired, deleting what is past its retention."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeAlias

from perdure.backends import Claimed
from perdure.errors import PerdureError, SessionArchivedError, SessionNotFoundError, VersionConflictError
from perdure.logs import EventLog
from perdure.models import StoredSession
from perdure.store.core import StoreCore
from perdure.store.reports import CleanupReport, RetentionReport
from perdure.store.scoped import notify_archived
from perdure.store.writer import Submission

__all__ = ["Maintenance", "Progress"]

log = EventLog("perdure.maintenance")

Progress: TypeAlias = Callable[[int], None]
"""Told, after each batch, how many sessions have been dealt with so far."""

CLAIM_BYTES = 64 * 1024 * 1024
PURGE_BATCH = 500
CLOSING_PATIENCE_S = 5.0


class Maintenance:
    """Archiving and retention of one store: on request, and by itself while the store is open."""

    def __init__(self, core: StoreCore) -> None:
        self._core = core
        self._task: asyncio.Task[None] | None = None
        self._in_round = asyncio.Lock()

    async def archive_expired(self, *, limit: int | None = None, progress: Progress | None = None) -> CleanupReport:
        """Archive what has expired, batch by batch; safe to run anywhere, any number of times and at once."""
        core, report, left = self._core, CleanupReport(), limit
        now = core.now()
        while left is None or left > 0:
            batch = core.settings.sweep_batch if left is None else min(left, core.settings.sweep_batch)
            claimed = await core.backend.claim_expired(
                now=now, lease=core.settings.sweep_lease, limit=batch, max_bytes=CLAIM_BYTES
            )
            taken = len(claimed.sessions) + len(claimed.unreadable)
            if not taken:
                # Nothing is left that is due: whoever asked, and if only a cron job, this was a sweep.
                await core.backend.start_sweep(now=now, interval=timedelta(0))
                break
            await self._archive_claimed(claimed, report)
            left = None if left is None else left - taken
            if progress is not None:
                progress(report.archived + report.skipped + len(report.failed))
        if report.archived or report.failed:
            log.info(
                "sessions.archived",
                archived=report.archived,
                skipped=report.skipped,
                failed=len(report.failed),
            )
        return report

    async def _archive_claimed(self, claimed: Claimed, report: CleanupReport) -> None:
        for session_id, reason in claimed.unreadable.items():
            report.failed[session_id] = reason
            log.error("session.not_archived", session_id=str(session_id), reason=reason)
        outcomes = await asyncio.gather(*map(self._archive, claimed.sessions), return_exceptions=True)
        for session, outcome in zip(claimed.sessions, outcomes, strict=True):
            match outcome:
                case None:
                    report.archived += 1
                case VersionConflictError() | SessionArchivedError() | SessionNotFoundError():
                    report.skipped += 1
                case Exception():
                    report.failed[session.id] = reason = _described(outcome)
                    log.error("session.not_archived", session_id=str(session.id), reason=reason)
                case _:
                    raise outcome

    async def _archive(self, session: StoredSession) -> None:
        core = self._core
        draft = core.draft(None)
        draft["archive"] = True
        draft["if_version"] = session.version  # extended meanwhile: then it is not due any more
        submission = Submission(draft, alone=True)
        applied = await core.writer.write(session.id, submission)
        if core.hooks.listens("session_archived") or core.hooks.listens("session_expired"):
            assert submission.sent is not None
            session.archived_at, session.version, session.head = draft["at"], applied.version, submission.sent.head
            session.last_accessed_at = max(session.last_accessed_at, draft["at"])
            await notify_archived(core, session, expired=True)

    async def purge_archived(
        self,
        *,
        retention: timedelta,
        dry_run: bool = False,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> RetentionReport:
        """Delete what was archived longer ago than `retention`."""
        core = self._core
        now = core.now()
        report = RetentionReport([], now - retention, dry_run)
        more, most = True, 2**31 if limit is None else limit
        while more and most > len(report.session_ids):
            # A dry run deletes nothing, so that a second batch would be the first one again: it takes all at once.
            purged = await core.backend.purge(
                archived_before=report.cutoff,
                now=now,
                limit=most if dry_run else min(PURGE_BATCH, most - len(report.session_ids)),
                dry_run=dry_run,
            )
            report.session_ids.extend(purged.session_ids)
            more = purged.more and bool(purged.session_ids)
            if progress is not None:
                progress(len(report.session_ids))
        if report.deleted:
            log.info("sessions.purged", deleted=report.deleted, cutoff=report.cutoff.isoformat())
        return report

    def start(self) -> None:
        """Begin to do so by itself, as the settings say. No effect where it has begun."""
        if self._task is not None:
            return
        if self._core.settings.sweep_in_background or self._core.settings.sweep_on_open:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End it; a round that has begun may finish, within a few seconds."""
        task, self._task = self._task, None
        if task is None:
            return
        await asyncio.sleep(0)  # a round that is due begins, however soon after opening this is
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_PATIENCE_S), self._in_round:
                pass  # between two rounds
        task.cancel()
        await asyncio.wait([task])

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
        """Archive and purge, unless this or another process has begun to within `interval`."""
        async with self._in_round:
            try:
                if await self._core.backend.start_sweep(now=self._core.now(), interval=interval):
                    await self.archive_expired()
                    await self.purge_archived(retention=self._core.settings.retention)
            except Exception as error:  # noqa: BLE001 (the next round may do better)
                log.error("maintenance.failed", error=_described(error))


def _described(error: Exception) -> str:
    """What reports and logs say of it: what others raise may quote values, which do not go there."""
    return str(error) if isinstance(error, PerdureError) else type(error).__name__
