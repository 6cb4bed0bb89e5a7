"""Another process that sweeps: `python sweeper_child.py HOT ARCHIVE`. Says the id of each session it tells of."""

from __future__ import annotations

import asyncio
import logging
import sys

from perdure import SessionMetrics, SessionStore, SessionSummary, Settings, hookimpl
from perdure.errors import BackendUnavailableError

AT_ONCE = 5
"""Few, with a pause behind, so that whoever is killed leaves the others something to do."""

SETTINGS = Settings(sweep_in_background=False, sweep_on_open=False, sweep_batch=AT_ONCE, sweep_lease_seconds=1)


class Speaking:
    """A plugin that says what was archived."""

    @hookimpl
    def session_archived(self, session: SessionSummary, metrics: SessionMetrics | None, event_id: str) -> None:
        print(session.id, event_id, flush=True)


async def sweep_for_ever(hot: str, archive: str) -> None:
    """Archive what has expired, again and again, until killed."""
    store = SessionStore.open(hot, archive=archive, acknowledge="hot", plugins=[Speaking()], settings=SETTINGS)
    async with store:
        print("ready", flush=True)
        while True:
            try:
                await store.cleanup_expired_sessions(limit=AT_ONCE)
            except BackendUnavailableError as error:
                print(error, file=sys.stderr)
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr)
    asyncio.run(sweep_for_ever(*sys.argv[1:]))
