"""Backends against a small model of the contract: random work of several writers, with lost answers and restarts.

More of it: `nox -s soak`.
"""

from __future__ import annotations

import asyncio
import copy
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, ClassVar, TypeVar
from uuid import UUID
from zlib import crc32

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.backends.state_model import UNKNOWN_TICKET, ModelSession, SessionModel
from tests.effort import LONG

from perdure import SessionFilter
from perdure.backends import Absorbed, Archived, ArchiveOutcome, MemoryBackend, MemoryData, SessionBackend
from perdure.backends.measuring import measures_of
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.backends.totals import totals_of
from perdure.changes import SessionChange
from perdure.errors import BackendUnavailableError, PerdureError
from perdure.merging import AbsorbOutcome
from perdure.models import SECTIONS, Measured, SessionMetrics, SessionSummary, StatsFilter, StoredSession
from perdure.testing import START, ChangeMaker, Fault, FaultyBackend, Moment, stored_query, stored_session

STEPS = 40

IDS = [UUID(int=number << 64) for number in range(1, 4)]
USERS = ["ann", "bob"]
LABELS = ["x", "y", "ü"]
KEYS = ["k", "l", "ключ"]
TEXTS = ["1", '"a"', '{"ö":[null]}']
LOST = "the answer was lost"
SENT = (Moment.AFTER, Moment.CANCEL_AFTER)

T = TypeVar("T")


class Details(Random):
    """What a step is about in detail: one drawn number, as drawing every detail takes longer than all the work.

    Hypothesis likes to draw the same few numbers again and again; what was drawn before makes them different.
    """

    trail: ClassVar[int] = 0

    def __init__(self, number: int) -> None:
        Details.trail = crc32(number.to_bytes(3), Details.trail)
        super().__init__(Details.trail)
        self.number = number

    def __repr__(self) -> str:
        return f"Details({self.number})"


choices = st.integers(0, 2**24 - 1).map(Details)


def some(rng: Random, things: Sequence[T], *, most: int = 2) -> tuple[T, ...]:
    return tuple(rng.choices(things, k=rng.randint(0, most)))


def minutes(rng: Random, low: int = -30, high: int = 90) -> timedelta:
    return timedelta(minutes=rng.randint(low, high))


def fault(rng: Random) -> Moment | None:
    struck: Moment | None = rng.choice([None] * 8 + list(Moment))
    return struck


def sections(rng: Random) -> dict[Any, dict[str, str]]:
    return {name: {key: rng.choice(TEXTS) for key in some(rng, KEYS)} for name in some(rng, SECTIONS[:2])}


def session_filter(rng: Random, now: datetime) -> SessionFilter:
    return SessionFilter(
        user_id=rng.choice([None, None, *USERS]),
        session_type=rng.choice([None, None, "equity", "macro"]),
        assets=some(rng, LABELS, most=1),
        tags=some(rng, LABELS, most=1),
        archived=rng.choice([None, None, True, False]),
        created_after=rng.choice([None, None, START, now - timedelta(minutes=20)]),
        created_before=rng.choice([None, None, now, now - timedelta(minutes=10)]),
    )


def stats_filter(rng: Random, now: datetime) -> StatsFilter:
    return StatsFilter(
        user_id=rng.choice([None, None, *USERS]),
        session_type=rng.choice([None, None, "equity", "macro"]),
        since=rng.choice([None, None, START, START + timedelta(days=1), now - timedelta(minutes=20)]),
        until=rng.choice([None, None, now, START + timedelta(days=1), now - timedelta(minutes=10)]),
    )


def measured(session: ModelSession, *, now: datetime) -> Measured:
    return Measured.of(StoredSession(**session.as_read(None)), now=now)


