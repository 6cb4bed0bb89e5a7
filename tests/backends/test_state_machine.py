"""Backends against a small model of the contract: random work of several writers, with lost answers and restarts.

More of it: `HYPOTHESIS_PROFILE=soak pytest tests/backends/test_state_machine.py`.
"""

from __future__ import annotations

import asyncio
import copy
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from perdure import SessionFilter
from perdure.backends import Absorbed, MemoryBackend, MemoryData, SessionBackend
from perdure.backends.sql.sqlite import SqliteBackend
from perdure.backends.totals import totals_of
from perdure.changes import SessionChange
from perdure.errors import BackendUnavailableError, PerdureError
from perdure.merging import AbsorbOutcome
from perdure.models import SECTIONS, SessionSummary, StoredSession
from perdure.testing import START, ChangeMaker, Fault, FaultyBackend, Moment, stored_query, stored_session
from tests.backends.state_model import UNKNOWN_TICKET, ModelSession, SessionModel

settings.register_profile("soak", max_examples=3_000, stateful_step_count=80)

QUICK = os.environ.get("HYPOTHESIS_PROFILE", "default") == "default"
SIZE = {"max_examples": 100, "stateful_step_count": 40, "derandomize": True} if QUICK else {}

IDS = [UUID(int=number << 64) for number in range(1, 6)]
USERS = ["ann", "bob"]
LOST = "the answer was lost"
SENT = (Moment.AFTER, Moment.CANCEL_AFTER)

minutes = st.integers(-30, 90).map(lambda number: timedelta(minutes=number))
labels = st.lists(st.sampled_from(["x", "y", "ü"]), max_size=2).map(tuple)
entries = st.dictionaries(
    st.sampled_from(SECTIONS[:2]),
    st.dictionaries(st.sampled_from(["k", "l", "ключ"]), st.sampled_from(["1", '"a"', '{"ö":[null]}']), max_size=2),
    max_size=2,
)
unset = st.dictionaries(
    st.sampled_from(SECTIONS[:2]), st.lists(st.sampled_from(["k", "l", "ключ"]), max_size=2), max_size=1
)
filters = st.builds(
    SessionFilter,
    user_id=st.none() | st.sampled_from(USERS),
    session_type=st.none() | st.sampled_from(["equity", "macro"]),
    assets=st.just(()) | labels,
    tags=st.just(()) | labels,
    archived=st.none() | st.booleans(),
    created_after=st.none() | minutes.map(lambda offset: START + offset),
    created_before=st.none() | minutes.map(lambda offset: START + offset),
)
faults = st.none() | st.none() | st.sampled_from(Moment)


