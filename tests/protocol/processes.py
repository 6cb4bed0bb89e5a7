"""Who writes to the two tiers of `acknowledge="hot"`, step by step; and time, and a hot tier that rolls back.

Each class is a recipe: one method is one atomic step, and yields what the world is then, with the step that comes next.
Between two steps anything else may happen. A crash begins the recipe anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, TypeAlias

from tests.protocol.checker import Process
from tests.protocol.model import TOMBSTONE, Change, Copy, Outcome, Progress, Property, Tiers, World, shown

__all__ = ["DONE", "Clock", "Creator", "Deleter", "Rollback", "Steps", "TieredProcess", "Writer", "told_absent"]

Steps: TypeAlias = Iterator[tuple[World, Progress]]

DONE = Progress("done")


class TieredProcess(Process):
    """Someone who talks to the two tiers."""

    def __init__(self, tiers: Tiers, name: str) -> None:
        super().__init__(name)
        self.tiers = tiers

    def done(self, world: World, me: Progress) -> Steps:
        """Nothing is left to do."""
        yield from ()


class Writer(TieredProcess):
    """`apply`: hot's copy takes the change; where hot has none, the archive's, changed already, fills the slot.

    A copy that a change archives stays in hot, where it judges, until a sweep moves it like any other that has expired.
    The changes are made one after the other. Losing the reply is like a crash: the change is repeated.
    """

    may_crash: ClassVar[bool] = True

    def __init__(self, tiers: Tiers, *changes: Change) -> None:
        super().__init__(tiers, f"writer {changes[0].writer}")
        self.changes = changes

    def restarted(self, me: Progress) -> Progress:
        return Progress(number=me.number, attempt=me.attempt + 1)

    def start(self, world: World, me: Progress) -> Steps:
        """Apply the change to hot's copy. A tombstone ends it; an empty slot may have to be filled."""
        after, outcome = self.tiers.apply(world, self.change(me), me.attempt)
        if outcome == "empty":
            yield world, me._replace(at="take_ticket")
        else:
            yield from self.answered(after, me, outcome)

    def take_ticket(self, world: World, me: Progress) -> Steps:
        """Take a ticket, before the archive is looked at."""
        after, ticket = self.tiers.take_ticket(world)
        yield after, me._replace(at="look_again", ticket=ticket)

    def look_again(self, world: World, me: Progress) -> Steps:
        """If hot holds something by now, begin again."""
        yield world, me._replace(at="read_archive") if world.hot.slot is None else self.anew(me)

    def read_archive(self, world: World, me: Progress) -> Steps:
        """Read the archive's copy, and change it here. A miss is believed when both tiers have missed twice."""
        kept = world.archive
        if kept is None and not me.missed:
            yield world, self.anew(me)._replace(missed=True)
        elif not isinstance(kept, Copy):
            yield from self.answered(told_absent(world), me, "empty")
        else:
            outcome, copy = self.tiers.changed(kept, self.change(me), attempt=me.attempt, now=world.now)
            if outcome == "applied":
                yield world, me._replace(at="fill", copy=copy)
            else:
                yield from self.answered(world, me, outcome)

    def fill(self, world: World, me: Progress) -> Steps:
        """Fill the changed copy into the empty slot with the ticket. Refused: begin again."""
        assert me.copy is not None
        after, filled = self.tiers.fill(world, me.copy, me.ticket)
        if filled:
            yield from self.answered(after, me, "applied")
        else:
            yield world, self.anew(me)

    def answered(self, world: World, me: Progress, outcome: Outcome) -> Steps:
        """The caller hears the outcome, unless the reply is lost."""
        if outcome == "applied" and world.crashes:
            yield world._replace(crashes=world.crashes - 1), self.restarted(me)
        if outcome in ("applied", "repeat"):
            world = acknowledged(world, self.change(me), again=outcome == "repeat")
        yield world, Progress(number=me.number + 1) if me.number < len(self.changes) else DONE

    def change(self, me: Progress) -> Change:
        """The one that is being made."""
        return self.changes[me.number - 1]

    def anew(self, me: Progress) -> Progress:
        """At the start, with the same attempt: it certainly was not applied."""
        return Progress(number=me.number, attempt=me.attempt)


