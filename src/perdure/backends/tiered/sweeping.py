"""`acknowledge="hot"`: moving what has expired to the archive, and retention.

Safe with any number of sweepers, with a crash between any two steps, and with writers that come in meanwhile: a copy
leaves the hot tier only after the archive holds it and its hooks were delivered, and only if version and head are still
those that the archive got. Otherwise what the archive holds is a checkpoint, and the session becomes due again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from perdure.backends.protocol import (
    Absorbed,
    Archived,
    ArchiveOutcome,
    Claimed,
    Copy,
    Deliver,
    Purged,
    SessionBackend,
    Tombstone,
)
from perdure.backends.tiered.losses import Losses
from perdure.backends.tiered.tier import Tier
from perdure.errors import BackendError, BackendUnavailableError
from perdure.merging import AbsorbOutcome
from perdure.models import StoredSession
from perdure.models.times import EPOCH

__all__ = ["HotSweep"]

_MOVED = {
    AbsorbOutcome.STORED: ArchiveOutcome.ARCHIVED,
    AbsorbOutcome.MERGED: ArchiveOutcome.ARCHIVED,
    AbsorbOutcome.UNCHANGED: ArchiveOutcome.ARCHIVED,  # a sweep before this one got as far; what comes after did not
    AbsorbOutcome.FORKED: ArchiveOutcome.FORKED,
}


class HotSweep:
    """The verbs that move many sessions between the tiers."""

    def __init__(self, hot: Tier, archive: Tier, losses: Losses) -> None:
        self._hot = hot
        self._archive = archive
        self._losses = losses

    async def claim_expired(self, *, now: datetime, lease: timedelta, limit: int, max_bytes: int) -> Claimed:
        """See `SessionBackend.claim_expired`: from hot; where that has none, what the archive alone has."""
        claim = partial(_claim, now=now, lease=lease, limit=limit, max_bytes=max_bytes)
        claimed = await self._hot.run(claim)
        while not claimed.sessions and not claimed.unreadable:
            found = await self._archive.attempt(claim)
            if found is None or not (found.sessions or found.unreadable):
                return claimed
            held = await self.held([session.id for session in found])
            await self._settle([session for session in found if session.id in held], held, now)
            rest = [session for session in found if session.id not in held]
            claimed = Claimed(rest, found.unreadable)
        return claimed

    async def _settle(
        self, sessions: Sequence[StoredSession], held: Mapping[UUID, Copy | Tombstone], now: datetime
    ) -> None:
        """Let what the archive has of these be due no longer, since hot judges."""
        for session in sessions:
            if isinstance(tombstone := held[session.id], Tombstone):  # deleting it was begun, and is finished here
                await self._bury_in_archive(session.id, tombstone)
        if copies := [session for session in sessions if isinstance(held[session.id], Copy)]:
            as_checkpoints = partial(_archive, sessions=copies, at=now)
            await self._archive.run_delivering(as_checkpoints, _nobody)

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        """See `SessionBackend.archive`: absorb, deliver, evict, in this order."""
        held = await self.held([session.id for session in sessions])
        report: dict[UUID, Archived] = {}
        from_hot, from_archive = list[StoredSession](), list[StoredSession]()
        for session in sessions:
            match held.get(session.id):
                case None:
                    from_archive.append(session)
                case Copy(version=version, head=head) if (version, head) == (session.version, session.head):
                    from_hot.append(session)
                case Copy():
                    report[session.id] = Archived(session.id, ArchiveOutcome.CHANGED)
                case Tombstone():
                    report[session.id] = Archived(session.id, ArchiveOutcome.DELETED)
        if from_archive:
            in_place = partial(_archive, sessions=from_archive, at=at)
            done = await self._archive.run_delivering(in_place, deliver)
            report.update((archived.session_id, archived) for archived in done)
        if from_hot:
            report.update(await self.move(from_hot, at, deliver))
        return [report[session.id] for session in sessions]

    async def move(self, sessions: list[StoredSession], at: datetime, deliver: Deliver) -> dict[UUID, Archived]:
        """Move copies of the hot tier, each of which is that version with that head as far as anybody knows."""
        moving = [
            replace(session, archived_at=at if session.archived_at is None else session.archived_at)
            for session in sessions
        ]
        absorbed = await self._archive.run(lambda archive: archive.absorb(moving), stores=True)
        report: dict[UUID, Archived] = {}
        moved = list[StoredSession]()
        for session, done in zip(moving, absorbed, strict=True):
            if (outcome := _MOVED.get(done.outcome)) is not None:
                moved.append(session)
                report[session.id] = Archived(session.id, outcome)
            elif done.outcome is AbsorbOutcome.DELETED:
                report[session.id] = await self._bury_in_hot(session.id)
            else:
                report[session.id] = Archived(session.id, ArchiveOutcome.FAILED, done.error)
        known = await self._as_they_were_archived(moved, absorbed)
        if delivered := [session for session in known if session.archived_at is not None]:
            await deliver(delivered)
        for session, evicted in zip(known, await self.evict(known), strict=True):
            if isinstance(evicted, BackendError):
                reason = f"the archive has it, and it could not be removed from where it was: {evicted}"
                report[session.id] = Archived(session.id, ArchiveOutcome.FAILED, reason)
            elif not evicted or session.archived_at is None:
                # Written to meanwhile: the archive has a checkpoint, and the session is due again.
                report[session.id] = Archived(session.id, ArchiveOutcome.CHANGED)
        return report

    async def _as_they_were_archived(
        self, moved: list[StoredSession], absorbed: Sequence[Absorbed]
    ) -> list[StoredSession]:
        """The sessions, those that a sweep before this one had archived as of when it did, so that they are told so.

        What the archive has in a later version than hot is told to be lost there; `archived_at` is None where it is
        active in that version.
        """
        before = {done.session_id for done in absorbed if done.outcome is AbsorbOutcome.UNCHANGED}
        found = []
        for session in moved:
            kept = None
            if session.id in before:
                kept = await self._archive.run(partial(_read, session_id=session.id, history=0))
            if kept is not None and kept.version > session.version:
                await self._losses.tell(session.id, acknowledged=kept.version, found=session.version)
            found.append(session if kept is None else replace(session, archived_at=kept.archived_at))
        return found

    async def evict(self, sessions: Sequence[StoredSession]) -> list[bool | BackendError]:
        """Whether each of these very copies was in hot, of which it is gone, and its tickets void; or why not.

        Each fails alone.
        """

        async def evict(hot: SessionBackend, session: StoredSession) -> bool | BackendError:
            try:
                return await hot.evict(session.id, version=session.version, head=session.head)
            except BackendError as error:
                return error

        async def evict_all(hot: SessionBackend) -> list[bool | BackendError]:
            outcomes = await asyncio.gather(*(evict(hot, session) for session in sessions))
            lost = [outcome for outcome in outcomes if isinstance(outcome, BackendUnavailableError)]
            if len(lost) == len(outcomes):
                raise lost[0]  # not one of them was answered, which the tier has to know
            return outcomes

        if not sessions:
            return []
        try:
            return await self._hot.run(evict_all)
        except BackendError as error:
            return [error] * len(sessions)

    async def _bury_in_hot(self, session_id: UUID) -> Archived:
        """The archive knows that the session was deleted: hot is told, so that it is no longer seen there either."""
        try:
            kept = (await self._archive.run(lambda archive: archive.copies([session_id]))).get(session_id)
            if isinstance(kept, Tombstone):
                forget_at = kept.forget_at
                if await self._hot.run(lambda hot: hot.delete(session_id, forget_at=forget_at), stores=True):
                    await self._losses.tell_revived(session_id)
        except BackendError as error:
            return Archived(session_id, ArchiveOutcome.FAILED, f"it was deleted, which hot could not be told: {error}")
        return Archived(session_id, ArchiveOutcome.DELETED)

    async def _bury_in_archive(self, session_id: UUID, tombstone: Tombstone) -> None:
        await self._archive.run(lambda archive: archive.delete(session_id, forget_at=tombstone.forget_at), stores=True)

    async def held(self, ids: Sequence[UUID]) -> Mapping[UUID, Copy | Tombstone]:
        """What hot keeps of these ids."""
        return await self._hot.run(lambda hot: hot.copies(ids)) if ids else {}

    async def purge(
        self,
        *,
        archived_before: datetime,
        now: datetime,
        limit: int,
        among: Sequence[UUID] | None = None,
        dry_run: bool = False,
    ) -> Purged:
        """See `SessionBackend.purge`: nothing that hot holds, so that what hot loses the archive still has."""
        dry = partial(_dry_purge, archived_before=archived_before, now=now, among=among)
        asked, free, more = limit, list[UUID](), True
        while more and len(free) < limit:
            candidates = await self._archive.run(partial(dry, limit=asked))
            held = await self.held(candidates.session_ids)
            free = [known for known in candidates.session_ids if not isinstance(held.get(known), Copy)]
            more, asked = candidates.more, asked + limit
        chosen, more = free[:limit], more or len(free) > limit
        if dry_run:
            return Purged(chosen, more)
        # In hot there is nothing to purge but tombstones and tickets that have served their time.
        await self._hot.run(lambda hot: hot.purge(archived_before=EPOCH, now=now, limit=1, among=[]))
        purged = await self._archive.run(
            lambda archive: archive.purge(archived_before=archived_before, now=now, limit=limit, among=chosen)
        )
        await self._void_tickets(purged.session_ids)
        held = await self.held(purged.session_ids)
        gone = [known for known in purged.session_ids if not isinstance(held.get(known), Copy)]  # not restored just now
        for session_id in gone:
            self._losses.forget(session_id)
        return Purged(gone, more)

    async def _void_tickets(self, ids: Sequence[UUID]) -> None:
        """So that whoever read one of these in the archive before it was removed cannot bring it back."""

        async def evict_no_copy(hot: SessionBackend) -> None:
            await asyncio.gather(*(hot.evict(session_id, version=0, head="") for session_id in ids))

        if ids:
            await self._hot.run(evict_no_copy)


async def _read(backend: SessionBackend, *, session_id: UUID, history: int | None = None) -> StoredSession | None:
    return await backend.read(session_id, history=history)


async def _claim(backend: SessionBackend, *, now: datetime, lease: timedelta, limit: int, max_bytes: int) -> Claimed:
    return await backend.claim_expired(now=now, lease=lease, limit=limit, max_bytes=max_bytes)


async def _archive(
    backend: SessionBackend, deliver: Deliver, *, sessions: Sequence[StoredSession], at: datetime
) -> list[Archived]:
    return await backend.archive(sessions, at=at, deliver=deliver)


async def _dry_purge(
    archive: SessionBackend, *, archived_before: datetime, now: datetime, limit: int, among: Sequence[UUID] | None
) -> Purged:
    return await archive.purge(archived_before=archived_before, now=now, limit=limit, among=among, dry_run=True)


async def _nobody(sessions: Sequence[StoredSession]) -> None:
    """There is nothing to tell: hot judges whether the session is active."""
