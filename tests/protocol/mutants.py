"""The protocol with one mechanism taken out, each in a few lines. The checker must reject every one of `MUTANTS`.

A mutant names the configuration in which it is caught, and what it breaks there. Those of `REDUNDANT` are accepted:
what each leaves out is made up for by another mechanism, and two of them together are rejected again.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.protocol.archiving import Retention, Sweeper
from tests.protocol.configurations import Design
from tests.protocol.model import TOMBSTONE, Change, Copy, Hot, Outcome, Progress, Property, Tiers, World
from tests.protocol.processes import DONE, Clock, Creator, Deleter, Steps, Writer
from tests.protocol.reading import Lister, Reader, owed

__all__ = ["MUTANTS", "REDUNDANT", "Mutant"]


class Mutant(NamedTuple):
    """A design, and what is wrong with it."""

    design: Design
    caught: str
    """The configuration in which it is caught."""
    breaks: Property


class Redundant(NamedTuple):
    """A design that is as good, and the configuration in which that would show first if it were not."""

    design: Design
    explored: str


# Leaving hot ----------------------------------------------------------------------------------------


class HotForgetsWhatExpires(Clock):
    """A copy in hot has a time to live: until its expiry."""

    def start(self, world: World, me: Progress) -> Steps:
        for after, progress in super().start(world, me):
            slot = after.hot.slot
            over = isinstance(slot, Copy) and slot.expires_at <= after.now
            yield after._replace(hot=Hot(None)) if over else after, progress


class EvictAsksForNothing(Tiers):
    """Neither for the version nor for the head."""

    def evict(self, world: World, version: int, head: str) -> tuple[World, bool]:
        slot = world.hot.slot
        return super().evict(world, *slot[:2]) if isinstance(slot, Copy) else super().evict(world, version, head)


class EvictAsksForTheVersionAlone(Tiers):
    def evict(self, world: World, version: int, head: str) -> tuple[World, bool]:
        slot = world.hot.slot
        return super().evict(world, version, slot.head if isinstance(slot, Copy) else head)


class EvictAsksForTheHeadAlone(Tiers):
    def evict(self, world: World, version: int, head: str) -> tuple[World, bool]:
        slot = world.hot.slot
        return super().evict(world, slot.version if isinstance(slot, Copy) else version, head)


class EvictForgetsTombstones(Tiers):
    def evict(self, world: World, version: int, head: str) -> tuple[World, bool]:
        if world.hot.slot is TOMBSTONE:
            return world._replace(hot=Hot(None)), False
        return super().evict(world, version, head)


class RepeatsHaveTheSameHead(Tiers):
    """A head names the change, whichever attempt of it was applied."""

    def head(self, change: Change, attempt: int) -> str:
        return super().head(change, 1)


class EvictsBeforeItAbsorbs(Sweeper):
    def start(self, world: World, me: Progress) -> Steps:
        for after, progress in super().start(world, me):
            yield after, progress._replace(at="deliver")

    def evict(self, world: World, me: Progress) -> Steps:
        for after, _ in super().evict(world, me):
            yield after, me._replace(at="absorb")

    def absorb(self, world: World, me: Progress) -> Steps:
        for after, _ in super().absorb(world, me):
            yield after, Progress()


class EvictsBeforeItDelivers(Sweeper):
    def absorb(self, world: World, me: Progress) -> Steps:
        for after, progress in super().absorb(world, me):
            yield after, progress._replace(at="evict") if progress.at == "deliver" else progress


class DeliversOnlyWhatIsNews(Sweeper):
    """What the archive had before is evicted without a word."""

    def absorb(self, world: World, me: Progress) -> Steps:
        for after, progress in super().absorb(world, me):
            silent = progress.at == "deliver" and after.archive == world.archive
            yield after, progress._replace(at="evict") if silent else progress


class ClaimsOnlyWhatIsActive(Sweeper):
    """What was archived in hot is not claimed any more."""

    def start(self, world: World, me: Progress) -> Steps:
        slot = world.hot.slot
        if not (isinstance(slot, Copy) and slot.archived_at is not None):
            yield from super().start(world, me)


# Entering the archive -------------------------------------------------------------------------------


class AbsorbReplacesHistory(Tiers):
    def merged(self, kept: Copy, incoming: Copy) -> Copy:
        return incoming


class AbsorbTakesTheHigherVersion(Tiers):
    """As a whole, with nothing of the other."""

    def merged(self, kept: Copy, incoming: Copy) -> Copy:
        return max(kept, incoming, key=lambda copy: copy.version)


class AbsorbOverridesTombstones(Tiers):
    def absorb(self, world: World, copy: Copy) -> tuple[World, bool]:
        kept = None if world.archive is TOMBSTONE else world.archive
        return super().absorb(world._replace(archive=kept), copy)


class ForksRememberLikeTheNewerCopy(Tiers):
    """Of a writer that both remember, not the later change but that of the higher version."""

    def forked(self, kept: Copy, incoming: Copy, history: tuple[str, ...]) -> Copy:
        older, newer = sorted((kept, incoming))
        remembered = dict(older.remembered) | dict(newer.remembered)
        return super().forked(kept, incoming, history)._replace(remembered=tuple(sorted(remembered.items())))


class ForksAreAsOldAsTheNewerCopy(Tiers):
    """Archived as of when the copy of the higher version was."""

    def forked(self, kept: Copy, incoming: Copy, history: tuple[str, ...]) -> Copy:
        return super().forked(kept, incoming, history)._replace(archived_at=max(kept, incoming).archived_at)


class DeletesStayInTheArchive(Sweeper):
    """A sweep that meets a tombstone leaves it at that."""

    def push_tombstone(self, world: World, me: Progress) -> Steps:
        yield world, Progress()


# Entering hot ---------------------------------------------------------------------------------------


class FillsWithoutTicket(Tiers):
    """The slot is empty, and that is enough."""

    def fill(self, world: World, copy: Copy, ticket: int) -> tuple[World, bool]:
        return (world._replace(hot=Hot(copy)), True) if world.hot.slot is None else (world, False)


class FillsOverWhatIsThere(Tiers):
    """The slot need not be empty."""

    def fill(self, world: World, copy: Copy, ticket: int) -> tuple[World, bool]:
        fits = ticket and ticket == world.hot.ticket
        return (world._replace(hot=Hot(copy)), True) if fits else (world, False)


class EvictLeavesTheTicket(Tiers):
    def evict(self, world: World, version: int, head: str) -> tuple[World, bool]:
        after, gone = super().evict(world, version, head)
        return after._replace(hot=after.hot._replace(ticket=world.hot.ticket)), gone


class TakesTheTicketLast(Writer):
    """After the archive was read."""

    def start(self, world: World, me: Progress) -> Steps:
        for after, progress in super().start(world, me):
            yield after, progress._replace(at="look_again") if progress.at == "take_ticket" else progress

    def read_archive(self, world: World, me: Progress) -> Steps:
        for after, progress in super().read_archive(world, me):
            yield after, progress._replace(at="take_ticket") if progress.at == "fill" else progress

    def take_ticket(self, world: World, me: Progress) -> Steps:
        for after, progress in super().take_ticket(world, me):
            yield after, progress._replace(at="fill")


class RestoresInTwoSteps(Writer):
    """Fills in the archived copy as it is, which is not due for a sweep; then the change is applied to it."""

    def read_archive(self, world: World, me: Progress) -> Steps:
        for after, progress in super().read_archive(world, me):
            same = world.archive if isinstance(world.archive, Copy) else None
            yield after, progress._replace(copy=same) if progress.at == "fill" else progress

    def fill(self, world: World, me: Progress) -> Steps:
        assert me.copy is not None
        yield self.tiers.fill(world, me.copy, me.ticket)[0], self.anew(me)


class RepeatsAreNotKnown(Tiers):
    def changed(self, copy: Copy, change: Change, *, attempt: int, now: int) -> tuple[Outcome, Copy]:
        return super().changed(copy._replace(remembered=()), change, attempt=attempt, now=now)


class CreatesWithoutTicket(Creator):
    """Hot creates what the archive did not know."""

    def fill(self, world: World, me: Progress) -> Steps:
        after, ticket = self.tiers.take_ticket(world)
        yield from super().fill(after, me._replace(ticket=ticket))


# Deleting, reading, retention -----------------------------------------------------------------------


class TombstoneInHotAlone(Deleter):
    def bury_in_archive(self, world: World, me: Progress) -> Steps:
        yield self.succeeded(world), DONE


class TombstoneInTheArchiveAlone(Deleter):
    """Hot forgets its copy, without a tombstone."""

    def start(self, world: World, me: Progress) -> Steps:
        yield self.begun(world._replace(hot=Hot(None))), Progress("bury_in_archive")


class ReadsPastTombstonesOfHot(Reader):
    """Where hot has no copy, the archive answers."""

    def start(self, world: World, me: Progress) -> Steps:
        for after, progress in super().start(world, me):
            copied = isinstance(world.hot.slot, Copy)
            yield after, progress if copied else Progress("read_archive", owed=owed(world))

    def look_again(self, world: World, me: Progress) -> Steps:
        if world.hot.slot is TOMBSTONE:
            yield self.answered(world, me.result, me), Progress()
        else:
            yield from super().look_again(world, me)


class BelievesTheArchiveAtOnce(Reader):
    """Hot is not looked at again."""

    def read_archive(self, world: World, me: Progress) -> Steps:
        yield from super().read_archive(world, me._replace(missed=True))


class BelievesTheFirstMiss(Reader):
    """Hot is looked at again, but then the archive is not."""

    def look_again(self, world: World, me: Progress) -> Steps:
        for after, progress in super().look_again(world, me):
            yield (after, progress) if not progress.missed else (self.answered(world, None, me), Progress())


class ListsTheArchiveFirst(Lister):
    def start(self, world: World, me: Progress) -> Steps:
        found = world.archive if isinstance(world.archive, Copy) else None
        for after, progress in super().start(world, me):
            yield after, progress._replace(result=found)

    def list_archive(self, world: World, me: Progress) -> Steps:
        times = 1 if me.result is not None or isinstance(world.hot.slot, Copy) else 0
        yield self.listed(world, me, times), Progress()


class ListsWhatHotHasBuried(Lister):
    """The archive's page is taken as it is."""

    def ask_hot(self, world: World, me: Progress) -> Steps:
        yield self.listed(world, me, 1), Progress()


