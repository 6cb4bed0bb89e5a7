"""The steps that write: by changes, repeated ones too, by deleting and by forgetting."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from random import Random
from uuid import UUID

from hypothesis.stateful import initialize, precondition, rule
from tests.backends.machine.asking import Asking
from tests.backends.machine.choices import (
    IDS,
    LABELS,
    USERS,
    choices,
    fault,
    minutes,
    sections,
    some,
)
from tests.backends.machine.model import ModelSession

from perdure.testing import ChangeMaker, Moment, stored_query, stored_session


class Writing(Asking):
    """Sessions come, change and go."""

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
