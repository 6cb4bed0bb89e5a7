"""Casts: who is on stage at once. Each is explored whole; together they bring everyone up against everyone else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.protocol import properties
from tests.protocol.archiving import Retention, Sweeper
from tests.protocol.checker import Process
from tests.protocol.model import Change, Copy, Hot, Progress, Promises, Property, Tiers, World
from tests.protocol.processes import Clock, Creator, Deleter, Rollback, Writer
from tests.protocol.reading import Lister, Reader

__all__ = ["CONFIGURATIONS", "Configuration", "Design", "TwoTiers"]


@dataclass(frozen=True)
class Design:
    """The protocol: what a tier does in one step, and in which order who takes which."""

    tiers: Tiers = field(default_factory=Tiers)
    writer: type[Writer] = Writer
    creator: type[Creator] = Creator
    deleter: type[Deleter] = Deleter
    reader: type[Reader] = Reader
    lister: type[Lister] = Lister
    sweeper: type[Sweeper] = Sweeper
    retention: type[Retention] = Retention
    clock: type[Clock] = Clock

    def writes(self, *changes: Change) -> Process:
        return self.writer(self.tiers, *changes)

    def creates(self) -> Process:
        return self.creator(self.tiers, "creator")

    def deletes(self) -> Process:
        return self.deleter(self.tiers, "deleter")

    def reads(self) -> Process:
        return self.reader(self.tiers, "reader")

    def lists(self) -> Process:
        return self.lister(self.tiers, "lister")

    def sweeps(self, number: int = 1) -> Process:
        return self.sweeper(self.tiers, f"sweeper {number}")

    def retires(self) -> Process:
        return self.retention(self.tiers, "retention")


@dataclass(frozen=True)
class Configuration:
    """One cast, how often its clock ticks, how many crashes or lost replies there are, and whether hot rolls back."""

    says: str
    cast: Callable[[Design], Iterable[Process]]
    ticks: int
    crashes: int = 1
    rolls_back: bool = False

    def system(self, design: Design) -> TwoTiers:
        """What there is to explore."""
        processes = [*self.cast(design), design.clock(design.tiers, self.ticks)]
        if self.rolls_back:
            processes.append(Rollback(design.tiers))
        return TwoTiers(tuple(processes), self.crashes, design.sweeper(design.tiers, "last sweeper"))


class TwoTiers:
    """A system for the explorer: an active session in hot, and nothing done yet."""

    def __init__(self, processes: tuple[Process, ...], crashes: int, last_sweeper: Sweeper) -> None:
        self.processes = processes
        self.initial = World(
            Hot(Copy(1, "creation", ("c1",))),
            crashes=crashes,
            promises=Promises(acknowledged=frozenset({"c1"})),
            running=tuple(Progress() for _ in processes),
        )
        self._last_sweeper = last_sweeper
        self._known: dict[World, tuple[Property, ...]] = {}

    def settled(self, state: World) -> World:
        """Tickets that can never be valid again are all alike."""
        alive = {0, state.hot.ticket, 0 if state.earlier is None else state.earlier.ticket}
        if all(progress.ticket in alive for progress in state.running):
            return state
        running = [each if each.ticket in alive else each._replace(ticket=0) for each in state.running]
        return state._replace(running=tuple(running))

    def broken_in(self, state: World) -> tuple[Property, ...]:
        """See `tests.protocol.properties`; asked once for each different answer."""
        asked = World(Hot(state.hot.slot), state.archive, promises=state.promises, broken=state.broken)
        if asked not in self._known:
            self._known[asked] = tuple(properties.broken_in(asked, self._last_sweeper))
        return self._known[asked]

    def broken_by(self, before: World, after: World) -> Iterable[Property]:
        """See `tests.protocol.properties`."""
        return properties.broken_by(before, after)

    def described(self, before: World, after: World) -> str:
        """What changed in the tiers, and what callers heard."""
        ticket = f", ticket {after.hot.ticket}" if after.hot.ticket else ""
        news = after.promises.acknowledged - before.promises.acknowledged
        said = {
            f"now {after.now}": after.now != before.now,
            f"hot: {after.hot.slot or 'empty'}{ticket}": after.hot != before.hot,
            f"archive: {after.archive or 'empty'}": after.archive != before.archive,
            f"acknowledged: {' '.join(sorted(news))}": bool(news),
            f"deletion {after.promises.deletion}": after.promises.deletion != before.promises.deletion,
            "(the reply is lost)": after.crashes < before.crashes,
        }
        return "; ".join(text for text, is_news in said.items() if is_news)


APPEND, OTHER = Change("W"), Change("X")
EXTEND, REVIVE = Change("E", extends=True), Change("R", extends=True)
ARCHIVE = Change("A", archives=True)

CONFIGURATIONS = {
    "sweeping": Configuration(
        "two sweepers, one who appends and one who extends",
        lambda some: [some.writes(APPEND), some.writes(EXTEND), some.sweeps(1), some.sweeps(2)],
        ticks=2,
    ),
    "restoring": Configuration(
        "two who restore, one of whom writes again, a sweeper, a reader",
        lambda some: [some.writes(EXTEND), some.writes(REVIVE, Change("R", 2)), some.sweeps(), some.reads()],
        ticks=2,
    ),
    "archiving": Configuration(
        "one who archives, one who extends, two sweepers",
        lambda some: [some.writes(ARCHIVE), some.writes(EXTEND), some.sweeps(1), some.sweeps(2)],
        ticks=2,
    ),
    "creating": Configuration(
        "one who creates the same id, one who extends, a sweeper, a reader",
        lambda some: [some.creates(), some.writes(EXTEND), some.sweeps(), some.reads()],
        ticks=2,
    ),
    "deleting": Configuration(
        "one who deletes, one who extends, two sweepers, a reader",
        lambda some: [some.deletes(), some.writes(EXTEND), some.sweeps(1), some.sweeps(2), some.reads()],
        ticks=2,
    ),
    "listing": Configuration(
        "a lister, one who deletes, one who extends, a sweeper",
        lambda some: [some.lists(), some.deletes(), some.writes(EXTEND), some.sweeps()],
        ticks=2,
    ),
    "retiring": Configuration(
        "retention, one who restores, a sweeper, a reader",
        lambda some: [some.retires(), some.writes(EXTEND), some.sweeps(), some.reads()],
        ticks=3,
    ),
    "rolling back: repeats": Configuration(
        "three writers, one of whom extends, a sweeper; the version that the archive has is given once more",
        lambda some: [some.writes(APPEND), some.writes(OTHER), some.writes(EXTEND), some.sweeps()],
        ticks=1,
        rolls_back=True,
    ),
    "rolling back: forks": Configuration(
        "one who appends and later extends, one who appends, a sweeper",
        lambda some: [some.writes(APPEND, Change("W", 2, extends=True)), some.writes(OTHER), some.sweeps()],
        ticks=2,
        rolls_back=True,
    ),
    "rolling back: restoring": Configuration(
        "two who restore, two sweepers",
        lambda some: [some.writes(EXTEND), some.writes(REVIVE), some.sweeps(1), some.sweeps(2)],
        ticks=2,
        crashes=0,
        rolls_back=True,
    ),
    "rolling back: deleting": Configuration(
        "one who deletes, one who extends, a sweeper, a reader",
        lambda some: [some.deletes(), some.writes(EXTEND), some.sweeps(), some.reads()],
        ticks=2,
        rolls_back=True,
    ),
    "rolling back: retiring": Configuration(
        "retention, one who appends, one who restores, a sweeper",
        lambda some: [some.retires(), some.writes(APPEND), some.writes(EXTEND), some.sweeps()],
        ticks=3,
        crashes=0,
        rolls_back=True,
    ),
}