class ListsBothPages(Lister):
    """What is on both is listed twice."""

    def list_archive(self, world: World, me: Progress) -> Steps:
        times = sum(
            copy is not None for copy in (me.result, world.archive if isinstance(world.archive, Copy) else None)
        )
        yield self.listed(world, me, times), Progress()


class RetentionDoesNotAskHot(Retention):
    def ask_hot(self, world: World, me: Progress) -> Steps:
        yield world, me._replace(at="retire")


class RetentionRemovesWhatItListed(Tiers):
    """Even if it has been archived anew since."""

    def retire(self, world: World, cutoff: int) -> World:
        return world._replace(archive=None) if isinstance(world.archive, Copy) else world


# What others make up for ----------------------------------------------------------------------------


class FillLeavesTheTicket(Tiers):
    """Which can be used again."""

    def fill(self, world: World, copy: Copy, ticket: int) -> tuple[World, bool]:
        after, filled = super().fill(world, copy, ticket)
        return after._replace(hot=after.hot._replace(ticket=world.hot.ticket)), filled


class BuryLeavesTheTicket(Tiers):
    """Which does not fit, as long as the tombstone is there."""

    def bury(self, world: World) -> World:
        return world._replace(hot=Hot(TOMBSTONE, world.hot.ticket))


class NobodyVoidsTickets(EvictLeavesTheTicket, FillLeavesTheTicket):
    """But whoever buries."""


