"""The steps that time brings: what expires is claimed, archived, and removed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

from hypothesis.stateful import precondition, rule
from tests.backends.machine.asking import facts_of
from tests.backends.machine.choices import (
    IDS,
    choices,
    draft,
    fault,
    minutes,
    some,
)
from tests.backends.machine.copying import Copying

from perdure.backends import Archived, ArchiveOutcome
from perdure.errors import BackendUnavailableError
from perdure.models import StoredSession
from perdure.testing import Moment


class Archiving(Copying):
    """Time goes by."""

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
            assert facts_of(session) == self.model.sessions[session.id].as_read(None)
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
            assert facts_of(session) == self.model.sessions[session.id].as_read(None)

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
