"""Writers that go on through outages as a caller would, and what they were promised."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from perdure import QueryRecord, SessionStore, Settings
from perdure.errors import BackendUnavailableError, OutcomeUnknownError
from perdure.models import Session

Acknowledge = Literal["archive", "hot"]

WRITERS = 16
PATIENCE_S = 30.0
"""How long a writer asks again before it gives up."""


def settings(**facts: Any) -> Settings:
    """Of a store that sweeps only when told to, and does not wait long for servers that are gone."""
    quiet: dict[str, Any] = {
        "sweep_in_background": False,
        "sweep_on_open": False,
        "hot_timeout_seconds": 1,
        "archive_timeout_seconds": 3,
        "tier_retry_seconds": 0.1,
        "session_max_queries_per_session": 1_000_000,
    }
    return Settings(**(quiet | facts))


@asynccontextmanager
async def opened(hot: str, archive: str, acknowledge: Acknowledge, **facts: Any) -> AsyncIterator[SessionStore]:
    """A store of two tiers."""
    plugins = facts.pop("plugins", ())
    store = SessionStore.open(
        hot, archive=archive, acknowledge=acknowledge, plugins=plugins, settings=settings(**facts)
    )
    async with store:
        yield store


@dataclass
class Load:
    """Writers that track queries in a few sessions until `done` is set; `acknowledged` is what they heard of.

    A query that was not acknowledged is tracked again, under its own id: it may be stored twice, as nobody knows
    whether it was stored the first time.
    """

    store: SessionStore
    sessions: list[UUID]
    writers: int = WRITERS
    pause_s: float = 0.0
    acknowledged: dict[UUID, dict[UUID, int]] = field(default_factory=dict)
    tried_again: set[UUID] = field(default_factory=set)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        """The writers write while the block runs, and finish what they have begun."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.writers):
                group.create_task(self._write(self.sessions[number % len(self.sessions)]))
            try:
                yield self
            finally:
                self.done.set()

    @property
    def count(self) -> int:
        """How many queries were acknowledged."""
        return sum(map(len, self.acknowledged.values()))

    async def more(self, by: int) -> None:
        """Wait until so many more queries were acknowledged."""
        wanted = self.count + by
        async with asyncio.timeout(PATIENCE_S):
            while self.count < wanted:
                await asyncio.sleep(0.01)

    async def _write(self, session_id: UUID) -> None:
        while not self.done.is_set():
            query = QueryRecord(query_type="price", result_summary="x" * 100)
            position = await self._tracked(session_id, query)
            self.acknowledged.setdefault(session_id, {})[query.id] = position
            await asyncio.sleep(self.pause_s)

    async def _tracked(self, session_id: UUID, query: QueryRecord) -> int:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    return (await self.store.track_query(session_id, query)).position
                except (BackendUnavailableError, OutcomeUnknownError):
                    self.tried_again.add(query.id)
                    await asyncio.sleep(0.05)


async def created(store: SessionStore, number: int = 4) -> list[UUID]:
    """So many sessions, which live long."""
    return [(await store.create_session(["AAPL"], "equity")).id for _ in range(number)]


async def whole(store: SessionStore, session_id: UUID) -> Session:
    """The session with all its queries, which is there."""
    session = await store.get_session(session_id)
    assert session is not None
    return session


async def check_kept(load: Load, store: SessionStore) -> None:
    """Every acknowledged query is where it was said to be, and positions have neither gaps nor doubles."""
    for session_id, acknowledged in load.acknowledged.items():
        session = await whole(store, session_id)
        queries = list(session.state.history.queries)
        check_positions(session)
        at = {query.position: query.id for query in queries}
        missing = {query_id for query_id, position in acknowledged.items() if at.get(position) != query_id}
        assert not missing, f"{len(missing)} of {len(acknowledged)} acknowledged queries are not where they were said"
        twice = {query_id for query_id, times in Counter(query.id for query in queries).items() if times > 1}
        assert twice <= load.tried_again, "only what was tried again may be there twice"


def check_positions(session: Session) -> None:
    """Positions count from 1 without a gap."""
    history = session.state.history
    assert [query.position for query in history.queries] == list(range(1, history.total_queries + 1))
