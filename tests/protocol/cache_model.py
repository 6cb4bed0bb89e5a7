"""`acknowledge="archive"`: the archive is the truth, hot a cache. What they hold, and what one step does to it.

One session, two stores, and a clock by which a cached copy lives for two ticks. Times are what is left of them, so that
the clock may tick for ever. What is cached is not told from what is kept in hot elsewhere: here hot keeps nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.protocol.model import Property

__all__ = ["DELETION", "LIFETIME", "Cache", "CacheProgress", "CacheWorld", "Caching", "Kept", "Owed", "Trust"]

LIFETIME = 2
"""`cache_ttl`, in ticks."""

DELETION = "deletion"
"""The change after which only a tombstone is left."""

NO_COPY = 99
"""A version that no copy has."""


class Kept(NamedTuple):
    """The session as the archive had it at some time. The archive gives no version twice."""

    version: int
    history: tuple[str, ...]

    def __str__(self) -> str:
        return f"version {self.version} [{' '.join(self.history)}]"


class Cache(NamedTuple):
    """All that hot keeps, and so all that it forgets when it rolls back."""

    copy: Kept | None = None
    left: int = 0
    """Ticks until the copy fades."""
    ticket: int = 0
    """The one ticket that is valid; 0 where there is none."""
    ticket_left: int = 0
    """Ticks until a lifetime has passed since the ticket was taken."""


class Trust(NamedTuple):
    """What one store takes from the cache: nothing below that version, for so many ticks."""

    version: int = 0
    left: int = 0


class Owed(NamedTuple):
    """What must be seen, and by whom. No process reads it."""

    committed: frozenset[tuple[str, int]] = frozenset({("c1", 0)})
    """What the archive holds, and ticks until it has held that for a lifetime: then everybody must see it."""
    acknowledged: frozenset[tuple[str, int]] = frozenset()
    """What was acknowledged, by which store: that one must see it."""
    dropped: frozenset[str] = frozenset()
    """What was acknowledged after the cache had dropped its copy (and not rolled back since): everybody must see it."""


class CacheProgress(NamedTuple):
    """Where one process is, and what it remembers: lost when it crashes."""

    at: str = "start"
    copy: Kept | None = None
    ticket: int = 0
    version: int = 0
    dropped: bool = False
    owed: frozenset[str] = frozenset()
    """Of a reader: what it must see."""


class CacheWorld(NamedTuple):
    """One state. `running` has the progress of each process, in their order."""

    cache: Cache = Cache()
    archive: Kept = Kept(1, ("c1",))
    trust: tuple[Trust, ...] = (Trust(), Trust())
    crashes: int = 0
    """How many more crashes, or calls of the cache that fail, there may be."""
    owed: Owed = Owed()
    running: tuple[CacheProgress, ...] = ()
    earlier: Cache | None = None
    """The state that hot will roll back to."""
    broken: Property | None = None
    """What the last step broke."""


class Caching:
    """Every atomic step: one round trip, or what a store decides by itself."""

    def commit(self, world: CacheWorld, what: str) -> tuple[CacheWorld, int]:
        """The archive takes a change, and gives the version it made; 0 if it is too late. A repeat changes nothing."""
        kept = world.archive
        if what in kept.history:
            return world, kept.history.index(what) + 1
        if DELETION in kept.history:
            return world, 0
        committed = world.owed.committed | {(what, LIFETIME)}
        after = Kept(kept.version + 1, (*kept.history, what))
        return world._replace(archive=after, owed=world.owed._replace(committed=committed)), after.version

    def drop(self, world: CacheWorld) -> CacheWorld:
        """The cache forgets its copy, and voids the ticket."""
        return world._replace(cache=Cache())

    def take_ticket(self, world: CacheWorld) -> tuple[CacheWorld, int]:
        """The right to fill the cache: readers at the same time share one. The cache notes when it was taken."""
        cache = world.cache
        if cache.ticket:
            return world, cache.ticket
        known = {progress.ticket for progress in world.running}
        known.add(0 if world.earlier is None else world.earlier.ticket)
        ticket = next(number for number in range(1, 99) if number not in known)
        return world._replace(cache=cache._replace(ticket=ticket, ticket_left=LIFETIME)), ticket

    def fill(self, world: CacheWorld, copy: Kept, ticket: int) -> CacheWorld:
        """With the ticket, which is used up, the cache keeps the copy in place of what it had; not for long."""
        cache = world.cache
        if not ticket or ticket != cache.ticket:
            return world
        left = self.lifetime(cache)
        return world._replace(cache=Cache(copy, left) if left else Cache(cache.copy, cache.left))

    def lifetime(self, cache: Cache) -> int:
        """How long a copy is kept that comes now: what it shows may be as old as the ticket is."""
        return cache.ticket_left

    def trusted(self, world: CacheWorld, store: int) -> Kept | None:
        """The cached copy, if it lacks nothing that this store wrote."""
        copy = world.cache.copy
        return copy if copy is not None and copy.version >= world.trust[store].version else None

    def note(self, world: CacheWorld, store: int, what: str, version: int, *, dropped: bool) -> CacheWorld:
        """For a lifetime from now the store takes no copy older than what it wrote; after a delete, none at all."""
        lowest = NO_COPY if what == DELETION else version
        return self.trusting(world, store, Trust(max(lowest, world.trust[store].version), LIFETIME))

    def trusting(self, world: CacheWorld, store: int, trust: Trust) -> CacheWorld:
        """The world in which a store trusts like that."""
        return world._replace(trust=(*world.trust[:store], trust, *world.trust[store + 1 :]))

    def tick(self, world: CacheWorld) -> CacheWorld:
        """Everything gets older by a tick; whatever becomes of the cache, it knows when a copy is to fade."""
        trust = tuple(Trust(each.version, each.left - 1) if each.left > 1 else Trust() for each in world.trust)
        committed = frozenset((what, max(left - 1, 0)) for what, left in world.owed.committed)
        return world._replace(
            cache=self.aged(world.cache),
            earlier=None if world.earlier is None else self.aged(world.earlier),
            trust=trust,
            owed=world.owed._replace(committed=committed),
        )

    def aged(self, cache: Cache) -> Cache:
        """The cache a tick later."""
        copy, left = (cache.copy, cache.left - 1) if cache.left > 1 else (None, 0)
        return Cache(copy, left, cache.ticket, max(cache.ticket_left - 1, 0))