@st.composite
def drafts(draw: st.DrawFn) -> dict[str, Any]:
    """What a change may carry. Times are relative to the clock, versions to the present one, until it is sent."""
    optional: dict[str, Any] = {
        "queries": st.integers(0, 3),
        "set_entries": entries,
        "unset_entries": unset,
        "add_assets": labels,
        "remove_assets": labels,
        "add_tags": labels,
        "remove_tags": labels,
        "expires_at": minutes,
        "archive": st.booleans(),
        "if_version": st.integers(-1, 1),
        "owner": st.sampled_from(USERS),
        "max_queries": st.integers(1, 6),
        "max_state_bytes": st.integers(0, 40),
    }
    names = draw(st.sets(st.sampled_from(sorted(optional)), min_size=1, max_size=3))
    return {name: draw(optional[name]) for name in sorted(names)} | {"at": draw(minutes.map(lambda by: by / 10))}


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

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = START
        self.model = SessionModel()
        self.writers = [ChangeMaker() for _ in range(3)]
        self.lost: list[tuple[UUID, SessionChange]] = []
        self.branches: list[tuple[StoredSession, ModelSession]] = []
        self.walk: Walk | None = None
        self.faulty = FaultyBackend(self.fresh())
        self.runner.run(self.faulty.open())

    def fresh(self) -> SessionBackend:
        """A backend on the data of this machine, not opened yet."""
        raise AssertionError("each machine says which")

    def teardown(self) -> None:
        self.runner.run(self.faulty.aclose())
        self.runner.close()

    # Asking both ----------------------------------------------------------------------------------

    def ask(
        self,
        call: Callable[[], Awaitable[Any]],
        model: Callable[[], Any],
        *,
        fault: Moment | None = None,
        seen_as: Callable[[Any], Any] = lambda answer: answer,
    ) -> Any:
        """Make the call, with a fault or without; what the model says must come of it. `LOST` where the fault struck."""
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

    def made(self, draft: dict[str, Any], writer: ChangeMaker, version: int) -> SessionChange:
        """The change of a draft."""
        content = {**draft, "at": self.now + draft["at"]}
        if "queries" in draft:
            number = draft["queries"]
            at = content["at"]
            content["queries"] = tuple(
                stored_query(f"q{n}", cache_hit=n == 1, timestamp=at - timedelta(minutes=n)) for n in range(number)
            )
        if "expires_at" in draft:
            content["expires_at"] = self.now + draft["expires_at"]
        if "if_version" in draft:
            content["if_version"] = version + draft["if_version"]
        return writer.change(**content)

    def version_of(self, session_id: UUID) -> int:
        session = self.model.sessions.get(session_id)
        return 1 if session is None else session.version

    def send(self, session_id: UUID, change: SessionChange, fault: Moment | None = None) -> Any:
        return self.ask(
            lambda: self.faulty.apply(session_id, change),
            lambda: self.model.apply(session_id, change),
            fault=fault,
        )

    # Writing --------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        for number, session_id in enumerate(IDS[:3]):
            self.create(session_id, USERS[number % 2], "equity", timedelta(0), 60, 1, {}, ("x",), None)

    @rule(
        session_id=st.sampled_from(IDS),
        user=st.none() | st.sampled_from(USERS),
        kind=st.sampled_from(["equity", "macro"]),
        age=st.sampled_from([timedelta(0), timedelta(minutes=3)]),
        lifetime=st.integers(1, 90),
        queries=st.integers(0, 2),
        sections=entries,
        tags=labels,
        fault=faults,
    )
    def create(
        self,
        session_id: UUID,
        user: str | None,
        kind: str,
        age: timedelta,
        lifetime: int,
        queries: int,
        sections: dict[Any, Any],
        tags: tuple[str, ...],
        fault: Moment | None,
    ) -> None:
        created = self.now - age
        session = stored_session(
            id=session_id,
            user_id=user,
            type=kind,
            assets=("x", "z"),
            tags=tuple(dict.fromkeys(tags)),
            created_at=created,
            last_accessed_at=created,
            expires_at=created + timedelta(minutes=lifetime),
            queries=tuple(stored_query(timestamp=created) for _ in range(queries)),
            sections=sections,
        )
        self.ask(
            lambda: self.faulty.create(session), lambda: self.model.create(ModelSession.of(session)), fault=fault
        )

    @rule(session_id=st.sampled_from(IDS), draft=drafts(), writer=st.integers(0, 2), fault=faults)
    def change(self, session_id: UUID, draft: dict[str, Any], writer: int, fault: Moment | None) -> None:
        change = self.made(draft, self.writers[writer], self.version_of(session_id))
        if self.send(session_id, change, fault) == LOST or _is_lost(fault):
            self.lost.append((session_id, change))

    @precondition(lambda self: self.lost)
    @rule(data=st.data(), fault=faults)
    def repeat_a_lost_change(self, data: st.DataObject, fault: Moment | None) -> None:
        number = data.draw(st.integers(0, len(self.lost) - 1))
        session_id, change = self.lost[number]
        change = change.repeated()
        self.lost[number] = session_id, change
        self.send(session_id, change, fault)

    @rule(work=st.lists(st.tuples(st.sampled_from(IDS), drafts(), st.integers(0, 2)), min_size=2, max_size=8))
    def change_all_at_once(self, work: list[tuple[UUID, dict[str, Any], int]]) -> None:
        changes = [
            (session_id, self.made(draft, self.writers[writer], self.version_of(session_id)))
            for session_id, draft, writer in work
        ]

        async def apply_all() -> list[Any]:
            calls = [self.faulty.apply(session_id, change) for session_id, change in changes]
            return [_outcome(answer) for answer in await asyncio.gather(*calls, return_exceptions=True)]

        def model() -> list[Any]:
            answers = []
            for session_id, change in changes:
                try:
                    answers.append(self.model.apply(session_id, change))
                except PerdureError as error:
                    answers.append(_error(error))
            return answers

        self.ask(apply_all, model)

    @rule(session_id=st.sampled_from(IDS), number=st.sampled_from([1, 31, 32]))
    def crowd_of_new_writers(self, session_id: UUID, number: int) -> None:
        work = [self.made({"at": timedelta(0)}, ChangeMaker(), 0) for _ in range(number)]
        for change in work:
            self.send(session_id, change)

    @rule(
        session_id=st.sampled_from(IDS), owner=st.none() | st.none() | st.sampled_from(USERS), keep=minutes, fault=faults
    )
    def delete(self, session_id: UUID, owner: str | None, keep: timedelta, fault: Moment | None) -> None:
        at = self.now + keep
        self.ask(
            lambda: self.faulty.delete(session_id, forget_at=at, owner=owner),
            lambda: self.model.delete(session_id, forget_at=at, owner=owner),
            fault=fault,
        )

    @rule(session_id=st.sampled_from(IDS), right=st.booleans(), fault=faults)
    def evict(self, session_id: UUID, right: bool, fault: Moment | None) -> None:
        session = self.model.sessions.get(session_id)
        version, head = (1, "none") if session is None else (session.version, session.head if right else "another")
        self.ask(
            lambda: self.faulty.evict(session_id, version=version, head=head),
            lambda: self.model.evict(session_id, version=version, head=head),
            fault=fault,
        )

    # Copies that went elsewhere -------------------------------------------------------------------

    @rule(session_id=st.sampled_from(IDS))
    def take_a_copy(self, session_id: UUID) -> None:
        stored = self.runner.run(self.faulty.inner.read(session_id))
        if stored is not None and len(self.branches) < 6:
            self.branches.append((stored, copy.deepcopy(self.model.sessions[session_id])))

    @precondition(lambda self: self.branches)
    @rule(data=st.data(), draft=drafts())
    def change_a_copy(self, data: st.DataObject, draft: dict[str, Any]) -> None:
        number = data.draw(st.integers(0, len(self.branches) - 1))
        stored, session = self.branches[number]
        elsewhere, model = MemoryBackend(), SessionModel()
        change = self.made(draft, ChangeMaker(), session.version)
        model.sessions[stored.id] = session

        async def change_there() -> StoredSession | None:
            await elsewhere.open()
            await elsewhere.absorb([stored])
            try:
                await elsewhere.apply(stored.id, change)
            except PerdureError as error:
                return _error(error)  # type: ignore[return-value]
            return await elsewhere.read(stored.id)

        try:
            model.apply(stored.id, change)
        except PerdureError as error:
            assert self.runner.run(change_there()) == _error(error)
        else:
            changed = self.runner.run(change_there())
            assert changed is not None
            assert _facts(changed) == session.as_read(None)
            self.branches[number] = changed, session

    @precondition(lambda self: self.branches)
    @rule(data=st.data(), with_tickets=st.booleans(), fault=faults)
    def absorb_copies(self, data: st.DataObject, with_tickets: bool, fault: Moment | None) -> None:
        numbers = data.draw(st.lists(st.integers(0, len(self.branches) - 1), min_size=1, max_size=4))
        chosen = [self.branches[number] for number in numbers]
        tickets = {known: ticket for known, (ticket, _) in self.model.tickets.items()} if with_tickets else None
        report: list[Absorbed] = []

        def model() -> list[Absorbed]:
            report.extend(self.model.absorb([session for _, session in chosen], tickets))
            return report

        self.ask(lambda: self.faulty.absorb([stored for stored, _ in chosen], tickets=tickets), model, fault=fault)
        for absorbed in report:
            if absorbed.outcome is AbsorbOutcome.FORKED:
                self._adopt_head(absorbed.session_id)

    def _adopt_head(self, session_id: UUID) -> None:
        """A fork's head is the backend's to choose, as long as it is a new one."""
        stored = self.runner.run(self.faulty.inner.read(session_id))
        assert stored is not None
        known = {session.head for _, session in self.branches} | {self.model.sessions[session_id].head}
        taken = [session for _, session in self.branches if (session.version, session.head) == (stored.version, stored.head)]
        assert stored.head not in known or taken, "two copies of one version and head are the same"
        self.model.sessions[session_id].head = stored.head

    @rule(session_id=st.sampled_from(IDS), fault=faults)
    def ticket(self, session_id: UUID, fault: Moment | None) -> None:
        given = ""

        async def take() -> str:
            nonlocal given
            given = await self.faulty.ticket(session_id, now=self.now)
            return given

        if fault is None:
            self.faulty.faults = []
            self.runner.run(take())
            assert given == self.model.ticket(session_id, given=given, now=self.now)
        else:
            self.ask(
                take,
                lambda: self.model.ticket(session_id, given=UNKNOWN_TICKET, now=self.now)
                if session_id not in self.model.tickets
                else None,
                fault=fault,
            )

    # Time -----------------------------------------------------------------------------------------

    @rule(by=minutes)
    def the_clock_moves(self, by: timedelta) -> None:
        self.now += by

    @rule(
        limit=st.integers(1, 3),
        max_bytes=st.sampled_from([1, 400, 10**6]),
        lease=st.integers(1, 40),
        fault=faults,
    )
    def claim_expired(self, limit: int, max_bytes: int, lease: int, fault: Moment | None) -> None:
        terms = {"now": self.now, "lease": timedelta(minutes=lease), "limit": limit, "max_bytes": max_bytes}
        claimed: list[StoredSession] = []

        def ids(answer: Any) -> list[UUID]:
            assert not answer.unreadable
            claimed.extend(answer)
            return [session.id for session in answer]

        self.ask(
            lambda: self.faulty.claim_expired(**terms),  # type: ignore[arg-type]
            lambda: self.model.claim_expired(**terms),  # type: ignore[arg-type]
            fault=fault,
            seen_as=ids,
        )
        for session in claimed:
            assert _facts(session) == self.model.sessions[session.id].as_read(None)

    @rule(before=minutes, limit=st.integers(1, 3), dry_run=st.booleans(), fault=faults)
    def purge(self, before: timedelta, limit: int, dry_run: bool, fault: Moment | None) -> None:
        terms = {"archived_before": self.now + before, "now": self.now, "limit": limit, "dry_run": dry_run}
        self.ask(
            lambda: self.faulty.purge(**terms),  # type: ignore[arg-type]
            lambda: self.model.purge(**terms),  # type: ignore[arg-type]
            fault=fault,
        )

    @rule(interval=st.sampled_from([0, 10, 60]), fault=faults)
    def start_sweep(self, interval: int, fault: Moment | None) -> None:
        terms = {"now": self.now, "interval": timedelta(minutes=interval)}
        self.ask(
            lambda: self.faulty.start_sweep(**terms),  # type: ignore[arg-type]
            lambda: self.model.start_sweep(**terms),  # type: ignore[arg-type]
            fault=fault,
        )

    @rule()
    def restart(self) -> None:
        self.runner.run(self.faulty.aclose())
        self.faulty = FaultyBackend(self.fresh())
        self.runner.run(self.faulty.open())

    # Reading --------------------------------------------------------------------------------------

    @rule(session_id=st.sampled_from(IDS), history=st.none() | st.integers(0, 4), fault=faults)
    def read(self, session_id: UUID, history: int | None, fault: Moment | None) -> None:
        session = self.model.sessions.get(session_id)
        self.ask(
            lambda: self.faulty.read(session_id, history=history),
            lambda: None if session is None else session.as_read(history),
            fault=fault,
            seen_as=lambda stored: None if stored is None else _facts(stored),
        )

    @rule(
        session_id=st.sampled_from(IDS),
        after=st.integers(0, 5),
        before=st.none() | st.integers(1, 8),
        limit=st.integers(1, 4),
        owner=st.none() | st.sampled_from(USERS),
    )
    def queries(self, session_id: UUID, after: int, before: int | None, limit: int, owner: str | None) -> None:
        found = self.runner.run(
            self.faulty.inner.queries(session_id, after=after, before=before, limit=limit, owner=owner)
        )
        expected = self.model.queries(session_id, after=after, before=before, limit=limit, owner=owner)
        assert (None if found is None else (found.bodies, found.total)) == (
            None if expected is None else (expected.bodies, expected.total)
        )
        if found is not None and expected is not None and found.bodies:
            assert found.first_position == expected.first_position

    @rule(wanted=filters, limit=st.integers(1, 3), fault=faults)
    def find(self, wanted: SessionFilter, limit: int, fault: Moment | None) -> None:
        matching = [SessionSummary(**_summary(session)) for session in self.model.matching(wanted)]

        async def walk() -> list[SessionSummary]:
            page = await self.faulty.find(wanted, limit=limit)
            found = list(page)
            while page.next_cursor is not None:
                assert len(page) == limit
                page = await self.faulty.find(wanted, cursor=page.next_cursor, limit=limit)
                found += page
            return found

        self.ask(walk, lambda: matching, fault=fault)

    @rule(wanted=filters)
    def turn_a_page(self, wanted: SessionFilter) -> None:
        walk = self.walk
        if walk is None:
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

    @rule(wanted=filters)
    def aggregate(self, wanted: SessionFilter) -> None:
        matching = [session.as_read(None) for session in self.model.matching(wanted)]
        expected = totals_of(StoredSession(**facts) for facts in matching)
        assert self.runner.run(self.faulty.inner.aggregate(wanted)) == expected

    @rule()
    def health(self) -> None:
        health = self.runner.run(self.faulty.inner.health(now=self.now))
        due = [s for s in self.model.sessions.values() if s.archived is None and s.due is not None and s.due <= self.now]
        assert (health.ok, health.due, health.last_swept_at) == (True, len(due), self.model.swept)

    @invariant()
    def every_session_is_as_the_model_says(self) -> None:
        for session_id, session in self.model.sessions.items():
            stored = self.runner.run(self.faulty.inner.read(session_id))
            assert stored is not None
            assert _facts(stored) == session.as_read(None)


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
        problems = self.runner.run(self.faulty.inner.schema.verify()) if self.faulty.inner.schema is not None else []
        super().teardown()
        self.folder.cleanup()
        assert problems == []


