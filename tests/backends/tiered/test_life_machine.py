"""Several processes on two tiers that fail at any call, under clocks that jump: what callers were told holds.

Each step is something that a caller of a store does, or several at once; a ledger notes what was acknowledged, and what
may have happened. Faults strike inside the tiers, before or after the effect of a call. At the end all is well again,
and everything that was acknowledged must be there, once, first where it is and then in the archive. 100 runs for each
`acknowledge`; 1,000 in `nox -s soak`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from random import Random
from typing import ClassVar
from uuid import UUID

from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from tests.backends.machine.choices import choices
from tests.backends.machine.machine import effort
from tests.backends.tiered.ledger import Acknowledged, Ledger
from tests.backends.tiered.pairs import PATIENT, Acknowledge, Seconds
from tests.backends.tiered.rough import Attempt, Process, RoughTier

from perdure import QueryRecord, SessionStore, Settings
from perdure.backends import MemoryBackend, MemoryData
from perdure.backends.tiered import TieredBackend
from perdure.errors import (
    BackendUnavailableError,
    OutcomeUnknownError,
    SessionArchivedError,
    SessionExistsError,
    SessionExpiredError,
    SessionInactiveError,
    SessionNotFoundError,
)
from perdure.testing import START, ManualClock, Moment

QUIET = Settings(sweep_in_background=False, sweep_on_open=False)
LOST = (BackendUnavailableError, OutcomeUnknownError, asyncio.CancelledError)
"""What a caller hears who cannot know what became of it."""
CACHE_TTL = PATIENT.cache_ttl.total_seconds()


class LifeMachine(RuleBasedStateMachine):
    """Processes come and go; sessions live, expire, are archived, restored and deleted."""

    acknowledge: ClassVar[Acknowledge]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.rng = Random(7)
        self.seconds = Seconds()
        self.hot_data, self.archive_data = MemoryData(), MemoryData()
        self.down: set[str] = set()
        self.time = timedelta(0)
        self.numbers = 0
        self.processes: list[Process] = []
        self.ledgers: list[Ledger] = []
        self.alone = True

    # Processes ------------------------------------------------------------------------------------

    async def begin_process(self, skew: timedelta = timedelta(0)) -> Process:
        tiers = {
            role: RoughTier(MemoryBackend(data, seconds=self.seconds), role, self.down, self.rng)
            for role, data in (("hot", self.hot_data), ("archive", self.archive_data))
        }
        degraded: set[str] = set()

        async def watch(tier: str, reason: str | None) -> None:
            (degraded.discard if reason is None else degraded.add)(tier)

        backend = TieredBackend(
            tiers["hot"],
            tiers["archive"],
            acknowledge=self.acknowledge,
            times=PATIENT,
            seconds=self.seconds,
            watcher=watch,
        )
        self.numbers += 1
        clock = ManualClock(START + self.time + skew)
        store = await SessionStore(backend, settings=QUIET, clock=clock)
        return Process(self.numbers, store, tiers["hot"], tiers["archive"], clock, degraded)

    async def end_process(self, process: Process, *, killed: bool) -> None:
        for tier in (process.hot, process.archive):
            tier.faults = []
            tier.calls_until_dead = 0 if killed else None
        await process.store.aclose()

    @initialize(rng=choices)
    def begin(self, rng: Random) -> None:
        self.rng.seed(rng.random())
        for skew in (timedelta(0), timedelta(minutes=rng.randint(-10, 10))):
            self.processes.append(self.runner.run(self.begin_process(skew)))
        for _ in range(3):
            self.do(self.create, rng)

    @rule(rng=choices)
    def a_process_is_followed_by_another(self, rng: Random) -> None:
        old = self.processes.pop(rng.randrange(2))
        self.runner.run(self.end_process(old, killed=rng.random() < 0.7))
        self.processes.append(self.runner.run(self.begin_process(timedelta(minutes=rng.randint(-10, 10)))))

    @rule(rng=choices)
    def a_fault_is_about_to_strike(self, rng: Random) -> None:
        process = rng.choice(self.processes)
        rng.choice([process.hot, process.archive]).strike(rng.randint(1, 6), rng.choice(list(Moment)))

    @rule(rng=choices)
    def a_tier_is_down_for_a_while(self, rng: Random) -> None:
        self.down.add(rng.choice(["hot", "archive"]))
        for _ in range(rng.randint(1, 3)):
            self.do(self.some_verb(rng), rng)
        self.down.clear()

    @rule(rng=choices)
    def the_clock_jumps(self, rng: Random) -> None:
        by = timedelta(minutes=rng.choice([-30, 1, 45, 61, 90]))
        self.time += by
        for process in self.processes:
            process.clock.advance(by)
        self.seconds.now += rng.choice([0.0, 1.0, CACHE_TTL])

    def some_id(self) -> UUID:
        """One that is the same in every run of the same steps."""
        return UUID(int=self.rng.getrandbits(128), version=4)

    # What callers do ------------------------------------------------------------------------------

    def do(self, verb: Callable[[Process, Ledger], Awaitable[None]], rng: Random) -> None:
        """One caller does this."""
        self.do_all([verb], rng)

    def do_all(self, verbs: list[Callable[[Process, Ledger], Awaitable[None]]], rng: Random) -> None:
        """Several callers do something at once, in whatever process, about the same session more often than not."""
        ledger = rng.choice(self.ledgers[-3:] or [Ledger(self.some_id())])
        calls = []
        for verb in verbs:
            about = ledger if rng.random() < 0.7 else rng.choice(self.ledgers[-3:] or [ledger])
            calls.append(verb(rng.choice(self.processes), about))
        self.alone = len(calls) == 1
        for each in self.ledgers:
            each.is_being_archived = False

        async def at_once() -> None:
            for done in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(done, BaseException):
                    raise done

        self.runner.run(at_once())
        self.alone = True
        for process in self.processes:
            self.runner.run(self.read(process, ledger))

    @rule(rng=choices)
    def one_does_something(self, rng: Random) -> None:
        self.do(self.some_verb(rng), rng)

    @rule(rng=choices)
    def some_do_something_at_once(self, rng: Random) -> None:
        moving = [self.sweep, self.extend, self.extend, self.track]
        about_moving = rng.random() < 0.5
        verbs = [rng.choice(moving) if about_moving else self.some_verb(rng) for _ in range(rng.randint(2, 4))]
        self.do_all(verbs, rng)

    def some_verb(self, rng: Random) -> Callable[[Process, Ledger], Awaitable[None]]:
        often = [self.track, self.track, self.read, self.sweep]
        return rng.choice(
            [*often, self.note, self.save, self.extend, self.archive, self.delete, self.list, self.create]
        )

    async def create(self, process: Process, _: Ledger) -> None:
        ledger = Ledger(self.some_id())
        self.ledgers.append(ledger)
        attempt = Attempt(process)
        ledger.created, ledger.may_live_until = "perhaps", process.clock() + timedelta(hours=1)
        try:
            session = await process.store.create_session(["AAPL"], "equity", ttl_hours=1, session_id=ledger.id)
        except LOST as error:
            self.excuse(error, attempt)
            return
        except SessionExistsError:
            assert attempt.hot_struck or attempt.archive_struck, "nobody else uses this id"
            return
        ledger.created, ledger.created_by = "yes", self.told(attempt)
        ledger.lives_until = session.expires_at

    async def track(self, process: Process, ledger: Ledger) -> None:
        query = QueryRecord(id=self.some_id(), query_type="price", timestamp=process.clock())
        ledger.attempted.add(query.id)
        told = await self.write(process, ledger, lambda store: store.track_query(ledger.id, query))
        if told is not None:
            ledger.acknowledged[query.id] = told

    async def save(self, process: Process, ledger: Ledger) -> None:
        """Load it, add to it, save it, and where the answer is lost save the same object again."""
        try:
            session = await process.store.get_session(ledger.id)
        except LOST:
            return
        if session is None or session.is_stale:
            return
        query = QueryRecord(id=self.some_id(), query_type="news", timestamp=process.clock())
        ledger.attempted.add(query.id)
        with suppress(SessionInactiveError):
            session.add_query(query)
        if not session.state.history.queries or session.state.history.queries[-1].id != query.id:
            return
        for _ in range(2):
            told = await self.write(process, ledger, lambda store: store.save(session))
            if told is not None:
                ledger.acknowledged[query.id] = told
                return

    async def note(self, process: Process, ledger: Ledger) -> None:
        value = self.rng.randrange(10**9)
        ledger.focus.add(value)
        told = await self.write(process, ledger, lambda store: store.update_context(ledger.id, focus=value))
        if told is not None and self.alone:
            ledger.focus = {value}

    async def write(
        self, process: Process, ledger: Ledger, call: Callable[[SessionStore], Awaitable[object]]
    ) -> Acknowledged | None:
        """What was told of it, if it was acknowledged; who is refused must have deserved it."""
        attempt = Attempt(process)
        lived_until, may_be_archived = ledger.lives_until, ledger.may_be_archived
        try:
            await call(process.store)
        except LOST as error:
            self.excuse(error, attempt)
            return None
        except SessionNotFoundError:
            assert ledger.created != "yes" or ledger.deleted != "no"
            return None
        except SessionArchivedError:
            assert may_be_archived or ledger.may_be_archived
            return None
        except SessionExpiredError:
            assert lived_until is None or process.clock() >= lived_until or ledger.may_be_archived
            return None
        assert ledger.may_live_until is not None
        assert process.clock() < ledger.may_live_until
        assert ledger.deleted != "yes" or not self.alone
        return self.told(attempt)

    async def extend(self, process: Process, ledger: Ledger) -> None:
        attempt = Attempt(process)
        now = process.clock()
        ledger.may_live_until = max(ledger.may_live_until or now, now) + timedelta(hours=1)
        try:
            session = await process.store.extend_session(ledger.id, hours=1)
        except LOST as error:
            self.excuse(error, attempt)
            return
        except SessionNotFoundError:
            assert ledger.created != "yes" or ledger.deleted != "no"
            return
        ledger.lives_until = max(ledger.lives_until or session.expires_at, session.expires_at)
        # A sweep that began before must have seen that it was written to.
        ledger.may_be_archived = ledger.is_being_archived

    async def archive(self, process: Process, ledger: Ledger) -> None:
        attempt = Attempt(process)
        ledger.may_be_archived = ledger.is_being_archived = True
        try:
            await process.store.archive_session(ledger.id)
        except LOST as error:
            self.excuse(error, attempt)
        except SessionInactiveError:
            pass

    async def sweep(self, process: Process, _: Ledger) -> None:
        attempt = Attempt(process)
        for ledger in self.ledgers:
            if ledger.lives_until is None or process.clock() >= ledger.lives_until:
                ledger.may_be_archived = True
        try:
            report = await process.store.cleanup_expired_sessions()
        except LOST as error:
            self.excuse(error, attempt)
            return
        own = [reason for reason in report.failed.values() if self.alone or "left alone" not in reason]
        assert not own or attempt.hot_struck or attempt.archive_struck
        assert not report.forked

    async def delete(self, process: Process, ledger: Ledger) -> None:
        attempt = Attempt(process)
        if ledger.deleted == "no":
            ledger.deleted = "perhaps"
        try:
            await process.store.delete_session(ledger.id)
        except LOST as error:
            self.excuse(error, attempt)
            return
        ledger.deleted, ledger.deleted_by = "yes", self.told(attempt)

    async def read(self, process: Process, ledger: Ledger) -> None:
        attempt, second = Attempt(process), self.seconds.now
        must_be_there = ledger.must_be_there(process.number, second)
        must_be_gone = ledger.must_be_gone(process.number, second)
        must_have = ledger.seen_by(process.number, second)
        may_be_archived = ledger.may_be_archived
        try:
            session = await process.store.get_session(ledger.id)
        except LOST as error:
            self.excuse(error, attempt)
            return
        if session is None:
            assert not must_be_there or ledger.deleted != "no"
            return
        if session.is_stale:
            assert self.acknowledge == "hot"
            assert attempt.hot_was_away
        else:
            assert not must_be_gone
            is_archived = session.is_archived and self.acknowledge == "hot"  # a cached copy may be older
            assert not is_archived or may_be_archived or ledger.may_be_archived
        ledger.check(session, must_have)

    async def list(self, process: Process, _: Ledger) -> None:
        attempt = Attempt(process)
        there = [ledger for ledger in self.ledgers if ledger.created == "yes" and ledger.deleted == "no"]
        gone = {ledger.id for ledger in self.ledgers if ledger.deleted == "yes"}
        try:
            found: list[UUID] = []
            cursor, is_stale = None, False
            while True:
                page = await process.store.list_sessions(limit=2, cursor=cursor)
                found += [summary.id for summary in page]
                is_stale |= page.is_stale
                if (cursor := page.next_cursor) is None:
                    break
        except LOST as error:
            self.excuse(error, attempt)
            return
        assert len(found) == len(set(found))
        missing = {ledger.id for ledger in there if ledger.deleted == "no"} - set(found)
        assert not missing or is_stale
        if not (attempt.hot_struck or attempt.archive_struck):
            assert gone & set(found) == set()

    def told(self, attempt: Attempt) -> Acknowledged:
        """It was acknowledged. Where the cache may not have been told, others may read what it has until it fades."""
        if self.acknowledge == "archive" and attempt.hot_was_away:
            return Acknowledged(attempt.process.number, self.seconds.now + CACHE_TTL)
        return Acknowledged(attempt.process.number)

    def excuse(self, error: BaseException, attempt: Attempt) -> None:
        """Whoever fails must have had a reason: the tier that decides, or a caller who was cancelled."""
        if not self.alone and "left alone" in str(error):
            return  # another one's fault
        cancelled = isinstance(error, asyncio.CancelledError)
        if self.acknowledge == "archive" and not cancelled:
            assert attempt.archive_struck, f"the cache may fail, and nobody notices: {error!r}"
        assert attempt.hot_struck or attempt.archive_struck or not self.alone, f"{error!r} for no reason"

    # The end --------------------------------------------------------------------------------------

    def teardown(self) -> None:
        with self.runner:
            self.runner.run(self.end())

    async def end(self) -> None:
        self.alone = True
        self.down.clear()
        for process in self.processes:
            await self.end_process(process, killed=True)
        self.seconds.now += CACHE_TTL
        process = await self.begin_process()
        try:
            await self.everything_is_there(process)
            await self.everything_gets_into_the_archive(process)
            await self.everything_is_there(process)
        finally:
            await process.store.aclose()

    async def everything_is_there(self, process: Process) -> None:
        for ledger in self.ledgers:
            await self.read(process, ledger)
            session = await process.store.get_session(ledger.id)
            if session is not None:
                assert session.state.get_context("focus") in ledger.focus
            if ledger.deleted == "yes":
                try:
                    await process.store.create_session(["AAPL"], "equity", session_id=ledger.id)
                except SessionExistsError:
                    continue
                raise AssertionError("the id of what was deleted is free")
        await self.list(process, Ledger(self.some_id()))

    async def everything_gets_into_the_archive(self, process: Process) -> None:
        process.clock.advance(timedelta(days=30))
        await self.sweep(process, Ledger(self.some_id()))
        process.clock.advance(timedelta(hours=1))  # claims that nobody finished have come to their end
        await self.sweep(process, Ledger(self.some_id()))
        assert self.hot_data.sessions == {}
        for session_id, session in self.archive_data.sessions.items():
            assert session.archived_at is not None, session_id


class ArchiveLives(LifeMachine):
    """The archive acknowledges; hot is a cache."""

    acknowledge = "archive"


class HotLives(LifeMachine):
    """Hot acknowledges; the archive gets what has expired."""

    acknowledge = "hot"


TestArchiveAcknowledges = ArchiveLives.TestCase
TestArchiveAcknowledges.settings = effort(100, in_soak=1_000)
TestHotAcknowledges = HotLives.TestCase
TestHotAcknowledges.settings = effort(100, in_soak=1_000)
