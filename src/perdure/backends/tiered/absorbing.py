"""`acknowledge="hot"`: taking whole sessions from elsewhere, each into the tier that holds it or where it belongs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from uuid import UUID

from perdure.backends.protocol import Absorbed, Copy, SessionBackend
from perdure.backends.tiered.sweeping import HotSweep
from perdure.backends.tiered.tier import Tier
from perdure.backends.waves import waves
from perdure.errors import BackendError
from perdure.merging import AbsorbOutcome
from perdure.models import StoredSession

__all__ = ["HotAbsorption"]

TRIES = 8
"""How often a copy is taken that is written to meanwhile."""

_CHANGED = (AbsorbOutcome.STORED, AbsorbOutcome.MERGED, AbsorbOutcome.FORKED)


class HotAbsorption:
    """`absorb`: what moves between the tiers meanwhile is united where it arrives."""

    def __init__(self, hot: Tier, archive: Tier, sweep: HotSweep) -> None:
        self._hot = hot
        self._archive = archive
        self._sweep = sweep

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        """See `SessionBackend.absorb`: into the tier that holds the id; else active ones into hot, others not."""
        report: dict[int, Absorbed] = {}
        for places in waves(sessions):
            done = await self._absorb_each_once([sessions[place] for place in places], tickets)
            report.update(zip(places, done, strict=True))
        return [report[place] for place in range(len(sessions))]

    async def _absorb_each_once(
        self, sessions: Sequence[StoredSession], tickets: Mapping[UUID, str] | None
    ) -> list[Absorbed]:
        ids = [session.id for session in sessions]
        held = await self._sweep.held(ids)
        kept = await self._archive.run(lambda archive: archive.copies(ids))
        report: dict[int, Absorbed] = {}
        to_hot, to_archive = dict[int, StoredSession](), dict[int, StoredSession]()
        for place, session in enumerate(sessions):
            if session.id not in held and tickets is not None and isinstance(kept.get(session.id), Copy):
                report[place] = Absorbed(session.id, AbsorbOutcome.REFUSED)
            elif session.id in held:
                to_hot[place] = session
            elif session.id in kept or (session.archived_at is not None and tickets is None):
                to_archive[place] = session
            else:
                to_hot[place] = session
        if to_archive:
            to_hot |= await self._into_archive(to_archive, report)
        if to_hot:
            await self._into_hot(to_hot, report, tickets)
        return [report[place] for place in range(len(sessions))]

    async def _into_archive(
        self, sessions: Mapping[int, StoredSession], report: dict[int, Absorbed]
    ) -> dict[int, StoredSession]:
        """Absorb into the archive, and add to the report by place; gives those that hot holds by now as well."""
        those = list(sessions.values())
        done = await self._archive.run(lambda archive: archive.absorb(those), stores=True)
        report.update(zip(sessions, done, strict=True))
        for voided in await self._sweep.evict(those):  # it is their tickets that are meant
            if isinstance(voided, BackendError):
                raise voided
        came_back = await self._sweep.held([session.id for session in those])
        return {place: session for place, session in sessions.items() if isinstance(came_back.get(session.id), Copy)}

    async def _into_hot(
        self, sessions: Mapping[int, StoredSession], report: dict[int, Absorbed], tickets: Mapping[UUID, str] | None
    ) -> None:
        """Absorb into hot, and give to the archive what belongs there after all; adds to the report by place."""
        those = list(sessions.values())
        done = await self._hot.run(lambda hot: hot.absorb(those, tickets=tickets), stores=True)
        stored = [absorbed.session_id for absorbed in done if absorbed.outcome is AbsorbOutcome.STORED]
        report.update((place, report.get(place, absorbed)) for place, absorbed in zip(sessions, done, strict=True))
        if stored and tickets is None:
            # Where it was archived just now, the copy in hot would judge over what the archive has.
            for session_id in await self._archive.run(lambda archive: archive.copies(stored)):
                await self._unite_in_archive(session_id)
        for session, absorbed in zip(those, done, strict=True):
            # What was archived here already is not told of yet, and has to be.
            if session.archived_at is not None and absorbed.outcome in _CHANGED:
                await self._put_away(session.id)

    async def _unite_in_archive(self, session_id: UUID) -> None:
        """Give what hot has to the archive as it is, active or not."""
        for _ in range(TRIES):
            stored = await self._hot.run(partial(_read, session_id=session_id))
            if stored is None:
                return
            await self._archive.run(partial(_absorb, session=stored), stores=True)
            (evicted,) = await self._sweep.evict([stored])
            if isinstance(evicted, BackendError):
                raise evicted
            if evicted:
                return

    async def _put_away(self, session_id: UUID) -> None:
        """Move a session to the archive that is archived in hot by now: hot holds what is active."""
        stored = await self._hot.run(partial(_read, session_id=session_id))
        if stored is not None and stored.archived_at is not None:
            await self._sweep.move([stored], stored.archived_at, _nobody)


async def _read(backend: SessionBackend, *, session_id: UUID) -> StoredSession | None:
    return await backend.read(session_id)


async def _absorb(backend: SessionBackend, *, session: StoredSession) -> list[Absorbed]:
    return await backend.absorb([session])


async def _nobody(sessions: Sequence[StoredSession]) -> None:
    """There is nothing to tell: the sessions came archived."""
