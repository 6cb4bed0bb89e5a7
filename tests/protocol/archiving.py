"""What moves sessions from hot to the archive, and out of that: the sweep, and retention."""

from __future__ import annotations

from typing import ClassVar

from tests.protocol.model import Copy, Progress, Property, World
from tests.protocol.processes import Steps, TieredProcess

__all__ = ["Retention", "Sweeper"]


class Sweeper(TieredProcess):
    """`archive`: absorb, deliver, evict what has expired. Any number of them at once, again and again."""

    may_crash: ClassVar[bool] = True

    def start(self, world: World, me: Progress) -> Steps:
        """Claim: read the whole copy if its time is over. (The lease spares work; nothing here depends on it.)"""
        copy = world.hot.slot
        if isinstance(copy, Copy) and copy.expires_at <= world.now:
            yield world, Progress("absorb", copy=copy)

    def absorb(self, world: World, me: Progress) -> Steps:
        """Absorb it into the archive, archived, under the version and head that it has."""
        assert me.copy is not None
        after, absorbed = self.tiers.absorb(world, me.copy)
        yield after, me._replace(at="deliver" if absorbed else "push_tombstone")

    def deliver(self, world: World, me: Progress) -> Steps:
        """Deliver the hooks, whatever the archive had of it before: whoever absorbed it may not have got so far."""
        assert me.copy is not None
        delivered = world.promises.delivered | {me.copy[:2]}
        yield world._replace(promises=world.promises._replace(delivered=delivered)), me._replace(at="evict")

    def evict(self, world: World, me: Progress) -> Steps:
        """Evict it from hot if it still is the same. Otherwise the archive has a checkpoint, and hot judges."""
        assert me.copy is not None
        slot = world.hot.slot
        after, gone = self.tiers.evict(world, me.copy.version, me.copy.head)
        if gone and isinstance(slot, Copy) and slot[:2] not in world.promises.delivered:
            after = after._replace(broken=Property.DELIVERED)
        yield after, Progress()

    def push_tombstone(self, world: World, me: Progress) -> Steps:
        """The archive says that the session was deleted: so does hot from now on."""
        yield self.tiers.bury(world), Progress()


class Retention(TieredProcess):
    """`purge`: removes from the archive what was archived long ago and hot does not hold. Again and again."""

    may_crash: ClassVar[bool] = True

    def start(self, world: World, me: Progress) -> Steps:
        """List what was archived before now."""
        kept = world.archive
        if isinstance(kept, Copy) and kept.archived_at is not None and kept.archived_at < world.now:
            held = world.hot.slot if isinstance(world.hot.slot, Copy) else None
            yield world, Progress("ask_hot", cutoff=world.now, copy=held)

    def ask_hot(self, world: World, me: Progress) -> Steps:
        """Ask hot which of these it holds. (If it cannot be asked, nothing is removed.)"""
        yield world, Progress() if isinstance(world.hot.slot, Copy) else me._replace(at="retire")

    def retire(self, world: World, me: Progress) -> Steps:
        """Remove the others, if they still were archived before that."""
        after = self.tiers.retire(world, me.cutoff)
        yield after if after.archive is world.archive else self.retired(after, me), Progress()

    def retired(self, world: World, me: Progress) -> World:
        """The archive is bound to it no longer; nor is anybody, unless hot was filled since it was asked."""
        promises = world.promises
        early = any(since >= me.cutoff for _, since in promises.archived)
        held = me.copy is not None and me.copy == world.hot.slot and not world.rolled_back
        if early or held:
            return world._replace(broken=Property.RETIRED)
        retired = promises.retired or world.hot.slot is None
        return world._replace(promises=promises._replace(retired=retired, archived=frozenset()))
