"""A session's whole life with a fault at every single call, a restart after each, and a look at what is left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from perdure import QueryRecord, SessionStore, Settings
from perdure.backends import MemoryBackend, MemoryData, SessionBackend
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.backends.tiered import TieredBackend
from perdure.errors import BackendUnavailableError, PerdureError, SessionExistsError
from perdure.testing import Fault, FaultyBackend, ManualClock, Moment

QUERIES = 20
CALLS = 45
"""More than a whole life makes; a fault that no call reaches is a life without one."""


Make = Callable[[Sequence[Fault]], SessionBackend]
"""A backend on the data of one test, which fails as the plan says."""


class Life:
    """What one session went through, as its caller knows it: what was acknowledged, and what may have happened."""

    def __init__(self, make: Make, fault: Fault) -> None:
        self.make, self.fault = make, fault
        self.clock = ManualClock()
        self.id = uuid7()
        self.acknowledged: list[UUID] = []
        self.attempted: set[UUID] = set()
        self.struck = 0

    @asynccontextmanager
    async def store(self, *, faulty: bool) -> AsyncIterator[SessionStore]:
        backend = self.make([self.fault] if faulty else [])
        settings = Settings(sweep_in_background=False, sweep_on_open=False)
        async with SessionStore(backend, settings=settings, clock=self.clock) as store:
            yield store

    async def live(self) -> None:
        """Each step until it is acknowledged, with a restart after a fault, as a patient caller would."""
        steps = [self.create, *[self.track] * QUERIES, self.save, self.extend, self.expire, self.archive, self.restore]
        faulty = True
        while steps:
            try:
                async with self.store(faulty=faulty) as store:
                    while steps:
                        await steps[0](store)
                        steps.pop(0)
            except BackendUnavailableError:
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

    async def save(self, store: SessionStore) -> None:
        session = await store.get_session(self.id)
        assert session is not None
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
        if report.failed:
            self.clock.advance(timedelta(hours=1))  # the claim's lease ends
            raise BackendUnavailableError("test", "again")
        session = await store.get_session(self.id, history=0)
        assert session is not None
        if not session.is_archived:
            self.clock.advance(timedelta(hours=1))
            raise BackendUnavailableError("test", "again")

    async def restore(self, store: SessionStore) -> None:
        await store.extend_session(self.id, hours=1)


NEVER_FAILS = "archive: hot fails"
"""Where the archive is the truth, the hot tier may fail as it likes: no caller hears of it."""

STRIKES = {
    "memory": QUERIES,
    "sqlite": QUERIES,
    "hot: hot fails": QUERIES,
    "hot: archive fails": 2,
    NEVER_FAILS: 0,
    "archive: archive fails": QUERIES,
}
"""At least so many calls of a life fail, on each backend; of two tiers, one at a time does."""


@pytest.fixture(params=STRIKES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    data, archived = MemoryData(), MemoryData()
    if request.param == "memory":
        return lambda faults: FaultyBackend(MemoryBackend(data), faults)
    if request.param == "sqlite":
        return lambda faults: FaultyBackend(SqliteBackend(tmp_path / f"{request.node.name[:20]}.db"), faults)
    acknowledge, _, failing = request.param.partition(": ")

    def tiers(faults: Sequence[Fault]) -> SessionBackend:
        if not faults:
            data.cached.copies.clear()  # whoever comes later than `cache_ttl`; until then it may be that stale
        hot: SessionBackend = MemoryBackend(data)
        archive: SessionBackend = MemoryBackend(archived)
        if failing == "hot fails":
            hot = FaultyBackend(hot, faults)
        else:
            archive = FaultyBackend(archive, faults)
        return TieredBackend(hot, archive, acknowledge=acknowledge)

    return tiers


@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AFTER])
async def test_with_a_fault_at_any_call_every_acknowledged_query_is_there_exactly_once(
    make: Make, moment: Moment, request: pytest.FixtureRequest
) -> None:
    struck, backend = 0, request.node.callspec.params["make"]
    for call in range(1, CALLS):
        life = Life(make, Fault(call, moment))
        await life.live()
        struck += life.struck > 0

        async with life.store(faulty=False) as store:
            session = await store.get_session(life.id)
            assert session is not None
            assert not session.is_archived
            found = [query.id for query in session.state.history.queries]
            assert [query.position for query in session.state.history.queries] == list(range(1, len(found) + 1))
            assert session.state.history.total_queries == len(found) == len(set(found))
            assert set(life.acknowledged) <= set(found) <= life.attempted
            assert session.state.get_context("focus") == {"margin": 0.25}
    assert struck == 0 if backend == NEVER_FAILS else struck > STRIKES[backend]


@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AFTER])
async def test_what_was_deleted_stays_deleted_whatever_fails(
    make: Make, moment: Moment, request: pytest.FixtureRequest
) -> None:
    unheard = request.node.callspec.params["make"] == NEVER_FAILS
    life = Life(make, Fault(1, moment, "delete"))
    async with life.store(faulty=False) as store:
        await life.create(store)
        copy = [session async for session in store.export_sessions()]

    with nullcontext() if unheard else pytest.raises(BackendUnavailableError):
        async with life.store(faulty=True) as store:
            await store.delete_session(life.id)
    async with life.store(faulty=False) as store:
        await store.delete_session(life.id)
        report = await store.import_sessions(copy)
        assert report.deleted == 1
        assert await store.get_session(life.id) is None
        with pytest.raises(PerdureError):
            await store.create_session(["AAPL"], "equity", session_id=life.id)