def _error(error: BaseException) -> Any:
    """What of an error must agree."""
    return LOST if isinstance(error, BackendUnavailableError) else (type(error), str(error), vars(error))


def _outcome(answer: Any) -> Any:
    return _error(answer) if isinstance(answer, BaseException) else answer


def _is_lost(fault: Moment | None) -> bool:
    return fault is not None


def _facts(stored: StoredSession) -> dict[str, Any]:
    """Everything of a session but the memory of repeats, which shows in the answers only."""
    names = StoredSession.__slots__
    return {name: getattr(stored, name) for name in names if name != "writers"}


def _summary(session: ModelSession) -> dict[str, Any]:
    facts = session.as_read(0)
    return {name: facts[name] for name in SessionSummary.model_fields}


def _case(machine: type[BackendMachine]) -> Any:
    case = machine.TestCase
    case.settings = settings(
        settings.get_profile("soak" if not QUICK else "default"),
        **SIZE,  # type: ignore[arg-type]
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return case


TestMemory = _case(MemoryMachine)
TestSqlite = _case(SqliteMachine)


@pytest.fixture(scope="module", autouse=True)
def template() -> Any:
    """An empty database, to be copied."""
    with tempfile.TemporaryDirectory() as folder:
        SqliteMachine.template = Path(folder) / "empty.db"
        asyncio.run(SqliteBackend(SqliteMachine.template).schema.create())
        yield
