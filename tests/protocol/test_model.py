"""The model says of copies what perdure does with them: changes, repeats, merges, on every short life of a session."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from itertools import product
from uuid import UUID, uuid5

import pytest
from tests.protocol.model import Change, Copy, Outcome, Tiers

from perdure.changes import SessionChange, apply_whole, recall
from perdure.errors import OutcomeUnknownError, SessionArchivedError, SessionExpiredError
from perdure.merging import AbsorbOutcome, merge
from perdure.models import StoredQuery, StoredSession
from perdure.testing.builders import START, stored_query, stored_session

TICK = timedelta(hours=1)
NAMES = UUID("0b3a0f5e-9f0c-4d7b-8a5e-6a1d6c6f4d11")
TIERS = Tiers()
WRITES = (
    Change("W"),
    Change("W", 2, extends=True),
    Change("X"),
    Change("E", extends=True),
    Change("A", archives=True),
)
Lineage = tuple[Change, ...]


@cache
def body(name: str) -> StoredQuery:
    return stored_query(name)


def change_of(change: Change, *, attempt: int, now: int) -> SessionChange:
    at = START + now * TICK
    return SessionChange(
        writer=uuid5(NAMES, change.writer),
        change_id=change.number,
        at=at,
        attempt=attempt,
        queries=tuple(body(name) for name in change.queries),
        expires_at=at + TICK if change.extends else None,
        archive=change.archives,
    )


def created() -> tuple[Copy, StoredSession]:
    first = stored_session(queries=(body("c1"),), id=uuid5(NAMES, "session"), head="creation", version=1)
    return Copy(1, "creation", ("c1",)), first


def applied(stored: StoredSession, change: SessionChange) -> Outcome:
    """What perdure does, in the words of the model."""
    try:
        again = recall(stored, change) is not None
        apply_whole(stored, change)
    except OutcomeUnknownError:
        return "unknown"
    except SessionArchivedError:
        return "archived"
    except SessionExpiredError:
        return "expired"
    return "repeat" if again else "applied"


def facts(copy: Copy) -> tuple[object, ...]:
    archived = None if copy.archived_at is None else START + copy.archived_at * TICK
    history = [body(name).body for name in copy.history]
    return copy.version, history, START + copy.expires_at * TICK, archived


def facts_of(stored: StoredSession) -> tuple[object, ...]:
    return stored.version, stored.queries, stored.expires_at, stored.archived_at


def lived(lineage: Lineage, *, attempt: int, now: int) -> tuple[Copy, StoredSession, list[tuple[Outcome, Outcome]]]:
    copy, stored = created()
    outcomes = []
    for change in lineage:
        said, copy = TIERS.changed(copy, change, attempt=attempt, now=now)
        outcomes.append((said, applied(stored, change_of(change, attempt=attempt, now=now))))
    return copy, stored, outcomes


LINEAGES: list[Lineage] = [lineage for length in range(4) for lineage in product(WRITES, repeat=length)]


@pytest.mark.parametrize("now", [0, 1])
def test_changes_and_repeats_come_to_the_same(now: int) -> None:
    for lineage in LINEAGES:
        copy, stored, outcomes = lived(lineage, attempt=1, now=now)
        assert [said for said, _ in outcomes] == [done for _, done in outcomes], lineage
        assert facts(copy) == facts_of(stored), lineage


def test_two_attempts_have_two_heads() -> None:
    for change in WRITES:
        heads = {change_of(change, attempt=attempt, now=0).head for attempt in (1, 2, 3)}
        assert len(heads) == len({TIERS.head(change, attempt) for attempt in (1, 2, 3)}) == 3


def test_merges_come_to_the_same() -> None:
    lives = [lived(lineage, attempt=1, now=0)[:2] for lineage in LINEAGES if len(lineage) < 3]
    seen: set[AbsorbOutcome] = set()
    for (kept, kept_stored), (incoming, incoming_stored) in product(lives, repeat=2):
        for kept_at, incoming_at in ((1, 2), (2, 1)):
            kept_copy = kept._replace(archived_at=kept_at)
            incoming_copy = incoming._replace(archived_at=incoming_at)
            one, other = kept_stored.copy(), incoming_stored.copy()
            one.archived_at, other.archived_at = START + kept_at * TICK, START + incoming_at * TICK

            merged = TIERS.merged(kept_copy, incoming_copy)
            outcome, result = merge(one, other)

            assert facts(merged) == facts_of(result), (kept_copy, incoming_copy)
            assert outcome is said_of(merged, kept_copy, incoming_copy)
            for change in WRITES:
                repeat = change_of(change, attempt=2, now=0)
                assert TIERS.changed(merged, change, attempt=2, now=0)[0] == applied(result.copy(), repeat)
            seen.add(outcome)
    assert seen == {AbsorbOutcome.UNCHANGED, AbsorbOutcome.MERGED, AbsorbOutcome.FORKED}


def said_of(merged: Copy, kept: Copy, incoming: Copy) -> AbsorbOutcome:
    if merged == kept:
        return AbsorbOutcome.UNCHANGED
    return AbsorbOutcome.MERGED if merged == incoming else AbsorbOutcome.FORKED
