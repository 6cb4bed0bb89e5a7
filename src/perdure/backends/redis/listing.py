"""Listing sessions: the indices of all buckets, read side by side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
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

    async def matching(self, wanted: SessionFilter, *, batch: int) -> AsyncIterator[list[UUID]]:
        """The ids of all that match, newest first, so many at a time."""
        below: SortKey | None = None
        while rows := await self._rows(wanted, below, batch, facts=False):
            yield [id_of(row.id) for row in rows]
            below = _instant(rows[-1].score), id_of(rows[-1].id)

    async def _rows(self, wanted: SessionFilter, below: SortKey | None, limit: int, *, facts: bool) -> list[Row]:
        """The next entries that match, `limit` of them unless there are no more."""
        found: list[Row] = []
        start = None if below is None else (score_of(below[0]), below[1].bytes)
        apart = self._wire.servers.is_cluster
        while len(found) < limit:
            rows, start = await self._piece(wanted, start, limit - len(found), facts=facts and not apart)
            found += rows
            if start is None:
                break
        return await self._with_facts(found) if facts and apart else found

    async def _piece(
        self, wanted: SessionFilter, start: tuple[int, bytes] | None, limit: int, *, facts: bool
    ) -> tuple[list[Row], tuple[int, bytes] | None]:
        """Entries below `start`, and where it goes on if a script had looked at enough before it had as many."""
        score, key = ("", b"") if start is None else start
        before, after = wanted.created_before, wanted.created_after
        arguments: list[Word] = [
            limit,
            "1" if facts else "",
            KINDS[wanted.archived],
            score,
            key,
            "" if before is None else score_of(before),
            "" if after is None else score_of(after),
            EXAMINED,
            *wanted_labels(wanted),
        ]
        bases = self._layout.bases
        groups = [[base] for base in bases] if self._wire.servers.is_cluster else [bases]
        calls = [Call(script("find"), bucket, group, arguments) for bucket, group in enumerate(groups)]
        rows: list[Row] = []
        ends: list[tuple[int, bytes]] = []
        for reply in await self._wire.send_all(calls):
            if isinstance(reply, Exception):
                raise reply
            rows += [Row(int(one[1]), one[0], *one[2:]) for one in reply[0]]
            ends += [(int(end[0]), end[1]) for end in reply[1:]]
        end = max(ends, default=None)
        rows = sorted((row for row in rows if end is None or row[:2] > end), key=lambda row: row[:2], reverse=True)
        return rows[:limit], None if len(rows) >= limit else end

    async def _with_facts(self, rows: Sequence[Row]) -> list[Row]:
        buckets: dict[int, list[Row]] = {}
        for row in rows:
            buckets.setdefault(self._layout.bucket_of(id_of(row.id)), []).append(row)
        calls = [
            Call(script("facts"), bucket, [self._layout.session(id_of(row.id)) for row in theirs], ())
            for bucket, theirs in buckets.items()
        ]
        facts: dict[bytes, Any] = {}
        for theirs, reply in zip(buckets.values(), await self._wire.send_all(calls), strict=True):
            if isinstance(reply, Exception):
                raise reply
            facts |= {row.id: one for row, one in zip(theirs, reply, strict=True)}
        return [row._replace(facts=facts[row.id]) for row in rows]


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