def draft(rng: Random, session: ModelSession, *, now: datetime) -> dict[str, Any]:
    """What a change carries. Most writers' clocks are right, some are far behind."""
    at = now + rng.choice([timedelta(0), timedelta(0), minutes(rng, -60, 10)])
    optional: dict[str, Callable[[], Any]] = {
        "queries": lambda: tuple(
            stored_query(f"q{n}", cache_hit=n == 1, timestamp=at - timedelta(minutes=n), result_summary="é" * n)
            for n in range(rng.randint(1, 3))
        ),
        "set_entries": lambda: sections(rng),
        "unset_entries": lambda: {name: some(rng, KEYS) for name in some(rng, SECTIONS[:2])},
        "add_assets": lambda: some(rng, LABELS),
        "remove_assets": lambda: some(rng, LABELS),
        "add_tags": lambda: some(rng, LABELS),
        "remove_tags": lambda: some(rng, LABELS),
        "expires_at": lambda: rng.choice(
            [session.expires, session.expires + minutes(rng, -20, 30), now + minutes(rng)]
        ),
        "archive": lambda: True,
        "if_version": lambda: session.version + rng.choice([0, 0, 0, -1, 1]),
        "owner": lambda: rng.choice([session.user, session.user, *USERS]),
        "max_queries": lambda: rng.randint(1, 9),
        "max_state_bytes": lambda: rng.randint(0, 60),
    }
    names = {*rng.sample(sorted(optional), k=rng.randint(1, 3)), rng.choice(["queries", "at"])} - {"at"}
    return {"at": at, **{name: optional[name]() for name in sorted(names)}}


@dataclass
class Walk:
    """A listing that is read page by page while others write."""

    wanted: SessionFilter
    cursor: str | None
    throughout: set[UUID]
    """Sessions that have matched since the first page."""
    found: list[UUID] = field(default_factory=list)


