"""Observers that note what they are told, and stores that have them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

from perdure import QueryRecord, Session, SessionMetrics, SessionStore, SessionSummary, Settings, hookimpl
from perdure.testing import ManualClock

HOUR = timedelta(hours=1)


def price(**fields: Any) -> QueryRecord:
    return QueryRecord(query_type="price", **fields)


class Observer:
    """Notes everything it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def note(self, hook: str, **facts: Any) -> None:
        self.seen.append((hook, facts))

    def names(self) -> list[str]:
        return [hook for hook, _ in self.seen]

    def only(self, hook: str) -> dict[str, Any]:
        """What it was told by that hook, the one time it was."""
        (facts,) = [facts for name, facts in self.seen if name == hook]
        return facts

    @hookimpl
    def session_created(self, session: Session) -> None:
        self.note("session_created", session=session)

    @hookimpl
    def session_updated(self, session_id: UUID, version: int) -> None:
        self.note("session_updated", session_id=session_id, version=version)

    @hookimpl
    def query_tracked(self, session_id: UUID, query: QueryRecord) -> None:
        self.note("query_tracked", session_id=session_id, query=query)

    @hookimpl
    def session_extended(self, session: Session) -> None:
        self.note("session_extended", id=session.id, expires_at=session.expires_at)

    @hookimpl
    def session_expired(self, session: SessionSummary, event_id: str) -> None:
        self.note("session_expired", session=session, event_id=event_id)

    @hookimpl
    def session_archived(self, session: SessionSummary, metrics: SessionMetrics | None, event_id: str) -> None:
        self.note("session_archived", session=session, metrics=metrics, event_id=event_id)

    @hookimpl
    def session_restored(self, session: Session) -> None:
        self.note("session_restored", id=session.id, archived=session.is_archived)

    @hookimpl
    def session_past_retention(self, session_id: UUID, event_id: str) -> None:
        self.note("session_past_retention", session_id=session_id, event_id=event_id)

    @hookimpl
    def session_deleted(self, session_id: UUID) -> None:
        self.note("session_deleted", session_id=session_id)

    @hookimpl
    def tier_degraded(self, tier: str, reason: str) -> None:
        self.note("tier_degraded", tier=tier, reason=reason)

    @hookimpl
    def tier_recovered(self, tier: str) -> None:
        self.note("tier_recovered", tier=tier)


class AsyncObserver:
    """Passes what it is told on to an observer, later."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    @hookimpl
    async def session_created(self, session: Session) -> None:
        await asyncio.sleep(0)
        self._observer.session_created(session)

    @hookimpl
    async def session_updated(self, session_id: UUID, version: int) -> None:
        await asyncio.sleep(0)
        self._observer.session_updated(session_id, version)

    @hookimpl
    async def query_tracked(self, session_id: UUID, query: QueryRecord) -> None:
        await asyncio.sleep(0)
        self._observer.query_tracked(session_id, query)

    @hookimpl
    async def session_extended(self, session: Session) -> None:
        await asyncio.sleep(0)
        self._observer.session_extended(session)

    @hookimpl
    async def session_expired(self, session: SessionSummary, event_id: str) -> None:
        await asyncio.sleep(0)
        self._observer.session_expired(session, event_id)

    @hookimpl
    async def session_archived(self, session: SessionSummary, metrics: SessionMetrics | None, event_id: str) -> None:
        await asyncio.sleep(0)
        self._observer.session_archived(session, metrics, event_id)

    @hookimpl
    async def session_restored(self, session: Session) -> None:
        await asyncio.sleep(0)
        self._observer.session_restored(session)

    @hookimpl
    async def session_past_retention(self, session_id: UUID, event_id: str) -> None:
        await asyncio.sleep(0)
        self._observer.session_past_retention(session_id, event_id)

    @hookimpl
    async def session_deleted(self, session_id: UUID) -> None:
        await asyncio.sleep(0)
        self._observer.session_deleted(session_id)


class Leaves:
    @hookimpl
    def prepare_query(self) -> None:
        """Nothing to change."""


def opened(*plugins: object, clock: ManualClock | None = None, **settings: Any) -> SessionStore:
    """A store in memory with plugins, that does nothing by itself."""
    quiet = Settings(**{"sweep_on_open": False, "sweep_in_background": False, **settings})
    return SessionStore.open("memory://", plugins=plugins, settings=quiet, clock=clock or ManualClock())
