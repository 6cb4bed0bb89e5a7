"""The explorer itself, on two clerks who count one thing together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import pytest
from tests.protocol.checker import Process, check


class Note(NamedTuple):
    at: str = "start"
    read: int = 0


class Ledger(NamedTuple):
    total: int = 0
    crashes: int = 0
    running: tuple[Note, ...] = (Note(), Note())


class Clerk(Process):
    """Adds one, in two steps."""

    may_crash: ClassVar[bool] = True

    def start(self, ledger: Ledger, me: Note) -> Iterator[tuple[Ledger, Note]]:
        yield ledger, Note("write", ledger.total)

    def write(self, ledger: Ledger, me: Note) -> Iterator[tuple[Ledger, Note]]:
        yield ledger._replace(total=me.read + 1), Note("done")

    def done(self, ledger: Ledger, me: Note) -> Iterator[tuple[Ledger, Note]]:
        yield from ()


class Office:
    """Two clerks, of whom one or the other thing may be demanded."""

    processes = (Clerk("Ann"), Clerk("Bob"))

    def __init__(self, *, crashes: int = 0, demands: tuple[str, ...] = ()) -> None:
        self.initial = Ledger(crashes=crashes)
        self.demands = demands

    def settled(self, state: Ledger) -> Ledger:
        return state

    def broken_in(self, state: Ledger) -> Iterator[str]:
        over = all(note.at == "done" for note in state.running)
        if over and state.total < 2 and "complete" in self.demands:
            yield "complete"
        if state.total == 2 and "small" in self.demands:
            yield "small"
        if state.crashes < self.initial.crashes and "calm" in self.demands:
            yield "calm"

    def broken_by(self, before: Ledger, after: Ledger) -> Iterator[str]:
        if before.total == after.total == 1 and before.running != after.running and "moving" in self.demands:
            yield "moving"

    def described(self, before: Ledger, after: Ledger) -> str:
        return f"total {after.total}" if after.total != before.total else ""


def test_every_interleaving_is_explored() -> None:
    # Each clerk is at one of three stages, and notes or finds what the order so far lets it.
    assert check(Office()).states == 12
    assert check(Office()).broken is None


def test_a_counterexample_is_a_shortest_one_and_can_be_read() -> None:
    found = check(Office(demands=("complete",)))

    assert found.broken == "complete"
    assert [line.split(".")[0].strip() for line in found.trace] == ["1", "2", "3", "4"]
    assert {line.split(".")[1].split(": ")[0].strip() for line in found.trace} == {"Ann", "Bob"}
    assert [line.partition("  total ")[2] for line in found.trace] == ["", "", "1", ""]
    assert str(found).startswith("broken: complete\n  1. ")


def test_steps_are_checked_however_well_known_their_end_is() -> None:
    found = check(Office(demands=("moving",)))

    assert found.broken == "moving"


def test_one_property_can_be_looked_for_alone() -> None:
    office = Office(demands=("complete", "small"))

    assert check(office, only="small").broken == "small"
    assert check(office, only="complete").broken == "complete"
    assert check(office, only="moving").broken is None


def test_a_crash_may_come_between_any_two_steps_and_takes_the_progress_along() -> None:
    found = check(Office(crashes=1, demands=("calm",)))

    assert [line.split(".")[1].strip() for line in found.trace] == ["Ann: start", "Ann: crashes before write"]
    assert check(Office(crashes=1, demands=("complete",))).broken == "complete"


def test_too_many_states_are_an_error() -> None:
    with pytest.raises(AssertionError, match="more than 5 states"):
        check(Office(), limit=5)
