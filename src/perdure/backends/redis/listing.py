"""Listing sessions: the indices of all buckets, read side by side."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from perdure.backends.cursors import SortKey, read_cursor, write_cursor
from perdure.backends.labels import wanted_labels
from perdure.backends.redis.codec import read_summary, score_of
from perdure.backends.redis.keys import Layout
from perdure.backends.redis.scripting import script
from perdure.backends.redis.sending import Call, Wire, Word
from perdure.logs import EventLog
from perdure.models import Page, SessionFilter, SessionSummary
from perdure.models.times import from_micros

__all__ = ["Listing", "id_of"]

log = EventLog("perdure.redis")

EXAMINED = 20_000
"""Entries that one script looks at before it lets others have their turn."""

KINDS = {None: "az", False: "a", True: "z"}
LATEST = datetime.max.replace(tzinfo=UTC)
NIL = UUID(int=0)


class Row(NamedTuple):
    """An entry of an index: its score, its id as it is stored, and the facts, where they were asked for."""

    score: int
    id: bytes
    facts: Any = None


class Listing:
    """`find`, and what else goes through the indices."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        self._wire = wire
        self._layout = layout

    async def find(self, wanted: SessionFilter, *, cursor: str | None = None, limit: int) -> Page[SessionSummary]:
        """See `SessionBackend.find`: one script for all buckets, or one for each where they are on several servers."""
        self._wire.require_open()
        below = read_cursor(cursor)
        while True:
            rows = await self._rows(wanted, below, limit + 1, facts=True)
            found = list(_readable(rows[:limit]))
            if len(rows) <= limit:
                return Page(found)
            last = rows[limit - 1]
            below = _instant(last.score), id_of(last.id)
            if found:
                return Page(found, write_cursor(below))

    async def matching(
        self, wanted: SessionFilter, *, batch: int, below: SortKey | None = None
    ) -> AsyncIterator[list[UUID]]:
        """The ids of all that match, newest first from below a sort key on, so many at a time."""
        while rows := await self._rows(wanted, below, batch, facts=False):
            yield [id_of(row.id) for row in rows]
            below = _instant(rows[-1].score), id_of(rows[-1].id)

    async def _rows(self, wanted: SessionFilter, below: SortKey | None, limit: int, *, facts: bool) -> list[Row]:
        """The next entries that match, `limit` of them unless there are no more."""
        found: list[Row] = []
        start = None if below is None else (score_of(below[0]), below[1].bytes)
        while len(found) < limit:
            rows, start = await self._piece(wanted, start, limit - len(found), facts=facts)
            found += rows
            if start is None:
                break
        return found

    async def _piece(
        self, wanted: SessionFilter, start: tuple[int, bytes] | None, limit: int, *, facts: bool
    ) -> tuple[list[Row], tuple[int, bytes] | None]:
        """Entries below `start`, at most `limit`, and where it goes on, unless these were the last.

        Where the buckets are apart, each is asked for so much more than its share that it is enough, but for one time
        in a few: then the next piece has the rest.
        """
        bases = self._layout.bases
        apart = self._wire.servers.is_cluster
        groups = [[base] for base in bases] if apart else [bases]
        even = limit / len(bases)
        share = min(limit, math.ceil(even + 2 * math.sqrt(even) + 3)) if apart else limit
        score, key = ("", b"") if start is None else start
        before, after = wanted.created_before, wanted.created_after
        arguments: list[Word] = [
            share,
            "1" if facts else "",
            KINDS[wanted.archived],
            score,
            key,
            "" if before is None else score_of(before),
            "" if after is None else score_of(after),
            EXAMINED,
            *wanted_labels(wanted),
        ]
        calls = [Call(script("find"), bucket, group, arguments) for bucket, group in enumerate(groups)]
        rows: list[Row] = []
        ends: list[tuple[int, bytes]] = []
        for reply in await self._wire.send_all(calls):
            if isinstance(reply, Exception):
                raise reply
            theirs = [Row(int(one[1]), *one[::2]) for one in reply[0]]
            rows += theirs
            if len(reply) > 1:
                ends.append((int(reply[1][0]), reply[1][1]))
            elif len(theirs) == share:
                ends.append(theirs[-1][:2])
        end = max(ends, default=None)  # of one of them nobody knows what is below that
        rows = sorted((row for row in rows if end is None or row[:2] >= end), key=lambda row: row[:2], reverse=True)
        return rows[:limit], end if len(rows) <= limit else rows[limit - 1][:2]


def _readable(rows: Iterable[Row]) -> Iterable[SessionSummary]:
    """The summaries of rows; one that cannot be read is left out and logged, and hides no other."""
    for row in rows:
        session_id = id_of(row.id)
        try:
            if isinstance(row.facts, Exception):
                raise ValueError(str(row.facts))
            session = read_summary(session_id, *row.facts)
            if score_of(session.created_at) != row.score and row.score < 2**53:
                raise ValueError("its index and its facts differ in when it was created")
            yield SessionSummary.of(session)
        except (ValueError, OverflowError, IndexError) as error:
            log.warning("session.unreadable", session_id=str(session_id), error=str(error))


def id_of(raw: bytes) -> UUID:
    """The id in an index; of something else that somebody put there, one made of it."""
    return UUID(bytes=raw) if len(raw) == 16 else uuid5(NIL, raw.hex())


def _instant(score: int) -> datetime:
    try:
        return from_micros(score)
    except OverflowError:  # rounded past the last instant that there is
        return LATEST