class BackendMachine(RuleBasedStateMachine):
    """Everything is asked of both, the backend and the model, and every answer compared."""

    telling_fails: ClassVar[bool] = True
    """Whether telling of what is archived fails at times: what is kept of it then is a matter of the backend."""

    def __init__(self) -> None:
        super().__init__()
        Details.trail = 0
        self.runner = asyncio.Runner()
        self.now = START
        self.model = SessionModel()
        self.writers = [ChangeMaker() for _ in range(3)]
        self.lost: list[tuple[UUID, SessionChange]] = []
        self.branches: list[tuple[StoredSession, ModelSession]] = []
        self.walk: Walk | None = None
        self.cached: dict[UUID, StoredSession] = {}
        self.cache_tickets: dict[UUID, str] = {}
        self.void_cache_tickets: dict[UUID, str] = {}
        self.faulty = FaultyBackend(self.fresh())
        self.runner.run(self.faulty.open())

    def fresh(self) -> SessionBackend:
        """A backend on the data of this machine, not opened yet."""
        raise AssertionError("each machine says which")

    # Asking both ----------------------------------------------------------------------------------

    def ask(
        self,
        call: Callable[[], Awaitable[Any]],
        model: Callable[[], Any],
        *,
        fault: Moment | None = None,
        seen_as: Callable[[Any], Any] = lambda answer: answer,
    ) -> Any:
        """Make the call, with a fault or without; what the model says must come of it; `LOST` if the fault struck."""
        self.faulty.faults = [] if fault is None else [Fault(len(self.faulty.calls) + 1, fault)]

        async def outcome() -> Any:
            try:
                return seen_as(await call())
            except PerdureError as error:
                return _error(error)
            except asyncio.CancelledError:
                return LOST

        expected: Any = LOST
        if fault is None or fault in SENT:
            try:
                answer = model()
                expected = answer if fault is None else LOST
            except PerdureError as error:
                expected = _error(error)
        found = self.runner.run(outcome())
        assert found == expected
        return found

    def some_change(self, rng: Random, session_id: UUID, writer: ChangeMaker | None = None) -> SessionChange:
        session = self.model.sessions.get(session_id) or ModelSession.of(stored_session(expires_at=self.now))
        content = draft(rng, session, now=self.now)
        return (rng.choice(self.writers) if writer is None else writer).change(**content)

    def send(self, session_id: UUID, change: SessionChange, fault: Moment | None = None) -> Any:
        return self.ask(
            lambda: self.faulty.apply(session_id, change),
            lambda: self.model.apply(session_id, change),
            fault=fault,
        )

    def send_all(self, work: Sequence[tuple[UUID, SessionChange]]) -> None:
        """Send many changes at once; they are applied in that order."""

        async def apply_all() -> list[Any]:
            calls = [self.faulty.apply(session_id, change) for session_id, change in work]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            return [_error(answer) if isinstance(answer, BaseException) else answer for answer in answers]

        def model() -> list[Any]:
            answers: list[Any] = []
            for session_id, change in work:
                try:
                    answers.append(self.model.apply(session_id, change))
                except PerdureError as error:
                    answers.append(_error(error))
            return answers

        self.ask(apply_all, model)

    # Writing --------------------------------------------------------------------------------------

    @initialize(rng=choices)
    def begin(self, rng: Random) -> None:
        for session_id in IDS:
            self._create(rng, session_id, None)

    @rule(rng=choices)
    def create(self, rng: Random) -> None:
        self._create(rng, rng.choice(IDS), fault(rng))

    def _create(self, rng: Random, session_id: UUID, struck: Moment | None) -> None:
        created = self.now - timedelta(minutes=rng.choice([0, 3]))
        session = stored_session(
            id=session_id,
            user_id=rng.choice([None, *USERS]),
            type=rng.choice(["equity", "macro"]),
            assets=("x", "z"),
            tags=tuple(dict.fromkeys(some(rng, LABELS))),
            created_at=created,
            last_accessed_at=created,
            expires_at=created + minutes(rng, 10, 90),
            queries=tuple(stored_query(timestamp=created) for _ in range(rng.randint(0, 4))),
            sections=sections(rng),
        )
        self.ask(lambda: self.faulty.create(session), lambda: self.model.create(ModelSession.of(session)), fault=struck)

    @rule(rng=choices)
    def change(self, rng: Random) -> None:
        for _ in range(rng.randint(1, 3)):
            session_id, struck = rng.choice(IDS), fault(rng)
            change = self.some_change(rng, session_id)
            self.send(session_id, change, struck)
            if struck is not None:
                self.lost.append((session_id, change))

    @precondition(lambda self: self.lost)
    @rule(rng=choices)
    def repeat_a_lost_change(self, rng: Random) -> None:
        number = rng.randrange(len(self.lost))
        session_id, change = self.lost[number]
        self.lost[number] = session_id, change.repeated()
        self.send(session_id, change.repeated(), fault(rng))

    @rule(rng=choices)
    def repeat_a_lost_change_when_others_have_written(self, rng: Random) -> None:
        session_id, others = rng.choice(IDS), rng.choice([0, 0, 1, 30, 31, 32])
        change = self.some_change(rng, session_id)
        self.send(session_id, change, rng.choice([None, *Moment]))
        at = self.now - timedelta(minutes=30)
        self.send_all([(session_id, ChangeMaker().change(at=at)) for _ in range(others)])
        self.send(session_id, change.repeated())

    @rule(rng=choices)
    def change_all_at_once(self, rng: Random) -> None:
        ids = rng.choices(IDS, k=rng.randint(2, 8))
        self.send_all([(session_id, self.some_change(rng, session_id)) for session_id in ids])

    @rule(rng=choices)
    def delete(self, rng: Random) -> None:
        session_id, owner = rng.choice(IDS), rng.choice([None, *USERS])
        for _ in range(rng.randint(1, 2)):
            at = self.now + minutes(rng, 0, 60)
            self.ask(
                partial(self.faulty.delete, session_id, forget_at=at, owner=owner),
                partial(self.model.delete, session_id, forget_at=at, owner=owner),
                fault=fault(rng),
            )

    @rule(rng=choices)
    def evict(self, rng: Random) -> None:
        self._evict(rng, rng.choice(IDS))

    def _evict(self, rng: Random, session_id: UUID) -> None:
        session = self.model.sessions.get(session_id)
        version, head = (1, "none") if session is None else (session.version, session.head)
        version, head = rng.choice([(version, head), (version, head), (version - 1, head), (version, "another")])
        self.ask(
            lambda: self.faulty.evict(session_id, version=version, head=head),
            lambda: self.model.evict(session_id, version=version, head=head),
            fault=fault(rng),
        )

    # Copies that went elsewhere -------------------------------------------------------------------

    @rule(rng=choices)
    def take_a_copy(self, rng: Random) -> None:
        session_id = rng.choice(IDS)
        stored = self.runner.run(self.faulty.inner.read(session_id))
        if stored is not None:
            self.branches.append((stored, copy.deepcopy(self.model.sessions[session_id])))
            self.branches = self.branches[-6:]

    @precondition(lambda self: self.branches)
    @rule(rng=choices)
    def change_a_copy(self, rng: Random) -> None:
        number = rng.randrange(len(self.branches))
        stored, session = self.branches[number]
        elsewhere, model = MemoryBackend(), SessionModel()
        change = self.some_change(rng, stored.id, ChangeMaker())
        model.sessions[stored.id] = session

        async def change_there() -> StoredSession | None:
            await elsewhere.open()
            await elsewhere.absorb([stored])
            with suppress(PerdureError):
                await elsewhere.apply(stored.id, change)
            return await elsewhere.read(stored.id)

        with suppress(PerdureError):
            model.apply(stored.id, change)
        changed = self.runner.run(change_there())
        assert changed is not None
        assert _facts(changed) == session.as_read(None)
        self.branches[number] = changed, session

    @precondition(lambda self: self.branches)
    @rule(rng=choices)
    def absorb_copies(self, rng: Random) -> None:
        self._absorb(rng, rng.choices(self.branches, k=rng.randint(1, 3)), None)

    @precondition(lambda self: self.branches)
    @rule(rng=choices)
    def fill_an_empty_slot(self, rng: Random) -> None:
        """With a ticket, which something that comes between may have made void."""
        copied = rng.choice(self.branches)
        session_id = copied[0].id
        session = self.model.sessions.get(session_id)
        if session is not None and rng.random() < 0.7:
            self.faulty.faults = []
            self.runner.run(self.faulty.evict(session_id, version=session.version, head=session.head))
            self.model.evict(session_id, version=session.version, head=session.head)
        self._ticket(session_id, fault(rng))
        ticket, _ = self.model.tickets.get(session_id, ("none", None))
        if ticket == UNKNOWN_TICKET:
            ticket = "none"  # the answer was lost: all that a reader can do is guess
        between = rng.choice(["nothing", "nothing", "create", "evict", "absorb", "ticket", "absorb with another"])
        match between:
            case "create":
                self._create(rng, session_id, fault(rng))
            case "evict":
                self._evict(rng, session_id)
            case "absorb":
                self._absorb(rng, [rng.choice(self.branches)], None)
            case "ticket":
                self._ticket(session_id, fault(rng))
            case "absorb with another":
                self._absorb(rng, [copied], {session_id: "another"})
        self._absorb(rng, [copied], {session_id: ticket})

    def _absorb(
        self, rng: Random, chosen: list[tuple[StoredSession, ModelSession]], tickets: dict[UUID, str] | None
    ) -> None:
        report: list[Absorbed] = []

        def model() -> list[Absorbed]:
            report.extend(self.model.absorb([session for _, session in chosen], tickets))
            return report

        self.ask(lambda: self.faulty.absorb([stored for stored, _ in chosen], tickets=tickets), model, fault=fault(rng))
        for absorbed in report:
            if absorbed.outcome is AbsorbOutcome.FORKED:
                self._adopt_head(absorbed.session_id)
        if rng.random() < 0.3:
            self._ticket(chosen[0][0].id, None)  # not one that was taken before

    def _adopt_head(self, session_id: UUID) -> None:
        """A fork's head is the backend's to choose, as long as it is a new one."""
        stored = self.runner.run(self.faulty.inner.read(session_id))
        session = self.model.sessions.get(session_id)
        if stored is not None and session is not None:
            known = {branch.head for branch, _ in self.branches if branch.version != stored.version}
            assert stored.head not in known
            session.head = stored.head

    def _ticket(self, session_id: UUID, struck: Moment | None) -> None:
        given = UNKNOWN_TICKET

        async def take() -> bool:
            nonlocal given
            given = await self.faulty.ticket(session_id, now=self.now)
            return True

        self.ask(
            take,
            lambda: self.model.ticket(session_id, given=UNKNOWN_TICKET, now=self.now) is not None,
            fault=struck,
        )
        if struck is None:
            assert given == self.model.ticket(session_id, given=given, now=self.now)
            assert given not in self.model.void

    # Copies that fade -----------------------------------------------------------------------------

    @precondition(lambda self: self.faulty.cache is not None)
    @rule(rng=choices)
    def use_the_cache(self, rng: Random) -> None:
        """It may forget anything; what it gives was put there, with a ticket that was good, and not dropped since."""
        cache = self.faulty.cache
        assert cache is not None
        session_id = rng.choice(IDS)
        whole = stored_session(
            id=session_id, queries=tuple(stored_query() for _ in range(3)), version=rng.randint(1, 9)
        )
        for step in rng.choices(["ticket", "fill", "fill", "read", "read", "drop", "guess"], k=4):
            self.faulty.faults = []
            match step:
                case "ticket":
                    self.cache_tickets[session_id] = self.runner.run(cache.ticket(session_id))
                case "fill" | "guess":
                    guess = self.void_cache_tickets.get(session_id, "none")
                    ticket = guess if step == "guess" else self.cache_tickets.pop(session_id, guess)
                    part = whole.copy(history=rng.choice([None, 0, 1, 2]))
                    if self.runner.run(cache.fill(part, ticket=ticket, lifetime=timedelta(hours=1))):
                        assert ticket != guess
                        self.void_cache_tickets[session_id] = ticket
                        self.cached[session_id] = part
                case "drop":
                    self.runner.run(cache.drop([session_id, UUID(int=7)]))
                    self.cached.pop(session_id, None)
                    self.void_cache_tickets[session_id] = self.cache_tickets.pop(session_id, "none")
                case "read":
                    history = rng.choice([None, 0, 1, 3])
                    found = self.runner.run(cache.read(session_id, history=history))
                    known = self.cached.get(session_id)
                    if found is not None:
                        assert known is not None
                        assert found == known.copy(history=history)
                        assert len(found.queries) == min(3, 3 if history is None else history)

    # Time -----------------------------------------------------------------------------------------

    @rule(rng=choices)
    def the_clock_moves(self, rng: Random) -> None:
        self.now += minutes(rng, -30, 60)

    @rule(rng=choices)
    def claim_expired(self, rng: Random) -> None:
        now = self.now + rng.choice([timedelta(0), minutes(rng)])
        for session in self._claim(rng, now):
            if rng.random() < 0.5:  # somebody whose clock is behind writes to what is claimed
                content = draft(rng, self.model.sessions[session.id], now=self.now)
                content["at"] = session.expires_at - timedelta(minutes=1)
                self.send(session.id, rng.choice(self.writers).change(**content))
        self._claim(rng, now)

    def _claim(self, rng: Random, now: datetime) -> list[StoredSession]:
        terms: dict[str, Any] = {
            "now": now,
            "lease": minutes(rng, 1, 40),
            "limit": rng.randint(1, 3),
            "max_bytes": rng.choice([1, 400, 10**6, 10**6]),
        }
        claimed: list[StoredSession] = []

        def ids(answer: Any) -> list[UUID]:
            assert not answer.unreadable
            claimed.extend(answer)
            return [session.id for session in answer]

        self.ask(
            lambda: self.faulty.claim_expired(**terms),
            lambda: self.model.claim_expired(**terms),
            fault=fault(rng),
            seen_as=ids,
        )
        for session in claimed:
            assert _facts(session) == self.model.sessions[session.id].as_read(None)
        return claimed

    @rule(rng=choices)
    def archive(self, rng: Random) -> None:
        """What was claimed, some of it written to since; telling of it may crash, and is done again after the lease."""
        claimed = self._claim(rng, self.now + rng.choice([timedelta(0), minutes(rng)]))
        for session in claimed:
            if rng.random() < 0.3:
                self.send(session.id, self.some_change(rng, session.id))
            if rng.random() < 0.1:
                self.ask(
                    partial(self.faulty.delete, session.id, forget_at=self.now),
                    partial(self.model.delete, session.id, forget_at=self.now, owner=None),
                )
        self._archive(rng, claimed)

    @precondition(lambda self: self.branches)
    @rule(rng=choices)
    def archive_what_was_claimed_long_ago(self, rng: Random) -> None:
        self._archive(rng, [rng.choice(self.branches)[0]])

    def _archive(self, rng: Random, sessions: Sequence[StoredSession]) -> None:
        at, crashes = self.now, self.telling_fails and rng.random() < 0.3
        told: list[StoredSession] = []
        report: list[Archived] = []

        async def deliver(those: Sequence[StoredSession]) -> None:
            told.extend(those)
            if crashes:
                raise BackendUnavailableError("test", "whoever was to be told is gone")

        def model() -> list[Archived]:
            report.extend(self.model.archive(sessions, at=at))
            if not crashes:
                self.model.settle(report)
            elif any(done.outcome is ArchiveOutcome.ARCHIVED for done in report):
                raise BackendUnavailableError("test", "whoever was to be told is gone")
            return report

        struck = fault(rng)
        self.ask(lambda: self.faulty.archive(sessions, at=at, deliver=deliver), model, fault=struck)
        self.check_told(told, report)

    def check_told(self, told: Sequence[StoredSession], report: Sequence[Archived]) -> None:
        """Of what is archived, and of nothing else, everybody is told, as it is in the archive."""
        archived = {done.session_id for done in report if done.outcome is ArchiveOutcome.ARCHIVED}
        assert {session.id for session in told} == archived
        for session in told:
            assert _facts(session) == self.model.sessions[session.id].as_read(None)

    @rule(rng=choices)
    def purge(self, rng: Random) -> None:
        ends = [at + rng.choice([timedelta(0), -timedelta(microseconds=1)]) for at in self.model.tombstones.values()]
        terms: dict[str, Any] = {
            "archived_before": self.now + minutes(rng),
            "now": rng.choice([self.now, *ends]),
            "limit": rng.randint(1, 3),
            "dry_run": rng.random() < 0.2,
            "among": rng.choice([None, None, some(rng, IDS)]),
        }
        buried = sorted(self.model.tombstones)
        self._purge(terms, fault(rng))
        if buried and rng.random() < 0.5:
            self._create(rng, rng.choice(buried), None)

    def _purge(self, terms: dict[str, Any], struck: Moment | None) -> None:
        self.ask(lambda: self.faulty.purge(**terms), lambda: self.model.purge(**terms), fault=struck)

    @rule(rng=choices)
    def start_sweep(self, rng: Random) -> None:
        terms: dict[str, Any] = {"now": self.now, "interval": timedelta(minutes=rng.choice([0, 10, 60]))}
        self.ask(lambda: self.faulty.start_sweep(**terms), lambda: self.model.start_sweep(**terms), fault=fault(rng))

    @rule()
    def restart(self) -> None:
        self.runner.run(self.faulty.aclose())
        self.faulty = FaultyBackend(self.fresh())
        self.runner.run(self.faulty.open())

    # Reading --------------------------------------------------------------------------------------

    @rule(rng=choices)
    def read(self, rng: Random) -> None:
        session_id, history = rng.choice(IDS), rng.choice([None, 0, 1, 2, 5])
        session = self.model.sessions.get(session_id)
        self.ask(
            lambda: self.faulty.read(session_id, history=history),
            lambda: None if session is None else session.as_read(history),
            fault=fault(rng),
            seen_as=lambda stored: None if stored is None else _facts(stored),
        )
        for _ in range(3):
            terms: dict[str, Any] = {
                "after": rng.choice([0, 0, 1, 2, 5]),
                "before": rng.choice([None, 1, 3, 4, 5, 6]),
                "limit": rng.randint(1, 4),
                "owner": rng.choice([None, None, *USERS]),
            }
            expected = self.model.queries(session_id, **terms)
            self.ask(partial(self.faulty.queries, session_id, **terms), partial(_itself, expected))

    @rule(rng=choices)
    def look_at_copies(self, rng: Random) -> None:
        ids = [*dict.fromkeys(some(rng, IDS, most=3)), UUID(int=7)]
        self.ask(lambda: self.faulty.copies(ids), lambda: self.model.copies(ids), fault=fault(rng))

    @rule(rng=choices)
    def list_all(self, rng: Random) -> None:
        wanted, limit = session_filter(rng, self.now), rng.randint(1, 3)
        matching = self.model.matching(wanted)

        async def walk() -> list[SessionSummary]:
            page = await self.faulty.find(wanted, limit=limit)
            found = list(page)
            while page.next_cursor is not None:
                assert len(page) == limit
                page = await self.faulty.find(wanted, cursor=page.next_cursor, limit=limit)
                found += page
            return found

        self.ask(walk, lambda: [SessionSummary(**_summary(session)) for session in matching], fault=fault(rng))
        without = some(rng, [*IDS, UUID(int=7)])
        counted = [session for session in matching if session.id not in without]
        totals = totals_of(StoredSession(**session.as_read(None)) for session in counted)
        self.ask(lambda: self.faulty.aggregate(wanted, without=without), lambda: totals)

    @rule(rng=choices)
    def count_what_counts(self, rng: Random) -> None:
        wanted, limit, now = stats_filter(rng, self.now), rng.randint(1, 3), self.now + minutes(rng)
        without = some(rng, IDS)
        counted = [measured(session, now=now) for session in self.model.counted(wanted, without)]
        self.ask(
            lambda: self.faulty.measure(wanted, now=now, without=without),
            lambda: dict(measures_of(counted).counts),
            fault=fault(rng),
            seen_as=lambda measures: dict(measures.counts),
        )

        async def walk() -> list[SessionMetrics]:
            page = await self.faulty.metrics(wanted, limit=limit)
            found = list(page)
            while page.next_cursor is not None:
                assert len(page) == limit
                page = await self.faulty.metrics(wanted, cursor=page.next_cursor, limit=limit)
                found += page
            return found

        listed = [measured(session, now=now) for session in self.model.counted(wanted, ())]
        self.ask(walk, lambda: [SessionMetrics.counted(each.facts, each.counts) for each in listed])

    @precondition(lambda self: self.branches)
    @rule(rng=choices)
    def record_copies(self, rng: Random) -> None:
        chosen, at = rng.choices(self.branches, k=rng.randint(1, 3)), self.now + minutes(rng)
        self.ask(
            lambda: self.faulty.record([stored for stored, _ in chosen], at=at),
            lambda: self.model.record([session for _, session in chosen], at=at),
            fault=fault(rng),
        )

    @rule(rng=choices)
    def roll_up(self, rng: Random) -> None:
        limit = rng.choice([1, 2, 100])
        self.ask(lambda: self.faulty.roll_up(limit=limit), lambda: True, fault=fault(rng), seen_as=lambda n: n <= limit)

    @rule(rng=choices)
    def turn_a_page(self, rng: Random) -> None:
        walk = self.walk
        if walk is None:
            wanted = session_filter(rng, self.now)
            walk = self.walk = Walk(wanted, None, {session.id for session in self.model.matching(wanted)})
        page = self.runner.run(self.faulty.inner.find(walk.wanted, cursor=walk.cursor, limit=1))
        walk.found += [summary.id for summary in page]
        walk.cursor = page.next_cursor
        if walk.cursor is None:
            assert {known for known in walk.throughout if walk.found.count(known) != 1} == set()
            self.walk = None

    @invariant()
    def note_what_matches_throughout(self) -> None:
        if self.walk is not None:
            self.walk.throughout &= {session.id for session in self.model.matching(self.walk.wanted)}

    @rule()
    def ask_for_health(self) -> None:
        health = self.runner.run(self.faulty.inner.health(now=self.now))
        due = [s for s in self.model.sessions.values() if s.due is not None and s.due <= self.now]
        assert (health.ok, health.due, health.last_swept_at) == (True, len(due), self.model.swept)

    def teardown(self) -> None:
        with self.runner:
            try:
                for session_id in IDS:
                    self.compare(session_id)
            finally:
                self.runner.run(self.faulty.aclose())

    def compare(self, session_id: UUID) -> None:
        stored = self.runner.run(self.faulty.inner.read(session_id))
        session = self.model.sessions.get(session_id)
        assert (None if stored is None else _facts(stored)) == (None if session is None else session.as_read(None))


