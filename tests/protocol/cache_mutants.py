"""The cache of `acknowledge="archive"` with one mechanism taken out; see `mutants.py`."""

from __future__ import annotations

from typing import NamedTuple

from tests.protocol.cache_configurations import CacheDesign
from tests.protocol.cache_model import LIFETIME, NO_COPY, Cache, CacheProgress, CacheWorld, Caching, Kept, Trust
from tests.protocol.cache_processes import DONE, CacheReader, CacheSteps, CacheWriter
from tests.protocol.model import Property

__all__ = ["CACHE_MUTANTS", "CacheMutant"]


class CacheMutant(NamedTuple):
    """A design, and what is wrong with it."""

    design: CacheDesign
    caught: str
    """The configuration in which it is caught."""
    breaks: Property


class DropsFirst(CacheWriter):
    """Drop, then commit."""

    def start(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        for after, progress in super().drop(world, me):
            yield after, progress._replace(at="commit")

    def commit(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        after, version = self.caching.commit(world, self.what)
        yield after, me._replace(at="answer", version=version) if version else DONE


class DropForgetsNothing(Caching):
    """The write waits for the cache to say so, but the copy stays."""

    def drop(self, world: CacheWorld) -> CacheWorld:
        return world._replace(cache=world.cache._replace(ticket=0, ticket_left=0))


class DropLeavesTheTicket(Caching):
    def drop(self, world: CacheWorld) -> CacheWorld:
        return world._replace(cache=Cache(None, 0, world.cache.ticket, world.cache.ticket_left))


class FillsWithoutTicket(Caching):
    def fill(self, world: CacheWorld, copy: Kept, ticket: int) -> CacheWorld:
        return world._replace(cache=Cache(copy, LIFETIME))


class TakesTheTicketLast(CacheReader):
    """After the archive was read."""

    def take_ticket(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        if me.copy is None:
            yield world, me._replace(at="read_archive")
        else:
            after, ticket = self.caching.take_ticket(world)
            yield after, me._replace(at="fill", ticket=ticket)

    def read_archive(self, world: CacheWorld, me: CacheProgress) -> CacheSteps:
        for after, progress in super().read_archive(world, me):
            yield after, progress._replace(at="take_ticket") if progress.at == "fill" else progress


class LivesFromTheFillOn(Caching):
    """However old the ticket is."""

    def lifetime(self, cache: Cache) -> int:
        return LIFETIME


class NeverFades(Caching):
    def aged(self, cache: Cache) -> Cache:
        return cache._replace(ticket_left=super().aged(cache).ticket_left)


class NotesNothing(Caching):
    """A store trusts the cache whatever it wrote."""

    def note(self, world: CacheWorld, store: int, what: str, version: int, *, dropped: bool) -> CacheWorld:
        return world


class NotesFailedDropsAlone(Caching):
    """A store reads nothing from a cache that did not answer, and everything from one that did."""

    def note(self, world: CacheWorld, store: int, what: str, version: int, *, dropped: bool) -> CacheWorld:
        return world if dropped else self.trusting(world, store, Trust(NO_COPY, LIFETIME))


class NotesTheLastWord(Caching):
    """What was written before is forgotten."""

    def note(self, world: CacheWorld, store: int, what: str, version: int, *, dropped: bool) -> CacheWorld:
        forgot = self.trusting(world, store, Trust())
        return super().note(forgot, store, what, version, dropped=dropped)


class NotesForTooShortATime(Caching):
    """A tick less than a copy may live."""

    def note(self, world: CacheWorld, store: int, what: str, version: int, *, dropped: bool) -> CacheWorld:
        noted = super().note(world, store, what, version, dropped=dropped)
        return self.trusting(noted, store, noted.trust[store]._replace(left=LIFETIME - 1))


CACHE_MUTANTS = {
    "drop before commit": CacheMutant(CacheDesign(writer=DropsFirst), "caching: writing", Property.DROPPED),
    "drop without effect": CacheMutant(CacheDesign(caching=DropForgetsNothing()), "caching: writing", Property.DROPPED),
    "drop leaves the ticket": CacheMutant(
        CacheDesign(caching=DropLeavesTheTicket()), "caching: writing", Property.DROPPED
    ),
    "cache without ticket": CacheMutant(
        CacheDesign(caching=FillsWithoutTicket()), "caching: writing", Property.DROPPED
    ),
    "ticket of the cache last": CacheMutant(
        CacheDesign(reader=TakesTheTicketLast), "caching: writing", Property.DROPPED
    ),
    "lifetime from the fill on": CacheMutant(
        CacheDesign(caching=LivesFromTheFillOn()), "caching: writing", Property.FRESH
    ),
    "no lifetime": CacheMutant(CacheDesign(caching=NeverFades()), "caching: writing", Property.FRESH),
    "own writes not noted": CacheMutant(CacheDesign(caching=NotesNothing()), "caching: writing", Property.OWN),
    "only failed drops noted": CacheMutant(
        CacheDesign(caching=NotesFailedDropsAlone()), "caching: rolling back", Property.OWN
    ),
    "the last note wins": CacheMutant(CacheDesign(caching=NotesTheLastWord()), "caching: two writing", Property.OWN),
    "noted for too short a time": CacheMutant(
        CacheDesign(caching=NotesForTooShortATime()), "caching: writing", Property.OWN
    ),
}
