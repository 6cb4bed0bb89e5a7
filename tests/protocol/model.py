"""The two tiers of `acknowledge="hot"`: what they hold, what one atomic step does to it, what callers were promised.

One session, its queries by name, a clock that ticks a few times. `Tiers` has one method for each round trip to a tier;
a process (`processes.py`) is a sequence of them, and anything may happen between two. Nothing of perdure is imported:
this is the specification, in other words than the code's.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Literal, NamedTuple, TypeAlias

__all__ = [
    "TOMBSTONE",
    "Change",
    "Copy",
    "Hot",
    "Outcome",
    "Progress",
    "Promises",
    "Property",
    "Slot",
    "Tiers",
    "World",
    "shown",
]


class Property(StrEnum):
    """What must hold, whatever happens."""

    SEEN = "what was acknowledged is seen"
    ONCE = "nothing is there twice"
    ORDERED = "history only grows at its end"
    PRESENT = "what is there is not called absent"
    DELETED = "what was deleted is gone, and never seen again"
    KEPT = "what the archive held is not lost, and not overridden"
    RETIRED = "retention removes nothing before its time, and nothing that hot holds"
    DELIVERED = "the hooks were told of every copy before it leaves hot"
    SWEPT = "one sweep moves everything that has expired out of hot"
    FRESH = "nothing is read that was overtaken a cache's lifetime ago"
    OWN = "a store reads what it wrote itself"
    DROPPED = "what was dropped from the cache before success is not read after it"


class Copy(NamedTuple):
    """One tier's copy of the session. Two are the same if version and head agree."""

    version: int
    head: str
    history: tuple[str, ...]
    remembered: tuple[tuple[str, int], ...] = ()
    """The number of the last change of each writer, by which a repeat is known."""
    expires_at: int = 1
    archived_at: int | None = None

    def __str__(self) -> str:
        archived = "" if self.archived_at is None else f", archived at {self.archived_at}"
        return f"version {self.version} by {self.head} [{' '.join(self.history)}] until {self.expires_at}{archived}"


class Tombstone(Enum):
    """What a delete leaves."""

    TOMBSTONE = "tombstone"

    def __str__(self) -> str:
        return self.value


TOMBSTONE = Tombstone.TOMBSTONE
Slot: TypeAlias = Copy | Literal[Tombstone.TOMBSTONE] | None
Outcome: TypeAlias = Literal["applied", "repeat", "unknown", "expired", "archived", "empty", "deleted"]


class Change(NamedTuple):
    """One write: appends a query, named after its writer and number, or archives; may extend the session as well."""

    writer: str
    number: int = 1
    extends: bool = False
    archives: bool = False

    @property
    def queries(self) -> tuple[str, ...]:
        return () if self.archives else (f"{self.writer.lower()}{self.number}",)


class Hot(NamedTuple):
    """All that the hot tier keeps of the session, and so all that it can lose when it rolls back."""

    slot: Slot
    ticket: int = 0
    """The one ticket that is valid; 0 where there is none."""


class Promises(NamedTuple):
    """What callers were told, and what must hold therefore. No process reads it."""

    acknowledged: frozenset[str] = frozenset()
    """Queries whose writers heard success (since hot rolled back, if it did)."""
    archived: frozenset[tuple[str, int]] = frozenset()
    """Every query that the archive ever held, and as of when it was archived."""
    deletion: Literal["none", "begun", "acknowledged", "undone"] = "none"
    """Undone: hot rolled back to before its tombstone."""
    retired: bool = False
    """Retention removed it, rightly."""
    delivered: frozenset[tuple[int, str]] = frozenset()
    """Version and head of each copy that the lifecycle hooks were told of."""


class Progress(NamedTuple):
    """Where one process is, and what it remembers: lost when it crashes."""

    at: str = "start"
    copy: Copy | None = None
    result: Copy | None = None
    ticket: int = 0
    number: int = 1
    attempt: int = 1
    cutoff: int = 0
    missed: bool = False
    """Neither tier held anything when it looked before."""
    owed: frozenset[str] | None = frozenset()
    """Of a reader: what had been acknowledged when it began; None where the session had been deleted by then."""


class World(NamedTuple):
    """One state. `running` has the progress of each process, in their order."""

    hot: Hot
    archive: Slot = None
    now: int = 0
    crashes: int = 0
    """How many more there may be."""
    promises: Promises = Promises()
    running: tuple[Progress, ...] = ()
    earlier: Hot | None = None
    """The state that hot will roll back to."""
    rolled_back: bool = False
    broken: Property | None = None
    """What the last step broke, where the step itself can see that."""


def shown(world: World) -> Copy | None:
    """What a reader sees who asks both tiers at one instant: hot judges over the archive."""
    judge = world.archive if world.hot.slot is None else world.hot.slot
    return judge if isinstance(judge, Copy) else None


