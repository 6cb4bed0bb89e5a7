"""Who reads the two tiers of `acknowledge="hot"`: one session, or a listing."""

from __future__ import annotations

from tests.protocol.model import TOMBSTONE, Copy, Progress, Property, World, shown
from tests.protocol.processes import Steps, TieredProcess, told_absent

__all__ = ["Lister", "Reader", "owed"]


def owed(world: World) -> frozenset[str] | None:
    """What whoever begins to read now must find; None where a delete got so far that nothing may be seen any more."""
    return None if world.hot.slot is TOMBSTONE else world.promises.acknowledged


class Reader(TieredProcess):
    """`read`, again and again: hot judges; where it holds nothing, the archive answers."""

    def start(self, world: World, me: Progress) -> Steps:
        """Read hot."""
        me = Progress(owed=owed(world))
        if world.hot.slot is None:
            yield world, me._replace(at="read_archive")
        else:
            yield self.answered(world, shown(world), me), Progress()

    def read_archive(self, world: World, me: Progress) -> Steps:
        """Read the archive."""
        result = world.archive if isinstance(world.archive, Copy) else None
        if me.missed:
            yield self.answered(world, result, me), Progress()
        else:
            yield world, me._replace(at="look_again", result=result)

    def look_again(self, world: World, me: Progress) -> Steps:
        """If hot holds something by now, that judges. If not, the archive does; if that held nothing, ask it again."""
        if world.hot.slot is not None:
            yield self.answered(world, shown(world), me), Progress()
        elif me.result is not None:
            yield self.answered(world, me.result, me), Progress()
        else:
            yield world, me._replace(at="read_archive", missed=True)

    def answered(self, world: World, result: Copy | None, me: Progress) -> World:
        """The caller has the answer: with everything that had been acknowledged when it was asked for."""
        if result is None:
            return told_absent(world)
        if me.owed is None:
            return world if world.rolled_back else world._replace(broken=Property.DELETED)
        # What a rollback lost meanwhile, and what was deleted or retired, is not owed any more.
        bound = world.promises.deletion == "none" and not world.promises.retired
        if bound and not me.owed & world.promises.acknowledged <= set(result.history):
            return world._replace(broken=Property.SEEN)
        return world


class Lister(TieredProcess):
    """`find`, again and again: a page of hot, then one of the archive; what is in both is listed as hot has it."""

    def start(self, world: World, me: Progress) -> Steps:
        """List what hot holds."""
        found = world.hot.slot if isinstance(world.hot.slot, Copy) else None
        yield world, Progress("list_archive", result=found, owed=owed(world))

    def list_archive(self, world: World, me: Progress) -> Steps:
        """List what the archive holds, without what hot listed."""
        if me.result is not None or not isinstance(world.archive, Copy):
            yield self.listed(world, me, 0 if me.result is None else 1), Progress()
        else:
            yield world, me._replace(at="ask_hot")

    def ask_hot(self, world: World, me: Progress) -> Steps:
        """Of the rest, leave out what hot has a tombstone of."""
        yield self.listed(world, me, 0 if world.hot.slot is TOMBSTONE else 1), Progress()

    def listed(self, world: World, me: Progress, times: int) -> World:
        """The caller has the page, on which the session is so many times."""
        if not times:
            return told_absent(world)
        if me.owed is None:
            return world._replace(broken=Property.DELETED)
        return world if times == 1 else world._replace(broken=Property.ONCE)
