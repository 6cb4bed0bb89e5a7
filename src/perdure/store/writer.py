"""How a store writes: as one writer, with one change in flight for each session; what waits meanwhile is merged.

That is what makes a busy session fast (its waiting queries share one change), and what lets a session tell a repeat
from something new by remembering only the last change of each writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from uuid import UUID

from uuid_utils.compat import uuid7

from perdure.backends import SessionBackend
from perdure.changes import Applied, Draft, SessionChange
from perdure.errors import SessionError
from perdure.models import SectionName

__all__ = ["ChangeWriter", "Submission"]

MERGED = 500
"""Most queries that one merged change carries."""

_MERGEABLE = frozenset({"at", "owner", "max_queries", "max_state_bytes", "queries", "set_entries", "unset_entries"})


@dataclass(slots=True, eq=False)
class Submission:
    """A change on its way: `outcome` tells what became of it, `sent` what was sent for it, if it was sent alone."""

    draft: Draft
    outcome: asyncio.Future[Applied]
    alone: bool = False
    sent: SessionChange | None = None


@dataclass(slots=True)
class _Lane:
    """What waits for one session, and the task that sends it."""

    waiting: list[Submission] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class ChangeWriter:
    """Sends the changes of one store. Every caller gets its own outcome; cancelling one cancels no other."""

    def __init__(self, backend: SessionBackend) -> None:
        self.id = uuid7()
        self._backend = backend
        self._numbers = count(1)
        self._lanes: dict[UUID, _Lane] = {}

    def next_head(self) -> str:
        """A head for a session that is created rather than changed."""
        return f"{self.id.hex}.{next(self._numbers)}"

    def submit(self, session_id: UUID, draft: Draft, *, alone: bool = False) -> Submission:
        """Queue a change; `alone` keeps it from being merged with others."""
        return self._enqueue(session_id, Submission(draft, _future(), alone or not draft.keys() <= _MERGEABLE))

    def repeat(self, session_id: UUID, change: SessionChange) -> Submission:
        """Queue the very same change once more, after an attempt whose outcome is not known."""
        return self._enqueue(session_id, Submission(Draft(at=change.at), _future(), True, change.repeated()))

    async def finish(self) -> None:
        """Wait until nothing is on its way any more."""
        while tasks := [lane.task for lane in self._lanes.values() if lane.task is not None]:
            await asyncio.wait(tasks)

    def _enqueue(self, session_id: UUID, submission: Submission) -> Submission:
        lane = self._lanes.get(session_id)
        if lane is None:
            lane = self._lanes[session_id] = _Lane()
        lane.waiting.append(submission)
        if lane.task is None:
            # A task of its own, so that a cancelled caller hurts nobody who waits behind it.
            lane.task = asyncio.create_task(self._drain(session_id, lane))
        return submission

    async def _drain(self, session_id: UUID, lane: _Lane) -> None:
        try:
            while lane.waiting:
                group = _next_group(lane.waiting)
                del lane.waiting[: len(group)]
                try:
                    await self._send(session_id, group)
                finally:
                    for submission in group:
                        submission.outcome.cancel()  # no effect where there is an outcome, which is nearly always
        finally:
            del self._lanes[session_id]
            for submission in lane.waiting:
                submission.outcome.cancel()

    async def _send(self, session_id: UUID, group: Sequence[Submission]) -> None:
        if len(group) == 1:
            await self._send_alone(session_id, group[0])
            return
        change = SessionChange(writer=self.id, change_id=next(self._numbers), **merged([s.draft for s in group]))
        try:
            applied = await self._backend.apply(session_id, change)
        except SessionError:
            # Refused whole, and nothing changed; it may have been for one of them only.
            for submission in group:
                await self._send_alone(session_id, submission)
        except Exception as error:  # noqa: BLE001 (each caller is told)
            for submission in group:
                _fail(submission, error)
        else:
            total = applied.total_queries - len(change.queries)
            for submission in group:
                total += len(submission.draft.get("queries", ()))
                _succeed(submission, Applied(applied.version, total))

    async def _send_alone(self, session_id: UUID, submission: Submission) -> None:
        if submission.sent is None:
            submission.sent = SessionChange(writer=self.id, change_id=next(self._numbers), **submission.draft)
        try:
            applied = await self._backend.apply(session_id, submission.sent)
        except Exception as error:  # noqa: BLE001 (the caller is told)
            _fail(submission, error)
        else:
            _succeed(submission, applied)


def _future() -> asyncio.Future[Applied]:
    return asyncio.get_running_loop().create_future()


def _succeed(submission: Submission, applied: Applied) -> None:
    if not submission.outcome.done():
        submission.outcome.set_result(applied)


def _fail(submission: Submission, error: Exception) -> None:
    if not submission.outcome.done():
        submission.outcome.set_exception(error)


def _next_group(waiting: Sequence[Submission]) -> list[Submission]:
    """The longest run from the front that one change can carry."""
    first = waiting[0]
    if first.alone:
        return [first]
    owner, room = first.draft.get("owner"), MERGED

    def fits(submission: Submission) -> bool:
        nonlocal room
        room -= len(submission.draft.get("queries", ())) or 1
        return not submission.alone and submission.draft.get("owner") == owner and room >= 0

    return [first, *takewhile(fits, waiting[1:])]


def merged(drafts: Sequence[Draft]) -> Draft:
    """One draft with the effect of several, one after the other. Only for drafts of one owner and the same limits."""
    sets: dict[SectionName, dict[str, str]] = {}
    unsets: dict[SectionName, list[str]] = {}
    for draft in drafts:
        for section, keys in draft.get("unset_entries", {}).items():
            for key in keys:
                sets.get(section, {}).pop(key, None)
                unsets.setdefault(section, []).append(key)
        for section, entries in draft.get("set_entries", {}).items():
            sets.setdefault(section, {}).update(entries)  # a key both unset and set is set
    return Draft(
        at=max(draft["at"] for draft in drafts),
        owner=drafts[0].get("owner"),
        max_queries=drafts[0].get("max_queries"),
        max_state_bytes=drafts[0].get("max_state_bytes"),
        queries=tuple(query for draft in drafts for query in draft.get("queries", ())),
        set_entries=sets,
        unset_entries=unsets,
    )