class Tiers:
    """Every atomic step: one round trip to one tier, or a pure decision about copies."""

    # Copies -----------------------------------------------------------------------------------------

    def changed(self, copy: Copy, change: Change, *, attempt: int, now: int) -> tuple[Outcome, Copy]:
        """What a change makes of a copy. First repeats are known, then what has ended is refused."""
        last = dict(copy.remembered).get(change.writer, 0)
        if last == change.number:
            return "repeat", copy
        if last > change.number:
            return "unknown", copy
        if copy.archived_at is not None and not change.extends:
            return "archived", copy
        if copy.expires_at <= now and not (change.extends or change.archives):
            return "expired", copy
        return "applied", Copy(
            copy.version + 1,
            self.head(change, attempt),
            copy.history + change.queries,
            _remembered(copy.remembered, ((change.writer, change.number),)),
            max(copy.expires_at, now + 1) if change.extends else copy.expires_at,
            now if change.archives else None,
        )

    def head(self, change: Change, attempt: int) -> str:
        """What a copy is called after a change.

        With the attempt: after a rollback, a repeat may be applied to something else and yet give the same version.
        """
        return f"{change.writer}.{change.number}.{attempt}"

    def merged(self, kept: Copy, incoming: Copy) -> Copy:
        """`perdure.merging.merge`: `kept`'s history, then what is missing in it. Never less than either."""
        if (kept.version, kept.head) == (incoming.version, incoming.head):
            return incoming if kept.archived_at is None else kept
        history = (*kept.history, *(query for query in incoming.history if query not in kept.history))
        for later, earlier in ((incoming, kept), (kept, incoming)):
            if later.version > earlier.version and later.history == history and later.expires_at >= earlier.expires_at:
                return later
        return self.forked(kept, incoming, history)

    def forked(self, kept: Copy, incoming: Copy, history: tuple[str, ...]) -> Copy:
        """The union of two copies of which neither holds the other: a version above both, and a head of its own."""
        archived = [copy.archived_at for copy in (kept, incoming) if copy.archived_at is not None]
        return Copy(
            max(kept.version, incoming.version) + 1,
            f"({kept.head}>{incoming.head})",
            history,
            _remembered(kept.remembered, incoming.remembered),
            max(kept.expires_at, incoming.expires_at),
            # The later: what came in late has not been archived for as long as the rest.
            max(archived),
        )

    # Hot --------------------------------------------------------------------------------------------

    def apply(self, world: World, change: Change, attempt: int) -> tuple[World, Outcome]:
        """Apply a change to what hot holds."""
        slot = world.hot.slot
        if not isinstance(slot, Copy):
            return world, "empty" if slot is None else "deleted"
        outcome, copy = self.changed(slot, change, attempt=attempt, now=world.now)
        return world._replace(hot=world.hot._replace(slot=copy)), outcome

    def take_ticket(self, world: World) -> tuple[World, int]:
        """The right to fill the slot: readers at the same time share one; each new one is unlike every other."""
        ticket = world.hot.ticket
        if not ticket:
            known = {progress.ticket for progress in world.running}
            known.add(0 if world.earlier is None else world.earlier.ticket)
            ticket = next(number for number in range(1, 99) if number not in known)
        return world._replace(hot=world.hot._replace(ticket=ticket)), ticket

    def fill(self, world: World, copy: Copy, ticket: int) -> tuple[World, bool]:
        """Put a copy into the empty slot with the ticket that was taken there, which is used up."""
        if world.hot.slot is not None or not ticket or ticket != world.hot.ticket:
            return world, False
        return world._replace(hot=Hot(copy)), True

    def evict(self, world: World, version: int, head: str) -> tuple[World, bool]:
        """Forget the copy if it still is that version with that head; void the ticket in any case."""
        slot = world.hot.slot
        if not isinstance(slot, Copy) or (slot.version, slot.head) != (version, head):
            return world._replace(hot=Hot(slot)), False
        return world._replace(hot=Hot(None)), True

    def bury(self, world: World) -> World:
        """Put a tombstone in place of whatever hot holds; void the ticket."""
        return world._replace(hot=Hot(TOMBSTONE))

    # Archive ----------------------------------------------------------------------------------------

    def absorb(self, world: World, copy: Copy) -> tuple[World, bool]:
        """Take the copy in, archived as of now. False if a tombstone is there: it stays."""
        kept = world.archive
        if kept is TOMBSTONE:
            return world, False
        since = world.now if copy.archived_at is None else copy.archived_at
        copy = copy._replace(archived_at=since)
        # From now on the archive is bound to all that is in it.
        bound = dict(world.promises.archived)
        bound |= {query: min(since, bound.get(query, since)) for query in copy.history}
        promises = world.promises._replace(archived=frozenset(bound.items()))
        return world._replace(archive=copy if kept is None else self.merged(kept, copy), promises=promises), True

    def bury_in_archive(self, world: World) -> World:
        """Put a tombstone in place of whatever the archive holds."""
        return world._replace(archive=TOMBSTONE)

    def retire(self, world: World, cutoff: int) -> World:
        """Retention: remove the copy if it (still) was archived before the cutoff."""
        kept = world.archive
        if not isinstance(kept, Copy) or kept.archived_at is None or kept.archived_at >= cutoff:
            return world
        return world._replace(archive=None)


def _remembered(*memories: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    """The last change of each writer in any of the memories."""
    last: dict[str, int] = {}
    for writer, number in (entry for memory in memories for entry in memory):
        last[writer] = max(number, last.get(writer, 0))
    return tuple(sorted(last.items()))
