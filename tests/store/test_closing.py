"""Closing a store whose maintenance runs by itself, and what it writes where."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from perdure import SessionStore, SessionSummary, hookimpl
from perdure.testing import ManualClock


async def test_closing_waits_for_a_round_of_maintenance_but_not_for_the_next(tmp_path: Path) -> None:
    clock = ManualClock()
    url = f"sqlite:///{tmp_path}/sessions.db"
    async with SessionStore.open(url, clock=clock) as store:
        session = await store.create_session(["AAPL"], "equity", ttl_hours=1)
    clock.advance(timedelta(hours=2))

    async with asyncio.timeout(4):  # a round is over in milliseconds; the next would begin in an hour
        async with SessionStore.open(url, clock=clock):
            pass

    async with SessionStore.open(url, clock=clock) as store:
        found = await store.get_session(session.id)
    assert found is not None
    assert found.is_archived


async def test_a_swept_and_an_archived_session_carry_event_ids_of_the_version_and_head_they_have_now() -> None:
    class Archive:
        def __init__(self) -> None:
            self.events: dict[str, str] = {}

        @hookimpl
        def session_archived(self, session: SessionSummary, event_id: str) -> None:
            self.events[str(session.id)] = event_id

    observer, clock = Archive(), ManualClock()
    async with SessionStore.open("memory://", clock=clock, plugins=[observer]) as store:
        by_hand = await store.create_session(["AAPL"], "equity", ttl_hours=1)
        swept = await store.create_session(["IBM"], "equity", ttl_hours=1)
        await store.archive_session(by_hand.id)
        clock.advance(timedelta(hours=2))
        await store.cleanup_expired_sessions()

        for session_id in (by_hand.id, swept.id):
            now = await store.get_session(session_id)
            assert now is not None
            assert observer.events[str(session_id)] == f"{session_id}.{now.version}.{now.head}"


def test_an_application_that_configures_no_logging_has_nothing_of_perdure_on_its_stdout(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from perdure import SessionStore

async def main():
    async with SessionStore.open(sys.argv[1]) as store:
        session = await store.create_session(["AAPL"], "equity")
        await store.delete_session(session.id)
        async with store.tracking(session.id, "price"):
            pass

asyncio.run(main())
"""
    command = [sys.executable, "-c", program, f"sqlite:///{tmp_path}/sessions.db"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert ran.stdout == ""
    assert "query.not_recorded" in ran.stderr