def acknowledged(world: World, change: Change, *, again: bool = False) -> World:
    """The caller hears of success; of a repeat, that the first time was one, whatever hot may have lost since."""
    if again and world.rolled_back:
        return world
    promises = world.promises
    return world._replace(promises=promises._replace(acknowledged=promises.acknowledged.union(change.queries)))


def told_absent(world: World) -> World:
    """Somebody hears that there is no such session. (If hot rolled back, or retention came, that may have been so.)"""
    excused = world.rolled_back or world.promises.retired or world.promises.deletion != "none"
    return world if excused or shown(world) is None else world._replace(broken=Property.PRESENT)


class Creator(TieredProcess):
    """`create` of an id that somebody may hold (here somebody does): it fills an empty slot, as a restore does."""

    may_crash: ClassVar[bool] = True

    def start(self, world: World, me: Progress) -> Steps:
        """Take a ticket, before the archive is looked at."""
        after, ticket = self.tiers.take_ticket(world)
        yield after, Progress("read_archive", ticket=ticket)

    def read_archive(self, world: World, me: Progress) -> Steps:
        """If the archive holds something, the id is in use."""
        yield world, me._replace(at="fill") if world.archive is None else DONE

    def fill(self, world: World, me: Progress) -> Steps:
        """Fill the new session into the empty slot with the ticket. Refused: the id is in use."""
        yield self.tiers.fill(world, Copy(1, "another", ("another",)), me.ticket)[0], DONE


class Deleter(TieredProcess):
    """`delete`: a tombstone in hot, then one in the archive, then success."""

    may_crash: ClassVar[bool] = True

    def start(self, world: World, me: Progress) -> Steps:
        """A tombstone in hot, in place of the copy; from now on nobody sees the session."""
        yield self.begun(self.tiers.bury(world)), Progress("bury_in_archive")

    def bury_in_archive(self, world: World, me: Progress) -> Steps:
        """A tombstone in the archive. The caller hears of success."""
        yield self.succeeded(self.tiers.bury_in_archive(world)), DONE

    def begun(self, world: World) -> World:
        """From now on the session may be seen or not."""
        promises = world.promises
        return world if promises.deletion != "none" else world._replace(promises=promises._replace(deletion="begun"))

    def succeeded(self, world: World) -> World:
        """From now on the session must not be seen; unless hot rolled back to before its tombstone."""
        undone = world.rolled_back and world.hot.slot is not TOMBSTONE
        return world._replace(promises=world.promises._replace(deletion="undone" if undone else "acknowledged"))


class Clock(TieredProcess):
    """Time passes, a few times. A session lives for a tick; what was archived a tick ago, retention may remove."""

    def __init__(self, tiers: Tiers, ticks: int) -> None:
        super().__init__(tiers, "clock")
        self.ticks = ticks

    def start(self, world: World, me: Progress) -> Steps:
        """A tick."""
        if world.now < self.ticks:
            yield world._replace(now=world.now + 1), me


class Rollback(TieredProcess):
    """Hot goes back, once, to an earlier state of itself: a fail-over to a replica that was behind, a cut-off log."""

    def __init__(self, tiers: Tiers) -> None:
        super().__init__(tiers, "hot")

    def start(self, world: World, me: Progress) -> Steps:
        """This is the state that will come back."""
        yield world._replace(earlier=world.hot), Progress("roll_back")

    def roll_back(self, world: World, me: Progress) -> Steps:
        """It comes back. What hot alone acknowledged since then is lost, and nothing else may be."""
        assert world.earlier is not None
        promises = world.promises._replace(acknowledged=frozenset())
        if promises.deletion == "acknowledged" and world.earlier.slot is not TOMBSTONE:
            promises = promises._replace(deletion="undone")
        yield world._replace(hot=world.earlier, earlier=None, rolled_back=True, promises=promises), DONE
