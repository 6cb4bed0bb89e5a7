"""Asking a backend and the model of the contract the same, and comparing what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, ClassVar
from uuid import UUID

from hypothesis.stateful import RuleBasedStateMachine, rule
from tests.backends.machine.choices import (
    IDS,
    Details,
    draft,
)
from tests.backends.machine.model import ModelSession, SessionModel

from perdure import SessionFilter
from perdure.backends import SessionBackend
from perdure.changes import SessionChange
from perdure.errors import BackendUnavailableError, PerdureError
from perdure.models import StoredSession
from perdure.testing import START, ChangeMaker, Fault, FaultyBackend, Moment, stored_session

LOST = "the answer was lost"
SENT = (Moment.AFTER, Moment.CANCEL_AFTER)


@dataclass
class Walk:
    """A listing that is read page by page while others write."""

    wanted: SessionFilter
    cursor: str | None
    throughout: set[tuple[UUID, datetime]]
    """Sessions that have matched since the first page, and when they were created."""
    found: list[UUID] = field(default_factory=list)


class Asking(RuleBasedStateMachine):
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
                return error_of(error)
            except asyncio.CancelledError:
                return LOST

        expected: Any = LOST
        if fault is None or fault in SENT:
            try:
                answer = model()
                expected = answer if fault is None else LOST
            except PerdureError as error:
                expected = error_of(error)
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
            return [error_of(answer) if isinstance(answer, BaseException) else answer for answer in answers]

        def model() -> list[Any]:
            answers: list[Any] = []
            for session_id, change in work:
                try:
                    answers.append(self.model.apply(session_id, change))
                except PerdureError as error:
                    answers.append(error_of(error))
            return answers

        self.ask(apply_all, model)

    @rule()
    def restart(self) -> None:
        self.runner.run(self.faulty.aclose())
        self.faulty = FaultyBackend(self.fresh())
        self.runner.run(self.faulty.open())

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
        assert (None if stored is None else facts_of(stored)) == (None if session is None else session.as_read(None))


def error_of(error: BaseException) -> Any:
    """What of an error must agree."""
    return LOST if isinstance(error, BackendUnavailableError) else (type(error), str(error), vars(error))


def facts_of(stored: StoredSession) -> dict[str, Any]:
    """Everything of a session but the memory of repeats, which shows in the answers only."""
    names = StoredSession.__slots__
    return {name: getattr(stored, name) for name in names if name != "writers"}
