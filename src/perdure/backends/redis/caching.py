"""Copies of what another backend is the truth of, which fade: keys of their own, with a time to live."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from perdure.backends.redis.codec import encoded, pairs_of, read_session
from perdure.backends.redis.keys import Layout
from perdure.backends.redis.scripting import script
from perdure.backends.redis.sending import Call, Wire, Word
from perdure.backends.redis.writing import damaged
from perdure.models import StoredSession

__all__ = ["RedisCache"]

TICKET_MS = 60_000
"""How long a ticket is good."""

SHARED_MS = 1_000
"""How old a ticket may be to be given to one more reader: the life of a copy counts from when its ticket was taken."""


class RedisCache:
    """A `SessionCache`, in the buckets of its ids, seen by nothing else there.

    A copy is kept for its lifetime from the moment when the ticket was taken, not from when it is filled: what a slow
    reader brings is as old as its ticket.
    """

    def __init__(self, wire: Wire, layout: Layout) -> None:
        self._wire = wire
        self._layout = layout

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """See `SessionCache.read`."""
        copy, queries, _ = self._layout.cached(session_id)
        wanted = "" if history is None else history
        reply = await self._wire.send(self._call("cached", session_id, (copy, queries), (wanted,)))
        if reply is None:
            return None
        fields = pairs_of(reply[0])
        for own in (b"N", b"T"):
            fields.pop(own, None)
        try:
            return read_session(session_id, fields, reply[1], history=len(reply[1]))
        except (ValueError, OverflowError) as error:
            raise damaged(session_id, error) from error

    async def ticket(self, session_id: UUID) -> str:
        """See `SessionCache.ticket`."""
        keys = self._layout.cached(session_id)[2:]
        call = self._call("slot", session_id, keys, (uuid7().hex, TICKET_MS, SHARED_MS))
        return (await self._wire.send(call)).decode()  # type: ignore[no-any-return]

    async def fill(self, session: StoredSession, *, ticket: str, lifetime: timedelta) -> bool:
        """See `SessionCache.fill`."""
        form = encoded(session)
        arguments: list[Word] = [
            ticket,
            round(lifetime.total_seconds() * 1000),
            TICKET_MS,
            form.facts,
            form.labels,
            form.writers,
            len(form.entries),
            *form.entries,
            *form.bodies,
        ]
        call = self._call("fill", session.id, self._layout.cached(session.id), arguments, writes=True)
        return await self._wire.send(call) == 1  # type: ignore[no-any-return]

    async def drop(self, session_ids: Sequence[UUID]) -> None:
        """See `SessionCache.drop`."""
        calls = [self._call("drop", known, self._layout.cached(known), ()) for known in dict.fromkeys(session_ids)]
        for reply in await self._wire.send_all(calls):
            if isinstance(reply, Exception):
                raise reply

    def _call(
        self, name: str, session_id: UUID, keys: Sequence[str], arguments: Sequence[Word], *, writes: bool = False
    ) -> Call:
        return Call(script(name), self._layout.bucket_of(session_id), keys, arguments, writes=writes)
