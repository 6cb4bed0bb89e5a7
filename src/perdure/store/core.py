"""What the verbs of one store share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from perdure.backends import SessionBackend
from perdure.changes import Applied, Draft
from perdure.models import Clock, QueryRecord, Session, StoredQuery, StoredSession, store_query
from perdure.models.session import Loaded
from perdure.settings import Settings
from perdure.store.hooks import HookRelay
from perdure.store.writer import ChangeWriter, Submission

__all__ = ["StoreCore"]


@dataclass(slots=True)
class StoreCore:
    """The backend, what writes to it, who is told of it, and by which clock."""

    backend: SessionBackend
    settings: Settings
    hooks: HookRelay
    writer: ChangeWriter
    clock: Clock
    saving: WeakValueDictionary[int, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    def now(self) -> datetime:
        """The present instant."""
        return self.clock()

    def session_of(self, stored: StoredSession, *, history: int | None) -> Session:
        """The session in a caller's hands, loaded with its newest `history` queries."""
        loaded = Loaded(
            history=history,
            max_queries=self.settings.session_max_queries_per_session,
            max_ttl=self.settings.max_ttl,
            clock=self.clock,
        )
        return Session.of(stored, loaded)

    def draft(self, owner: str | None) -> Draft:
        """The beginning of a draft: the clock, the owner, and the bounds that the settings set."""
        return Draft(
            at=self.clock(),
            owner=owner,
            max_queries=self.settings.session_max_queries_per_session,
            max_state_bytes=self.settings.max_state_bytes,
        )

    async def apply(self, session_id: UUID, draft: Draft, *, alone: bool = False) -> Applied:
        """Write a change, merged with what else waits for that session unless it must go alone."""
        return await self.writer.write(session_id, Submission(draft, alone))

    def saving_of(self, session: Session) -> asyncio.Lock:
        """Held while this very object is saved: two savings at once would both write what is new in it."""
        return self.saving.setdefault(id(session), asyncio.Lock())

    async def prepared(self, session_id: UUID, query: QueryRecord) -> QueryRecord:
        """The query as plugins want it stored.

        Raises:
            QueryVetoedError: one of them refused it.
        """
        return await self.hooks.prepare(session_id, query) if self.hooks.listens("prepare_query") else query

    def stored(self, query: QueryRecord) -> StoredQuery:
        """The query as it is stored.

        Raises:
            InvalidInputError: it cannot be kept.
        """
        return store_query(query, encoder=self.settings.value_encoder, limit=self.settings.max_value_bytes)

    async def notify(self, hook: str, **facts: Any) -> None:
        """Tell the plugins, if there are any."""
        if self.hooks.listens(hook):
            await self.hooks.notify(hook, **facts)

    async def notify_tracked(self, session_id: UUID, queries: Iterable[QueryRecord], *, first: int) -> None:
        """Tell the plugins of queries that were stored from position `first` on."""
        if self.hooks.listens("query_tracked"):
            for position, query in enumerate(queries, first):
                await self.hooks.notify("query_tracked", session_id=session_id, query=query.placed(position))
