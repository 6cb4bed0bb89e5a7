"""What a step of the machines is about in detail: which sessions, changes, filters and faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, ClassVar, TypeVar
from uuid import UUID
from zlib import crc32

import hypothesis.strategies as st
from tests.backends.machine.model import ModelSession

from perdure import SessionFilter
from perdure.models import SECTIONS, Measured, StatsFilter, StoredSession
from perdure.testing import START, Moment, stored_query

IDS = [UUID(int=number << 64) for number in range(1, 4)]
USERS = ["ann", "bob"]
LABELS = ["x", "y", "ü"]
KEYS = ["k", "l", "ключ"]
TEXTS = ["1", '"a"', '{"ö":[null]}']

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
