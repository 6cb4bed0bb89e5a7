"""`acknowledge="hot"`: active sessions live in the hot tier, and the archive gets them when they have expired.

A copy in the hot tier always judges over the archive's. What the archive holds comes back into an empty hot slot only
with a ticket that was taken there before the archive was read, and only together with the change that revives it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from uuid import UUID

from perdure.backends.protocol import Copy, HistoryPage, SessionBackend, Tombstone
from perdure.backends.tiered.losses import Losses
from perdure.backends.tiered.tier import Tier
from perdure.changes import Applied, SessionChange, apply_whole, recall
from perdure.errors import BackendUnavailableError, SessionExistsError, SessionNotFoundError
from perdure.merging import AbsorbOutcome
from perdure.models import StoredSession

__all__ = ["HotSessions"]

TRIES = 8
"""How often a session is looked for that moves between the tiers; each further try needs another move in between."""


class HotSessions:
    """The verbs that are about one session."""

    def __init__(self, hot: Tier, archive: Tier, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._hot = hot
        self._archive = archive
        self.losses = Losses(hot, seconds=seconds)

    async def create(self, session: StoredSession, *, fresh: bool = False) -> None:
        """See `SessionBackend.create`. A session that comes archived goes to the archive."""
        if session.archived_at is not None:
            await self._create_archived(session)
        elif fresh:
            await self._hot.run(lambda hot: hot.create(session, fresh=True), stores=True)
        else:
            await self._create_unknown(session)
        self.losses.acknowledge(session.id, session.version)

    async def _create_unknown(self, session: StoredSession) -> None:
        """Create under an id that the archive may hold: with a ticket, as what it holds may just be coming from hot."""
        for _ in range(TRIES):
            ticket = await self._ticket(session.id, session.created_at)
            if await self._archive.run(lambda archive: archive.copies([session.id])):
                raise SessionExistsError(session.id)
            match await self._fill(session, ticket):
                case AbsorbOutcome.STORED:
                    return
                case AbsorbOutcome.REFUSED if await self._standing(session.id) is None:
                    continue  # the ticket was void, and yet nothing is there: it may have gone to the archive
                case _:
                    raise SessionExistsError(session.id)
        raise self._moving(session.id)

    async def _create_archived(self, session: StoredSession) -> None:
        if await self._standing(session.id) is not None:
            raise SessionExistsError(session.id)
        await self._archive.run(lambda archive: archive.create(session), stores=True)
        this = partial(_evict, session_id=session.id, version=session.version, head=session.head)
        await self._hot.run(this)  # voids the tickets of whoever found the archive empty
        if await self._standing(session.id) is not None:  # somebody's was good until then
            await self._archive.run(this)
            raise SessionExistsError(session.id)

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """See `SessionBackend.read`. While hot cannot be asked: the archive's copy, marked as stale."""
        known = self.losses.acknowledged(session_id)
        for _ in range(TRIES):
            try:
                stored = await self._hot.run(lambda hot: hot.read(session_id, history=history))
            except BackendUnavailableError:
                stored = await self._archive.run(lambda archive: archive.read(session_id, history=history))
                return self._stale(session_id, stored)
            if stored is not None:
                await self.losses.compare(session_id, acknowledged=known, found=stored.version)
                return stored
            stored = await self._archive.run(lambda archive: archive.read(session_id, history=history))
            try:
                # Asked only now: what was restored and then purged meanwhile is not absent.
                standing = await self._standing(session_id)
            except BackendUnavailableError:
                return self._stale(session_id, stored)
            match standing:
                case Tombstone():
                    return None
                case None:
                    found = 0 if stored is None else stored.version
                    await self.losses.compare(session_id, acknowledged=known, found=found)
                    return stored
        raise self._moving(session_id)

    def _stale(self, session_id: UUID, stored: StoredSession | None) -> StoredSession:
        """What the archive has, while nobody knows whether hot has something later."""
        if stored is None:
            raise BackendUnavailableError(
                self._hot.backend.name, f"session {session_id} is not in the archive, and only the hot tier would know"
            )
        stored.stale = True
        return stored

    async def queries(
        self, session_id: UUID, *, after: int = 0, before: int | None = None, limit: int, owner: str | None = None
    ) -> HistoryPage | None:
        """See `SessionBackend.queries`."""

        async def page_of(backend: SessionBackend) -> HistoryPage | None:
            return await backend.queries(session_id, after=after, before=before, limit=limit, owner=owner)

        for _ in range(TRIES):
            try:
                page = await self._hot.run(page_of)
            except BackendUnavailableError:
                return self._known_page(session_id, await self._archive.run(page_of))
            if page is not None:
                return page
            page = await self._archive.run(page_of)
            try:
                standing = await self._standing(session_id)
            except BackendUnavailableError:
                return self._known_page(session_id, page)
            match standing:
                case None:
                    return page
                case Tombstone():
                    return None
                case Copy() if owner is not None:
                    return await self._hot.run(page_of)  # another owner's: None; or it has just come back
        raise self._moving(session_id)

    def _known_page(self, session_id: UUID, page: HistoryPage | None) -> HistoryPage:
        """The page that the archive has, while hot cannot be asked."""
        if page is None:
            raise BackendUnavailableError(
                self._hot.backend.name, f"session {session_id} is not in the archive, and only the hot tier would know"
            )
        return page

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        """See `SessionBackend.apply`."""
        known = self.losses.acknowledged(session_id)
        for _ in range(TRIES):
            try:
                applied = await self._hot.run(lambda hot: hot.apply(session_id, change), stores=True)
            except SessionNotFoundError:
                if (found := await self._apply_to_absent(session_id, change, known)) is None:
                    continue
                applied = found
            if not change.is_repeat:
                await self.losses.compare(session_id, acknowledged=known, found=applied.version - 1)
            self.losses.acknowledge(session_id, applied.version)
            return applied
        raise self._moving(session_id)

    async def _apply_to_absent(self, session_id: UUID, change: SessionChange, known: int) -> Applied | None:
        """Apply to what the archive holds, and bring the result into the empty hot slot; None: look in hot again.

        The slot never holds anything in between: a crash leaves the session archived, or restored and changed.
        """
        ticket = await self._ticket(session_id, change.at)
        match await self._standing(session_id):
            case Tombstone():
                raise SessionNotFoundError(session_id)
            case Copy():
                # It is another owner's, or it came back this very moment, which the ticket then does not fit.
                return await self._hot.run(lambda hot: hot.apply(session_id, change), stores=True)
        stored = await self._archive.run(lambda archive: archive.read(session_id))
        if stored is None:
            # Asked once more: what was restored and then purged meanwhile is not absent.
            if isinstance(await self._standing(session_id), Copy):
                return None
            await self.losses.compare(session_id, acknowledged=known, found=0)
            raise SessionNotFoundError(session_id)
        if (before := recall(stored, change)) is not None:
            return before
        applied = apply_whole(stored, change)
        if change.archive:
            return await self._archive.run(lambda archive: archive.apply(session_id, change), stores=True)
        return applied if await self._fill(stored, ticket) is AbsorbOutcome.STORED else None

    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        """See `SessionBackend.delete`: the tombstone stands in hot first, so that nothing can come back from there."""
        if owner is not None:
            stored = await self.read(session_id, history=0)
            if stored is not None and stored.user_id != owner:
                return False
        in_hot = await self._hot.run(lambda hot: hot.delete(session_id, forget_at=forget_at), stores=True)
        self.losses.forget(session_id)
        in_archive = await self._archive.run(
            lambda archive: archive.delete(session_id, forget_at=forget_at, owner=owner), stores=True
        )
        return in_hot or in_archive

    async def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        """See `SessionBackend.evict`: both copies, if the one that judges is the one named."""
        this = partial(_evict, session_id=session_id, version=version, head=head)
        standing = await self._standing(session_id)
        if standing is None:
            evicted = await self._archive.run(this)
            await self._hot.run(this)  # voids tickets
        else:
            if isinstance(standing, Copy) and (standing.version, standing.head) == (version, head):
                await self._evict_checkpoint(session_id)
            evicted = await self._hot.run(this)
        if evicted:
            self.losses.forget(session_id)
        return evicted

    async def _evict_checkpoint(self, session_id: UUID) -> None:
        """Forget what the archive still has of a session that lives in hot."""
        kept = (await self._archive.run(lambda archive: archive.copies([session_id]))).get(session_id)
        if isinstance(kept, Copy):
            await self._archive.run(partial(_evict, session_id=session_id, version=kept.version, head=kept.head))

    async def _ticket(self, session_id: UUID, now: datetime) -> str:
        return await self._hot.run(lambda hot: hot.ticket(session_id, now=now), stores=True)

    async def _standing(self, session_id: UUID) -> Copy | Tombstone | None:
        """What hot keeps of the id."""
        return (await self._hot.run(lambda hot: hot.copies([session_id]))).get(session_id)

    async def _fill(self, session: StoredSession, ticket: str) -> AbsorbOutcome:
        tickets = {session.id: ticket}
        (done,) = await self._hot.run(lambda hot: hot.absorb([session], tickets=tickets), stores=True)
        if done.outcome is AbsorbOutcome.FAILED:
            raise BackendUnavailableError(self._hot.backend.name, f"session {session.id}: {done.error}")
        return done.outcome

    def _moving(self, session_id: UUID) -> BackendUnavailableError:
        return BackendUnavailableError(
            self._hot.backend.name,
            f"session {session_id} moved between the tiers {TRIES} times while it was looked for",
        )


async def _evict(backend: SessionBackend, *, session_id: UUID, version: int, head: str) -> bool:
    return await backend.evict(session_id, version=version, head=head)
