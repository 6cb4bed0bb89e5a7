"""How a store writes: as one writer, with one change in flight for each session; what waits meanwhile is merged.

That is what makes a busy session fast (its waiting queries share one change), and what lets a session tell a repeat
from something new by remembering only the last change of each writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, replace
from itertools import count, takewhile
from typing import Self
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
    """A change on its way. `sent` is what was sent for it, once it was, and not merged with others.

    `alone` keeps it from being merged; so does anything in it that a merged change could not tell apart.
    """

    draft: Draft
    alone: bool = False
    sent: SessionChange | None = None
    outcome: asyncio.Future[Applied] | None = None
    context: Context | None = None
    """That of the caller, where it is to be sent in it and not by the caller."""

    def __post_init__(self) -> None:
        self.alone = self.alone or not self.draft.keys() <= _MERGEABLE

    @classmethod
    def again(cls, change: SessionChange, *, if_version: int | None) -> Self:
        """The same change once more, after an attempt whose outcome is not known; on the condition given now."""
        return cls(Draft(at=change.at), alone=True, sent=replace(change.repeated(), if_version=if_version))


class ChangeWriter:
    """Sends the changes of one store. Every caller gets its own outcome; cancelling one cancels no other.

    With `in_context`, what waited is sent in the context of who waited longest; otherwise in any one.
    """

    def __init__(self, backend: SessionBackend, *, in_context: bool = False) -> None:
        self.id = uuid7()
        self._backend = backend
        self._in_context = in_context
        self._numbers = count(1)
        self._lanes: dict[UUID, list[Submission]] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()

    def next_head(self) -> str:
        """A head for a session that is created rather than changed."""
        return f"{self.id.hex}.{next(self._numbers)}"

    async def write(self, session_id: UUID, submission: Submission) -> Applied:
        """What became of a change. A caller who finds the session idle sends by itself, the others wait their turn."""
        lane = self._lanes.get(session_id)
        if lane is None:
            lane = self._lanes[session_id] = []
            try:
                return await self._apply(session_id, submission)
            finally:
                # Cancelled, its change may still be on its way; the higher id of the next bars it from coming late.
                self._hand_over(session_id, lane)
        submission.outcome = asyncio.get_running_loop().create_future()
        if self._in_context:
            submission.context = copy_context()
        lane.append(submission)
        try:
            return await submission.outcome
        except asyncio.CancelledError:
            if submission in lane:  # it was not sent, so it never will be: whoever asked again would write it twice
                lane.remove(submission)
            raise

    async def finish(self) -> None:
        """Wait until nothing is on its way any more."""
        while self._lanes:
            self._idle.clear()
            await self._idle.wait()

    def _hand_over(self, session_id: UUID, lane: list[Submission]) -> None:
        if lane:
            # A task of its own, so that a cancelled caller hurts nobody who waits behind it.
            self._draining.add(task := asyncio.create_task(self._drain(session_id, lane)))
            task.add_done_callback(self._draining.discard)
        else:
            self._close_lane(session_id)

    def _close_lane(self, session_id: UUID) -> None:
        del self._lanes[session_id]
        if not self._lanes:
            self._idle.set()

    async def _drain(self, session_id: UUID, lane: list[Submission]) -> None:
        try:
            while lane:
                group = _next_group(lane)
                del lane[: len(group)]
                try:
                    if group[0].context is None:
                        await self._send(session_id, group)
                    else:
                        await asyncio.create_task(self._send(session_id, group), context=group[0].context)
                finally:
                    _cancel(group)
        finally:
            _cancel(lane)
            self._close_lane(session_id)

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
        try:
            applied = await self._apply(session_id, submission)
        except Exception as error:  # noqa: BLE001 (the caller is told)
            _fail(submission, error)
        else:
            _succeed(submission, applied)

    async def _apply(self, session_id: UUID, submission: Submission) -> Applied:
        if submission.sent is None:
            submission.sent = SessionChange(writer=self.id, change_id=next(self._numbers), **submission.draft)
        return await self._backend.apply(session_id, submission.sent)


def _succeed(submission: Submission, applied: Applied) -> None:
    if submission.outcome is not None and not submission.outcome.done():
        submission.outcome.set_result(applied)


def _fail(submission: Submission, error: Exception) -> None:
    if submission.outcome is not None and not submission.outcome.done():
        submission.outcome.set_exception(error)


def _cancel(submissions: Sequence[Submission]) -> None:
    """Let nobody wait for an answer that will not come; no effect where there is one, which is nearly always."""
    for submission in submissions:
        if submission.outcome is not None:
            submission.outcome.cancel()


def _next_group(waiting: Sequence[Submission]) -> list[Submission]:
    """The longest run from the front that one change can carry."""
    first = waiting[0]
    if first.alone:
        return [first]
    owner, room = first.draft.get("owner"), MERGED - len(first.draft.get("queries", ()))

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
