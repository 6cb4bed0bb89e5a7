"""The steps that only look: at sessions, listings, statistics and health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from random import Random
from typing import Any, TypeVar
from uuid import UUID

from hypothesis.stateful import invariant, precondition, rule
from tests.backends.machine.asking import Asking, Walk, facts_of
from tests.backends.machine.choices import (
    IDS,
    USERS,
    choices,
    fault,
    measured,
    minutes,
    session_filter,
    some,
    stats_filter,
)
from tests.backends.machine.model import ModelSession

from perdure.backends.measuring import measures_of
from perdure.backends.totals import totals_of
from perdure.models import Page, SessionFilter, SessionMetrics, SessionSummary, StatsFilter, StoredSession

T = TypeVar("T")


class Reading(Asking):
    """Whatever was done, everybody is told the same."""

    @rule(rng=choices)
    def read(self, rng: Random) -> None:
        session_id, history = rng.choice(IDS), rng.choice([None, 0, 1, 2, 5])
        session = self.model.sessions.get(session_id)
        self.ask(
            lambda: self.faulty.read(session_id, history=history),
            lambda: None if session is None else session.as_read(history),
            fault=fault(rng),
            seen_as=lambda stored: None if stored is None else facts_of(stored),
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

        self.ask(
            lambda: every(self.faulty.find, wanted, limit),
            lambda: [SessionSummary(**_summary(session)) for session in matching],
            fault=fault(rng),
        )
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

        listed = [measured(session, now=now) for session in self.model.counted(wanted, ())]
        self.ask(
            lambda: every(self.faulty.metrics, wanted, limit),
            lambda: [SessionMetrics.counted(each.facts, each.counts) for each in listed],
        )

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
            walk = self.walk = Walk(wanted, None, self._places(wanted))
        page = self.runner.run(self.faulty.inner.find(walk.wanted, cursor=walk.cursor, limit=1))
        walk.found += [summary.id for summary in page]
        walk.cursor = page.next_cursor
        if walk.cursor is None:
            assert {known for known, _ in walk.throughout if walk.found.count(known) != 1} == set()
            self.walk = None

    @invariant()
    def note_what_matches_throughout(self) -> None:
        if self.walk is not None:
            self.walk.throughout &= self._places(self.walk.wanted)

    def _places(self, wanted: SessionFilter) -> set[tuple[UUID, datetime]]:
        """What a listing has, and where: a copy that says it was created at another time moves its session."""
        return {(session.id, session.created) for session in self.model.matching(wanted)}

    @rule()
    def ask_for_health(self) -> None:
        health = self.runner.run(self.faulty.inner.health(now=self.now))
        due = [s for s in self.model.sessions.values() if s.due is not None and s.due <= self.now]
        assert (health.ok, health.due, health.last_swept_at) == (True, len(due), self.model.swept)


async def every(page_of: Callable[..., Awaitable[Page[T]]], wanted: SessionFilter | StatsFilter, limit: int) -> list[T]:
    """All that a listing gives, page by page; each but the last one is full."""
    page = await page_of(wanted, limit=limit)
    found = list(page)
    while page.next_cursor is not None:
        assert len(page) == limit
        page = await page_of(wanted, cursor=page.next_cursor, limit=limit)
        found += page
    return found


def _itself(answer: Any) -> Any:
    return answer


def _summary(session: ModelSession) -> dict[str, Any]:
    facts = session.as_read(0)
    return {name: facts[name] for name in SessionSummary.model_fields if name != "is_stale"} | {"is_stale": False}
