"""Whole sessions that come from elsewhere or go there: absorbing, claiming, archiving, retention."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from perdure.backends.protocol import Absorbed, Archived, ArchiveOutcome, Claimed, Deliver, Purged
from perdure.backends.redis.codec import instant_of, pairs_of, read_session, score_of, stored_form, written
from perdure.backends.redis.keys import Layout
from perdure.backends.redis.listing import id_of
from perdure.backends.redis.measuring import AT_ONCE, purged_text
from perdure.backends.redis.reading import Reading
from perdure.backends.redis.scripting import script
from perdure.backends.redis.sending import Call, Wire, Word
from perdure.backends.redis.writing import UNSTORABLE, store_call
from perdure.backends.waves import waves
from perdure.errors import BackendError, StorageFullError, StorageReadOnlyError
from perdure.merging import AbsorbOutcome, merge
from perdure.models import StoredSession

__all__ = ["Moving"]

ABANDONED = timedelta(hours=1)
"""After so long nobody comes back with a ticket."""


class Moving:
    """`absorb`, `claim_expired`, `archive`, `purge`."""

    def __init__(self, wire: Wire, layout: Layout, reading: Reading) -> None:
        self._wire = wire
        self._layout = layout
        self._reading = reading

    # Absorbing --------------------------------------------------------------------------------------

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        """See `SessionBackend.absorb`: one round trip for what is new, two more for what has to be merged."""
        self._wire.require_open()
        report: dict[int, Absorbed] = {}
        for wave in waves(sessions):
            chosen = {number: sessions[number] for number in wave}
            report |= await self._absorb_wave(chosen, tickets)
        return [report[number] for number in range(len(sessions))]

    async def _absorb_wave(
        self, sessions: Mapping[int, StoredSession], tickets: Mapping[UUID, str] | None
    ) -> dict[int, Absorbed]:
        """Sessions of different ids."""
        report: dict[int, Absorbed] = {}
        calls: dict[int, Call] = {}
        for number, session in sessions.items():
            try:
                calls[number] = self._store_call(session, tickets)
                calls[number].packed()
            except UNSTORABLE as error:
                calls.pop(number, None)
                report[number] = Absorbed(session.id, AbsorbOutcome.FAILED, str(error))
        replies = await self._wire.send_all(list(calls.values()))
        _raise_if_nothing_is_stored(replies)
        for number, reply in zip(calls, replies, strict=True):
            session = sessions[number]
            try:
                report[number] = Absorbed(session.id, await self._outcome(session, reply))
            except (*UNSTORABLE, BackendError) as error:
                report[number] = Absorbed(session.id, AbsorbOutcome.FAILED, str(error))
        return report

    def _store_call(self, session: StoredSession, tickets: Mapping[UUID, str] | None) -> Call:
        form = stored_form(session)
        if tickets is None:
            return store_call(self._layout, session.id, form, purpose="absorb")
        return store_call(self._layout, session.id, form, purpose="fill", ticket=tickets.get(session.id, ""))

    async def _outcome(self, session: StoredSession, reply: Any) -> AbsorbOutcome:
        """What became of a session, after it was merged with the copy that is kept, where there is one."""
        become = AbsorbOutcome.STORED
        while not isinstance(reply, Exception):
            if reply[0] == b"stored":
                return become
            if reply[0] == b"damaged":
                raise ValueError(f"what is kept of it cannot be read: {reply[1].decode()}")
            if reply[0] != b"kept":
                return AbsorbOutcome(reply[0].decode())
            kept = read_session(session.id, pairs_of(reply[1]), reply[2])
            become, merged = merge(kept, session)
            if become is AbsorbOutcome.UNCHANGED:
                return become
            over = kept.version, kept.head
            call = store_call(self._layout, session.id, stored_form(merged), purpose="absorb", over=over)
            reply = await self._wire.send(call)
        raise reply

    # Claiming ---------------------------------------------------------------------------------------

    async def claim_expired(self, *, now: datetime, lease: timedelta, limit: int, max_bytes: int) -> Claimed:
        """See `SessionBackend.claim_expired`: one script for all buckets, or a look at each where they are apart."""
        self._wire.require_open()
        ends = score_of(now + lease)
        if self._wire.servers.is_cluster:
            return await self._claim_apart(score_of(now), ends, limit, max_bytes)
        keys = tuple(self._layout.every_due())
        call = Call(script("claim"), 0, keys, (score_of(now), ends, limit, max_bytes))
        return _claimed(await self._wire.send(call))

    async def _claim_apart(self, now: int, ends: int, limit: int, max_bytes: int) -> Claimed:
        """Choose among what is due in all buckets, then take it; again where others were faster."""
        taken: list[Any] = []
        room = max_bytes
        while len(taken) < limit and (chosen := await self._chosen(now, limit - len(taken), room, bool(taken))):
            calls = [
                Call(script("claim"), bucket, (self._layout.due(bucket),), (now, ends, len(ids), max_bytes, *ids))
                for bucket, ids in chosen.items()
            ]
            got: list[Any] = []
            for reply in await self._wire.send_all(calls):
                if isinstance(reply, Exception):
                    raise reply
                got += reply
            taken += got
            if len(got) == sum(map(len, chosen.values())):
                break
            room -= sum(session.size_bytes for session in _claimed(got))
        claimed = _claimed(taken)
        claimed.sessions.sort(key=lambda session: (session.expires_at, session.id))
        return claimed

    async def _chosen(self, now: int, limit: int, room: int, has_some: bool) -> dict[int, list[bytes]]:
        """By bucket, the ids of the longest due, within the bounds."""
        calls = [
            Call(script("due"), bucket, (self._layout.due(bucket),), (now, limit))
            for bucket in range(self._layout.buckets)
        ]
        due: list[tuple[float, bytes, int, int]] = []
        for bucket, reply in enumerate(await self._wire.send_all(calls)):
            if isinstance(reply, Exception):
                raise reply
            due += [(float(score), raw, size, bucket) for raw, score, size in reply]
        chosen: dict[int, list[bytes]] = {}
        for number, (_, raw, size, bucket) in enumerate(sorted(due)[:limit]):
            room -= size
            if room < 0 and (number or has_some):
                break
            chosen.setdefault(bucket, []).append(raw)
        return chosen

    # Archiving --------------------------------------------------------------------------------------

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        """See `SessionBackend.archive`: two round trips, and what `deliver` takes."""
        self._wire.require_open()
        calls = [self._this("archive", session, written(at)) for session in sessions]
        report: list[Archived] = []
        archived: list[StoredSession] = []
        for session, reply in zip(sessions, await self._wire.send_all(calls), strict=True):
            if isinstance(reply, Exception) or reply[0] == b"damaged":
                why = str(reply) if isinstance(reply, Exception) else reply[1].decode()
                report.append(Archived(session.id, ArchiveOutcome.FAILED, why))
                continue
            report.append(Archived(session.id, ArchiveOutcome(reply[0].decode())))
            if reply[0] == b"archived":
                archived.append(replace(session, archived_at=instant_of(reply[1])))
        if archived:
            await deliver(archived)
            for reply in await self._wire.send_all([self._this("settle", session) for session in archived]):
                if isinstance(reply, Exception):
                    raise reply
        return report

    def _this(self, name: str, session: StoredSession, *more: str) -> Call:
        bucket, (key, _) = self._layout.place(session.id)
        keys = (key, self._layout.due(bucket)) if name == "settle" else (key,)
        return Call(script(name), bucket, keys, (session.id.bytes, session.version, session.head, *more))

    # Retention --------------------------------------------------------------------------------------

    async def purge(
        self,
        *,
        archived_before: datetime,
        now: datetime,
        limit: int,
        among: Collection[UUID] | None = None,
        dry_run: bool = False,
    ) -> Purged:
        """See `SessionBackend.purge`: a look at what is old enough, then each of it if it still is."""
        self._wire.require_open()
        before = score_of(archived_before)
        old = await (self._old(before, limit + 1) if among is None else self._old_among(before, among))
        chosen = old[:limit]
        if dry_run:
            return Purged([id_of(raw) for raw in chosen], more=len(old) > limit)
        gone: list[UUID] = []
        for start in range(0, len(chosen), AT_ONCE):
            gone += await self._purged(chosen[start : start + AT_ONCE], before)
        await self._forget(now)
        return Purged(gone, more=len(old) > limit)

    async def _purged(self, chosen: Sequence[bytes], before: int) -> list[UUID]:
        """Those of these that are removed, read whole before for what they count."""
        gone: list[UUID] = []
        whole = await self._reading.read_many([id_of(raw) for raw in chosen])
        calls = [self._purge_call(raw, before, session) for raw, session in zip(chosen, whole, strict=True)]
        for raw, reply in zip(chosen, await self._wire.send_all(calls), strict=True):
            if isinstance(reply, Exception):
                raise reply
            gone += [id_of(raw)] if reply else []
        return gone

    async def _old(self, before: int, limit: int) -> list[bytes]:
        """Ids of what was archived before that instant, the longest archived first."""
        calls = [
            Call(script("old"), bucket, (self._layout.old(bucket),), (before, limit))
            for bucket in range(self._layout.buckets)
        ]
        return [raw for _, raw in sorted(await self._scored(calls))][:limit]

    async def _old_among(self, before: int, among: Collection[UUID]) -> list[bytes]:
        buckets: dict[int, list[bytes]] = {}
        for session_id in set(among):
            buckets.setdefault(self._layout.bucket_of(session_id), []).append(session_id.bytes)
        calls = [
            Call(script("old_among"), bucket, (self._layout.old(bucket),), (before, *ids[first : first + 5_000]))
            for bucket, ids in buckets.items()
            for first in range(0, len(ids), 5_000)
        ]
        return [raw for _, raw in sorted(await self._scored(calls))]

    async def _scored(self, calls: Sequence[Call]) -> list[tuple[float, bytes]]:
        found: list[tuple[float, bytes]] = []
        for reply in await self._wire.send_all(calls):
            if isinstance(reply, Exception):
                raise reply
            found += zip(map(float, reply[1::2]), reply[::2], strict=True)
        return found

    def _purge_call(self, raw: bytes, before: int, session: StoredSession | Exception | None) -> Call:
        bucket, (key, _) = self._layout.place(id_of(raw))
        left: tuple[Word, ...] = ("", "", "", "")
        if isinstance(session, StoredSession) and session.archived_at is not None:
            left = (score_of(session.created_at), session.version, session.head, purged_text(session))
        return Call(script("purge"), bucket, (key,), (raw, before, *left), writes=True)

    async def _forget(self, now: datetime) -> None:
        """Drop what served its time: old tombstones, and tickets whose takers never came back."""
        arguments = (score_of(now), score_of(now - ABANDONED))
        calls = [
            Call(script("forget"), bucket, (self._layout.tombs(bucket), *self._layout.tickets(bucket)), arguments)
            for bucket in range(self._layout.buckets)
        ]
        for reply in await self._wire.send_all(calls):
            if isinstance(reply, Exception):
                raise reply


def _claimed(rows: Sequence[Any]) -> Claimed:
    claimed = Claimed([])
    for raw, fields, bodies in rows:
        session_id = id_of(raw)
        wrong = next((part for part in (fields, bodies) if isinstance(part, Exception)), None)
        try:
            if wrong is not None or not fields:
                raise ValueError(wrong or "its data is gone; has the server evicted it?")
            claimed.sessions.append(read_session(session_id, pairs_of(fields), bodies))
        except (ValueError, OverflowError) as error:
            claimed.unreadable[session_id] = str(error)
    return claimed


def _raise_if_nothing_is_stored(replies: Sequence[Any]) -> None:
    """A server that takes nothing is no fault of the sessions."""
    full = [reply for reply in replies if isinstance(reply, StorageFullError | StorageReadOnlyError)]
    if full and len(full) == len(replies):
        raise full[0]