class DoesNotLookAgain(Writer):
    """Hot was found empty before the ticket was taken, and is not looked at after it."""

    def take_ticket(self, world: World, me: Progress) -> Steps:
        for after, progress in super().take_ticket(world, me):
            yield after, progress._replace(at="read_archive")


MUTANTS = {
    "TTL equal to expiry": Mutant(Design(clock=HotForgetsWhatExpires), "sweeping", Property.SEEN),
    "evict without version": Mutant(Design(tiers=EvictAsksForNothing()), "sweeping", Property.SEEN),
    "evict without head": Mutant(Design(tiers=EvictAsksForTheVersionAlone()), "rolling back: repeats", Property.SEEN),
    "heads without attempt": Mutant(Design(tiers=RepeatsHaveTheSameHead()), "rolling back: repeats", Property.SEEN),
    "evict forgets tombstones": Mutant(Design(tiers=EvictForgetsTombstones()), "deleting", Property.DELETED),
    "evict before absorb": Mutant(Design(sweeper=EvictsBeforeItAbsorbs), "sweeping", Property.SEEN),
    "evict before deliver": Mutant(Design(sweeper=EvictsBeforeItDelivers), "sweeping", Property.DELIVERED),
    "deliver only news": Mutant(Design(sweeper=DeliversOnlyWhatIsNews), "sweeping", Property.DELIVERED),
    "claim only what is active": Mutant(Design(sweeper=ClaimsOnlyWhatIsActive), "archiving", Property.SWEPT),
    "absorb replaces history": Mutant(Design(tiers=AbsorbReplacesHistory()), "sweeping", Property.KEPT),
    "absorb takes the higher version": Mutant(
        Design(tiers=AbsorbTakesTheHigherVersion()), "rolling back: forks", Property.KEPT
    ),
    "absorb overrides tombstones": Mutant(Design(tiers=AbsorbOverridesTombstones()), "deleting", Property.DELETED),
    "forks forget repeats": Mutant(Design(tiers=ForksRememberLikeTheNewerCopy()), "rolling back: forks", Property.ONCE),
    "forks are old": Mutant(Design(tiers=ForksAreAsOldAsTheNewerCopy()), "rolling back: retiring", Property.RETIRED),
    "fill without ticket": Mutant(Design(tiers=FillsWithoutTicket()), "restoring", Property.SEEN),
    "fill over what is there": Mutant(Design(tiers=FillsOverWhatIsThere()), "creating", Property.SEEN),
    "ticket after the archive was read": Mutant(Design(writer=TakesTheTicketLast), "restoring", Property.ORDERED),
    "evict leaves the ticket": Mutant(Design(tiers=EvictLeavesTheTicket()), "creating", Property.SEEN),
    "nobody voids tickets": Mutant(Design(tiers=NobodyVoidsTickets()), "restoring", Property.SEEN),
    "neither voided nor looked again": Mutant(
        Design(tiers=EvictLeavesTheTicket(), writer=DoesNotLookAgain), "restoring", Property.SEEN
    ),
    "restore in two steps": Mutant(
        Design(writer=RestoresInTwoSteps, sweeper=ClaimsOnlyWhatIsActive), "restoring", Property.SWEPT
    ),
    "repeats are not known": Mutant(Design(tiers=RepeatsAreNotKnown()), "sweeping", Property.ONCE),
    "create without ticket": Mutant(Design(creator=CreatesWithoutTicket), "creating", Property.SEEN),
    "tombstone in hot alone": Mutant(Design(deleter=TombstoneInHotAlone), "deleting", Property.DELETED),
    "tombstone in the archive alone": Mutant(Design(deleter=TombstoneInTheArchiveAlone), "deleting", Property.DELETED),
    "tombstone not pushed to hot": Mutant(
        Design(sweeper=DeletesStayInTheArchive), "rolling back: deleting", Property.SWEPT
    ),
    "read past tombstones": Mutant(Design(reader=ReadsPastTombstonesOfHot), "deleting", Property.DELETED),
    "read hot once": Mutant(Design(reader=BelievesTheArchiveAtOnce), "retiring", Property.PRESENT),
    "believe the first miss": Mutant(Design(reader=BelievesTheFirstMiss), "retiring", Property.PRESENT),
    "list the archive first": Mutant(Design(lister=ListsTheArchiveFirst), "listing", Property.PRESENT),
    "list past tombstones": Mutant(Design(lister=ListsWhatHotHasBuried), "listing", Property.DELETED),
    "list both pages": Mutant(Design(lister=ListsBothPages), "listing", Property.ONCE),
    "retention does not ask hot": Mutant(Design(retention=RetentionDoesNotAskHot), "retiring", Property.RETIRED),
    "retention does not look again": Mutant(Design(tiers=RetentionRemovesWhatItListed()), "retiring", Property.RETIRED),
}

REDUNDANT = {
    # As long as no two attempts of a change have the same head; the version is asked for all the same.
    "evict by head alone": Redundant(Design(tiers=EvictAsksForTheHeadAlone()), "rolling back: repeats"),
    "fill leaves the ticket": Redundant(Design(tiers=FillLeavesTheTicket()), "restoring"),
    "delete leaves the ticket": Redundant(Design(tiers=BuryLeavesTheTicket()), "deleting"),
    "restore does not look again": Redundant(Design(writer=DoesNotLookAgain), "restoring"),
}
