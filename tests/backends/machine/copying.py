"""The steps with copies: whole ones that went elsewhere and come back, and those of a cache."""

from __future__ import annotations

import copy
from contextlib import suppress
from datetime import timedelta
from random import Random
from uuid import UUID

from hypothesis.stateful import precondition, rule
from tests.backends.machine.asking import facts_of
from tests.backends.machine.choices import (
    IDS,
    choices,
    fault,
)
from tests.backends.machine.model import UNKNOWN_TICKET, ModelSession, SessionModel
from tests.backends.machine.writing import Writing

from perdure.backends import Absorbed, MemoryBackend
from perdure.errors import PerdureError
from perdure.merging import AbsorbOutcome
from perdure.models import StoredSession
from perdure.testing import ChangeMaker, Moment, stored_query, stored_session


class Copying(Writing):
    """Sessions are copied, changed elsewhere, and absorbed; and cached."""

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
        assert facts_of(changed) == session.as_read(None)
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
