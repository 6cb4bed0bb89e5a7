"""Telling plugins what maintenance does to sessions: at least once, across crashes.

Both are called before that is done which makes it not be done again, so that a crash in between tells once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from perdure.backends import Copy, Tombstone
from perdure.models import SessionMetrics, SessionSummary, StoredSession
from perdure.store.core import StoreCore

__all__ = ["RETENTION_HOOK", "tell_archived", "tell_past_retention"]

RETENTION_HOOK = "session_past_retention"


async def tell_archived(core: StoreCore, sessions: Sequence[StoredSession]) -> None:
    """Tell of sessions that are in the archive now, given whole; the same again if it is done again."""
    if not (core.hooks.listens("session_expired") or core.hooks.listens("session_archived")):
        return
    for stored in sessions:
        summary, event_id = SessionSummary.of(stored), _event_id(stored.id, stored)
        if stored.archived_at is not None and stored.archived_at >= stored.expires_at:
            await core.notify("session_expired", session=summary, event_id=event_id)
        if core.hooks.listens("session_archived"):
            analysed = core.settings.session_enable_analytics
            metrics = SessionMetrics.of(core.session_of(stored, history=None)) if analysed else None
            await core.notify("session_archived", session=summary, metrics=metrics, event_id=event_id)


async def tell_past_retention(core: StoreCore, session_ids: Sequence[UUID]) -> list[UUID]:
    """Tell of sessions that retention is about to remove, and give those that it may: told of, or deleted before.

    What is not archived any more is left out of both. One round trip, whatever their number.
    """
    copies = await core.backend.copies(session_ids) if session_ids else {}
    removable = []
    for session_id in session_ids:
        match copies.get(session_id):
            case Copy(archived=True) as copy:
                await core.notify(RETENTION_HOOK, session_id=session_id, event_id=_event_id(session_id, copy))
            case Tombstone():  # its deletion was told of, and one of two tiers has not heard of it
                pass
            case _:
                continue
        removable.append(session_id)
    return removable


def _event_id(session_id: UUID, state: StoredSession | Copy) -> str:
    """The name of what happened to this state of the session: the same however often it is told."""
    return f"{session_id}.{state.version}.{state.head}"
