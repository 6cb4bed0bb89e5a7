"""What must hold in every state of the two tiers; and after time and one sweep from there, if nothing else happens.

What only a step itself can see (what a reader was told, what was evicted or retired) is where the step is.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.protocol.archiving import Sweeper
from tests.protocol.model import Copy, Progress, Property, World, shown

__all__ = ["broken_by", "broken_in"]

AT_LAST = 99
"""An instant by which everything has expired."""


def broken_in(world: World, sweeper: Sweeper) -> Iterator[Property]:
    """What the state breaks. It depends on what the tiers hold and what was promised, and on nothing else."""
    if world.broken is not None:
        yield world.broken
    yield from _repeated(world)
    yield from _unkept(world)
    yield from _lost(world)
    yield from _stuck(world, sweeper)


def broken_by(before: World, after: World) -> Iterator[Property]:
    """What the step breaks: positions are for ever. (A hot tier that rolled back numbers anew, once.)"""
    if after.rolled_back or (before.hot.slot is after.hot.slot and before.archive is after.archive):
        return
    was, now = shown(before), shown(after)
    if was is not None and now is not None and now.history[: len(was.history)] != was.history:
        yield Property.ORDERED


def _repeated(world: World) -> Iterator[Property]:
    for slot in (world.hot.slot, world.archive):
        if isinstance(slot, Copy) and len(set(slot.history)) < len(slot.history):
            yield Property.ONCE


def _unkept(world: World) -> Iterator[Property]:
    """What callers were told, against what they would see now."""
    promises, copy = world.promises, shown(world)
    history = () if copy is None else copy.history
    match promises.deletion:
        case "none" if copy is not None or not promises.retired:
            if not promises.acknowledged.issubset(history):
                yield Property.SEEN
        case "acknowledged" if copy is not None or isinstance(world.archive, Copy):
            yield Property.DELETED
        case "undone" if isinstance(world.archive, Copy):
            yield Property.DELETED


def _lost(world: World) -> Iterator[Property]:
    """What the archive ever held (and retention has not removed) is in one of the tiers."""
    held = {query for slot in (world.archive, world.hot.slot) if isinstance(slot, Copy) for query in slot.history}
    if world.promises.deletion == "none" and any(query not in held for query, _ in world.promises.archived):
        yield Property.KEPT


def _stuck(world: World, sweeper: Sweeper) -> Iterator[Property]:
    """Time passes, then one sweep runs undisturbed: hot is empty, and the archive has it all."""
    end = world._replace(now=AT_LAST, crashes=0, running=(), earlier=None)
    me = Progress()
    while (step := next(iter(getattr(sweeper, me.at)(end, me)), None)) is not None:
        end, me = step
        if me.at == "start":
            break
    if end.broken is not None:
        yield end.broken
    if isinstance(end.hot.slot, Copy):
        yield Property.SWEPT
    if end.promises.deletion == "undone" and shown(end) is not None:
        yield Property.DELETED
    yield from _unkept(end)
    yield from _lost(end)
