"""A session's whole life as a patient caller lives it: each step until it is acknowledged, a restart after a fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal
from uuid import UUID

from uuid_utils.compat import uuid7

from perdure import QueryRecord, Session, SessionStore, Settings
from perdure.backends import SessionBackend
from perdure.backends.tiered import TieredBackend, TierTimes
from perdure.errors import BackendUnavailableError, SessionExistsError
from perdure.testing import Fault, FaultyBackend, ManualClock

__all__ = ["FAULTS", "QUERIES", "Home", "Life"]

QUERIES = 20
FAULTS = (BackendUnavailableError, asyncio.CancelledError)
"""What a fault looks like to the caller, where it is seen at all."""
PATIENT = TierTimes(retry_after=timedelta(0))


@dataclass
class Home:
    """Where sessions are kept, by place: a `store`, or `hot` and `archive`; each call opens the same data anew."""

    places: dict[str, Callable[[], SessionBackend]]
    acknowledge: Literal["archive", "hot"] = "archive"
    fade: Callable[[], None] = lambda: None
    """Let so much time go by that nothing that was cached is read any more."""

    def opened_with(self, faults: dict[str, list[Fault]]) -> tuple[SessionBackend, dict[str, FaultyBackend]]:
        """A backend that is not open yet, and what stands around the data of each place."""
        around = {name: FaultyBackend(make(), faults.get(name, [])) for name, make in self.places.items()}
        if "store" in around:
            return around["store"], around
        tiers = TieredBackend(around["hot"], around["archive"], acknowledge=self.acknowledge, times=PATIENT)
        return tiers, around


@dataclass
class Life:
    """What one session went through, as its caller knows it: what was acknowledged, and what may have happened."""

    home: Home
    place: str = "store"
    fault: Fault | None = None
    clock: ManualClock = field(default_factory=ManualClock)
    id: UUID = field(default_factory=uuid7)
    acknowledged: list[UUID] = field(default_factory=list)
    attempted: set[UUID] = field(default_factory=set)
    struck: int = 0
    reached: bool = False

    @asynccontextmanager
    async def store(self, *, faulty: bool = False) -> AsyncIterator[SessionStore]:
        """A store on the data, with or without the fault of this life."""
        faults = {self.place: [self.fault]} if faulty and self.fault is not None else {}
        backend, around = self.home.opened_with(faults)
        settings = Settings(sweep_in_background=False, sweep_on_open=False)
        try:
            async with SessionStore(backend, settings=settings, clock=self.clock) as store:
                yield store
        finally:
            if self.fault is not None and faulty:
                self.reached |= len(around[self.place].calls) >= self.fault.call

    @property
    def steps(self) -> list[Callable[[SessionStore], Awaitable[None]]]:
        """What a session goes through until it is active again after it was archived."""
        return [self.create, *[self.track] * QUERIES, self.save, self.extend, self.expire, self.archive, self.restore]

    async def live(self, *more: Callable[[SessionStore], Awaitable[None]]) -> None:
        """Each step until it is acknowledged; the fault of this life strikes once."""
        steps = [*self.steps, *more]
        faulty = True
        while steps:
            try:
                async with self.store(faulty=faulty) as store:
                    while steps:
                        await steps[0](store)
                        steps.pop(0)
            except FAULTS:
                self.struck += 1
                faulty = False

    async def create(self, store: SessionStore) -> None:
        try:
            await store.create_session(["AAPL"], "equity", "analyst", ttl_hours=1, session_id=self.id)
        except SessionExistsError:
            assert self.struck, "nobody else uses this id"

    async def track(self, store: SessionStore) -> None:
        query = QueryRecord(query_type="price", timestamp=self.clock())
        self.attempted.add(query.id)
        await store.track_query(self.id, query)
        self.acknowledged.append(query.id)
        # What everybody may rely on: who wrote reads it.
        await self.check(await self.seen(store, history=None))

    async def save(self, store: SessionStore) -> None:
        session = await self.seen(store, history=None)
        query = QueryRecord(query_type="news", timestamp=self.clock())
        self.attempted.add(query.id)
        session.add_query(query)
        session.state.update_context("focus", {"margin": 0.25})
        try:
            await store.save(session)
        except BackendUnavailableError:
            self.struck += 1
            await store.save(session)  # the same object again: safe and complete
        self.acknowledged.append(query.id)

    async def extend(self, store: SessionStore) -> None:
        await store.extend_session(self.id, hours=1)

    async def expire(self, store: SessionStore) -> None:
        self.clock.advance(timedelta(hours=200))

    async def archive(self, store: SessionStore) -> None:
        report = await store.cleanup_expired_sessions()
        session = await self.seen(store, history=0)
        if report.failed or not session.is_archived:
            self.clock.advance(timedelta(hours=1))  # the claim's lease ends
            raise BackendUnavailableError("test", "again")

    async def restore(self, store: SessionStore) -> None:
        await store.extend_session(self.id, hours=1)

    async def delete(self, store: SessionStore) -> None:
        existed = await store.delete_session(self.id)
        assert existed or self.struck
        assert await store.get_session(self.id) is None

    async def seen(self, store: SessionStore, *, history: int | None) -> Session:
        """The session, which must be there."""
        session = await store.get_session(self.id, history=history)
        assert session is not None
        return session

    async def check(self, session: Session) -> None:
        """Every acknowledged query is there exactly once, and nothing that nobody wrote."""
        found = [query.id for query in session.state.history.queries]
        assert [query.position for query in session.state.history.queries] == list(range(1, len(found) + 1))
        assert session.state.history.total_queries == len(found) == len(set(found))
        assert set(self.acknowledged) <= set(found) <= self.attempted
