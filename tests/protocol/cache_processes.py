"""Who uses the archive through the cache in front of it, step by step; and time, and a cache that rolls back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, TypeAlias

from tests.protocol.cache_model import DELETION, CacheProgress, CacheWorld, Caching, Kept
from tests.protocol.checker import Process
from tests.protocol.model import Property

__all__ = ["CacheClock", "CacheReader", "CacheRollback", "CacheSteps", "CacheWriter"]

CacheSteps: TypeAlias = Iterator[tuple[CacheWorld, CacheProgress]]

DONE = CacheProgress("done")


class CacheProcess(Process):
    """Someone of one of the stores."""

    def __init__(self, caching: Caching, name: str, store: int = 0) -> None:
        super().__init__(name)
        self.caching = caching
        self.store = store

    def done(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        """Nothing is left to do."""
        yield from ()


class CacheWriter(CacheProcess):
    """A write or a delete: committed in the archive, then dropped from the cache, then acknowledged."""

    may_crash: ClassVar[bool] = True

    def __init__(self, caching: Caching, what: str, store: int) -> None:
        super().__init__(caching, f"{what} by store {store}", store)
        self.what = what

    def start(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        """Commit in the archive, which answers with the version."""
        after, version = self.caching.commit(world, self.what)
        yield after, CacheProgress("drop", version=version) if version else DONE

    def drop(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        """Drop the cached copy. The cache may not answer: then the write is acknowledged all the same."""
        if world.crashes:
            yield world._replace(crashes=world.crashes - 1), me._replace(at="answer")
        dropped = world.owed.dropped | {self.what}
        after = self.caching.drop(world)
        yield after._replace(owed=world.owed._replace(dropped=dropped)), me._replace(at="answer", dropped=True)

    def answer(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        """Note what was written, then let the caller hear of success."""
        after = self.caching.note(world, self.store, self.what, me.version, dropped=me.dropped)
        acknowledged = after.owed.acknowledged | {(self.what, self.store)}
        yield after._replace(owed=after.owed._replace(acknowledged=acknowledged)), DONE


class CacheReader(CacheProcess):
    """A read, again and again: the cached copy, or else the archive's, which then is cached."""

    def __init__(self, caching: Caching, store: int) -> None:
        super().__init__(caching, f"reader of store {store}", store)

    def start(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        """Read the cache."""
        me = CacheProgress(owed=self.owed(world))
        copy = self.caching.trusted(world, self.store)
        if copy is None:
            yield world, me._replace(at="take_ticket")
        else:
            yield self.answered(world, copy, me), CacheProgress()

    def take_ticket(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        """Take a ticket, before the archive is read."""
        after, ticket = self.caching.take_ticket(world)
        yield after, me._replace(at="read_archive", ticket=ticket)

    def read_archive(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        """Read the archive: that is the answer. What is deleted is not cached."""
        fills = DELETION not in world.archive.history
        following = CacheProgress("fill", copy=world.archive, ticket=me.ticket) if fills else CacheProgress()
        yield self.answered(world, world.archive, me), following

    def fill(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        """Let others have it, with the ticket."""
        assert me.copy is not None
        yield self.caching.fill(world, me.copy, me.ticket), CacheProgress()

    def owed(self, world: CacheWorld) -> frozenset[str]:
        """What whoever begins to read now must see."""
        owed = world.owed
        old = {what for what, left in owed.committed if not left}
        own = {what for what, store in owed.acknowledged if store == self.store}
        return frozenset(old | own | (owed.dropped & {what for what, _ in owed.acknowledged}))

    def answered(self, world: CacheWorld, copy: Kept, me: CacheProgress) -> CacheWorld:
        """The caller has the answer."""
        missing = me.owed.difference(copy.history)
        if not missing:
            return world
        if any((what, self.store) in world.owed.acknowledged for what in missing):
            return world._replace(broken=Property.OWN)
        return world._replace(broken=Property.DROPPED if missing & world.owed.dropped else Property.FRESH)


class CacheClock(CacheProcess):
    """Time passes, as long as one likes."""

    def start(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        """A tick."""
        yield self.caching.tick(world), me


class CacheRollback(CacheProcess):
    """Hot goes back, once, to an earlier state of itself; or to nothing, as it was at first."""

    def start(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        """This is the state that will come back."""
        yield world._replace(earlier=world.cache), CacheProgress("roll_back")

    def roll_back(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        """It comes back, with all that was dropped since."""
        assert world.earlier is not None
        owed = world.owed._replace(dropped=frozenset())
        yield world._replace(cache=world.earlier, earlier=None, owed=owed), DONE
