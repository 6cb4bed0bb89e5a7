"""Reading sessions, each as of one instant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from perdure.backends.protocol import Copy, HistoryPage, Tombstone
from perdure.backends.redis.codec import pairs_of, read_head, read_session, texts_of
from perdure.backends.redis.keys import Layout
from perdure.backends.redis.meanings import mapped
from perdure.backends.redis.scripting import script
from perdure.backends.redis.sending import Call, Transaction, Wire, Word
from perdure.backends.redis.writing import damaged
from perdure.errors import CorruptDataError
from perdure.models import StoredSession
from perdure.models.times import from_micros

__all__ = ["Reading"]

ASKED_AT_ONCE = 1_000
"""Ids that one script looks up."""


class Reading:
    """`read`, `queries`, `copies`."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        self._wire = wire
        self._layout = layout

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """See `SessionBackend.read`."""
        fields, bodies = await self._wire.send(self._read_call(session_id, history))
        return _session(session_id, fields, bodies, history=history)

    async def read_many(self, session_ids: Sequence[UUID]) -> list[StoredSession | CorruptDataError | None]:
        """Whole sessions, in one round trip to each server; what is damaged about one is given in its place.

        Raises:
            BackendError: some were not answered, so that nobody knows what they are.
        """
        replies = await self._wire.send_all([self._read_call(session_id, None) for session_id in session_ids])
        found: list[StoredSession | CorruptDataError | None] = []
        for session_id, reply in zip(session_ids, replies, strict=True):
            try:
                if isinstance(reply, Exception):
                    raise reply
                found.append(_session(session_id, *reply))
            except CorruptDataError as error:
                found.append(error)
        return found

    async def queries(
        self,
        session_id: UUID,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        owner: str | None = None,
    ) -> HistoryPage | None:
        """See `SessionBackend.queries`."""
        whose = "" if owner is None else f"={owner}"
        arguments: list[Word] = [after, "" if before is None else before, limit, whose]
        bucket, keys = self._layout.place(session_id)
        reply = await self._wire.send(Call(script("queries"), bucket, keys, arguments))
        if reply is None:
            return None
        if reply[0] == b"damaged":
            raise damaged(session_id, reply[1].decode())
        total, first, bodies = reply
        return HistoryPage(texts_of(bodies), first, total)

    async def copies(self, session_ids: Sequence[UUID]) -> dict[UUID, Copy | Tombstone]:
        """See `SessionBackend.copies`."""
        self._wire.require_open()
        buckets: dict[int, list[UUID]] = {}
        for session_id in dict.fromkeys(session_ids):
            buckets.setdefault(self._layout.bucket_of(session_id), []).append(session_id)
        groups = [
            (bucket, ids[first : first + 1_000])
            for bucket, ids in buckets.items()
            for first in range(0, len(ids), 1_000)
        ]
        calls = [
            Call(
                script("copies"),
                bucket,
                (self._layout.tombs(bucket), *(self._layout.session(known) for known in ids)),
                [known.bytes for known in ids],
            )
            for bucket, ids in groups
        ]
        found: dict[UUID, Copy | Tombstone] = {}
        for (_, ids), reply in zip(groups, await self._wire.send_all(calls), strict=True):
            if isinstance(reply, Exception):
                raise reply
            for session_id, (facts, tomb) in zip(ids, reply, strict=True):
                if facts is not None:
                    found[session_id] = _copy(session_id, facts)
                elif tomb is not None:
                    found[session_id] = Tombstone(from_micros(int(float(tomb))))
        return found

    def _read_call(self, session_id: UUID, history: int | None) -> Call:
        """Not a script: one that only hands on what it reads takes three times as long as reading it."""
        bucket, (key, queries) = self._layout.place(session_id)
        first, last = (1, 0) if history == 0 else (0 if history is None else -history, -1)
        return Transaction(bucket, ("HGETALL", key), ("LRANGE", queries, first, last))


def _session(session_id: UUID, fields: Any, bodies: Any, *, history: int | None = None) -> StoredSession | None:
    for part in (fields, bodies):
        if isinstance(part, Exception):
            raise mapped(part) from part
    if not fields:
        return None
    try:
        return read_session(session_id, pairs_of(fields), bodies, history=history)
    except (ValueError, OverflowError) as error:
        raise damaged(session_id, error) from error


def _copy(session_id: UUID, facts: Any) -> Copy:
    if isinstance(facts, Exception):
        raise mapped(facts) from facts
    try:
        row = facts.split(b" ", 11)
        return Copy(int(row[0]), read_head(row[11], row[10]), row[7].isdigit())
    except (ValueError, IndexError) as error:
        raise damaged(session_id, error) from error
