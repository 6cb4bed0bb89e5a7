"""Another process that is killed while it tells: `python lifecycle_child.py VERB MOMENT NTH NOW URL [ARCHIVE MODE]`.

It does VERB at the instant NOW, says each event that its plugin is told of, and kills itself with SIGKILL in the NTH of
them: `before` it has noted it, or `after`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from perdure import SessionStore, SessionSummary, Settings, hookimpl

SETTINGS = Settings(sweep_in_background=False, sweep_on_open=False, hot_timeout_seconds=20, archive_timeout_seconds=20)


class Noting:
    """A plugin that notes what it is told at least once: the hook, the session, the event."""

    def __init__(self) -> None:
        self.events: list[tuple[str, UUID, str]] = []

    def note(self, hook: str, session_id: UUID, event_id: str) -> None:
        self.events.append((hook, session_id, event_id))

    @hookimpl
    def session_expired(self, session: SessionSummary, event_id: str) -> None:
        self.note("session_expired", session.id, event_id)

    @hookimpl
    def session_archived(self, session: SessionSummary, event_id: str) -> None:
        self.note("session_archived", session.id, event_id)

    @hookimpl
    def session_past_retention(self, session_id: UUID, event_id: str) -> None:
        self.note("session_past_retention", session_id, event_id)


class Fatal(Noting):
    """Says what it notes, and kills its own process in the `nth` event."""

    def __init__(self, moment: str, nth: int) -> None:
        super().__init__()
        self._moment = moment
        self._left = nth

    def note(self, hook: str, session_id: UUID, event_id: str) -> None:
        self._left -= 1
        if self._left == 0 and self._moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        print(hook, session_id, event_id, flush=True)
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def opened(clock: Callable[[], datetime], plugin: object, url: str, *tiers: Any) -> SessionStore:
    """A store of one backend, or of two tiers: the archive, and what acknowledges."""
    archive, acknowledge = tiers or (None, None)
    return SessionStore.open(
        url, archive=archive, acknowledge=acknowledge, plugins=[plugin], settings=SETTINGS, clock=clock
    )


async def sweep(store: SessionStore) -> None:
    """Archive what has expired."""
    await store.cleanup_expired_sessions()


async def archive_all(store: SessionStore) -> None:
    """Archive every session by hand."""
    for summary in await store.list_sessions():
        await store.archive_session(summary.id)


async def retain(store: SessionStore) -> None:
    """Delete what is past its retention."""
    await store.delete_old_archived_sessions()


VERBS: dict[str, Callable[[SessionStore], Awaitable[None]]] = {
    verb.__name__: verb for verb in (sweep, archive_all, retain)
}


async def run(verb: str, moment: str, nth: str, now: str, *urls: str) -> None:
    """Do it; comes to its end only where there were fewer events than `nth`."""
    instant = datetime.fromisoformat(now)
    async with opened(lambda: instant, Fatal(moment, int(nth)), *urls) as store:
        await VERBS[verb](store)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