class MemoryMachine(BackendMachine):
    """The reference implementation."""

    def fresh(self) -> SessionBackend:
        self.data = getattr(self, "data", MemoryData())
        return MemoryBackend(self.data)


class SqliteMachine(BackendMachine):
    """One file; its schema is copied, as making it takes longer than a whole run."""

    template: ClassVar[Path]

    def fresh(self) -> SessionBackend:
        if not hasattr(self, "folder"):
            self.folder = tempfile.TemporaryDirectory()
            shutil.copy(self.template, self.path)
        return SqliteBackend(self.path)

    @property
    def path(self) -> Path:
        return Path(self.folder.name) / "sessions.db"

    def teardown(self) -> None:
        with self.folder:
            super().teardown()
            with closing(sqlite3.connect(self.path)) as connection:
                stray = "SELECT count(*) FROM session_labels WHERE session_id NOT IN (SELECT id FROM sessions)"
                assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
                assert connection.execute(stray).fetchone() == (0,)


def _itself(answer: Any) -> Any:
    return answer


def _error(error: BaseException) -> Any:
    """What of an error must agree."""
    return LOST if isinstance(error, BackendUnavailableError) else (type(error), str(error), vars(error))


def _facts(stored: StoredSession) -> dict[str, Any]:
    """Everything of a session but the memory of repeats, which shows in the answers only."""
    names = StoredSession.__slots__
    return {name: getattr(stored, name) for name in names if name != "writers"}


def _summary(session: ModelSession) -> dict[str, Any]:
    facts = session.as_read(0)
    return {name: facts[name] for name in SessionSummary.model_fields if name != "is_stale"} | {"is_stale": False}


def effort(runs: int, *, in_soak: int = 3_000, steps: int = STEPS) -> settings:
    """So many runs, the same ones each time; in a soak more, and others."""
    return settings(
        max_examples=in_soak if LONG else runs,
        stateful_step_count=2 * steps if LONG else steps,
        derandomize=not LONG,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def case(machine: type[BackendMachine], runs: int) -> Any:
    """The machine as a test."""
    found = machine.TestCase
    found.settings = effort(runs)
    return found


TestMemory = case(MemoryMachine, 100)
TestSqlite = case(SqliteMachine, 40)


@pytest.fixture(scope="module", autouse=True)
def template(empty_database: Path) -> None:
    SqliteMachine.template = empty_database
