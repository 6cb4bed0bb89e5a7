"""Casts around the cache of `acknowledge="archive"`; each is explored whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.protocol.cache_model import DELETION, CacheProgress, CacheWorld, Caching
from tests.protocol.cache_processes import CacheClock, CacheReader, CacheRollback, CacheWriter
from tests.protocol.checker import Process
from tests.protocol.model import Property

__all__ = ["CACHE_CONFIGURATIONS", "CacheConfiguration", "CacheDesign", "CachedArchive"]


@dataclass(frozen=True)
class CacheDesign:
    """The protocol: what a tier does in one step, and in which order who takes which."""

    caching: Caching = field(default_factory=Caching)
    writer: type[CacheWriter] = CacheWriter
    reader: type[CacheReader] = CacheReader

    def writes(self, what: str, *, store: int) -> Process:
        return self.writer(self.caching, what, store)

    def reads(self, *, store: int) -> Process:
        return self.reader(self.caching, store)


@dataclass(frozen=True)
class CacheConfiguration:
    """One cast, how many crashes or failed calls of the cache there are, and whether hot rolls back."""

    says: str
    cast: Callable[[CacheDesign], Iterable[Process]]
    crashes: int = 1
    rolls_back: bool = False

    def system(self, design: CacheDesign) -> CachedArchive:
        """What there is to explore."""
        processes = [*self.cast(design), CacheClock(design.caching, "clock")]
        if self.rolls_back:
            processes.append(CacheRollback(design.caching, "hot"))
        return CachedArchive(tuple(processes), self.crashes)


class CachedArchive:
    """A system for the explorer: a session in the archive, an empty cache, and nothing done yet."""

    def __init__(self, processes: tuple[Process, ...], crashes: int) -> None:
        self.processes = processes
        self.initial = CacheWorld(crashes=crashes, running=tuple(CacheProgress() for _ in processes))

    def settled(self, state: CacheWorld) -> CacheWorld:
        """Tickets that can never be valid again are all alike."""
        alive = {0, state.cache.ticket, 0 if state.earlier is None else state.earlier.ticket}
        if all(progress.ticket in alive for progress in state.running):
            return state
        running = [each if each.ticket in alive else each._replace(ticket=0) for each in state.running]
        return state._replace(running=tuple(running))

    def broken_in(self, state: CacheWorld) -> tuple[Property, ...]:
        """What a reader noticed."""
        return () if state.broken is None else (state.broken,)

    def broken_by(self, before: CacheWorld, after: CacheWorld) -> tuple[Property, ...]:
        """Nothing else is to be noticed."""
        return ()

    def described(self, before: CacheWorld, after: CacheWorld) -> str:
        """What changed, and what callers heard."""
        cache = after.cache
        ticket = f", ticket {cache.ticket} with {cache.ticket_left} left" if cache.ticket else ""
        cached = "empty" if cache.copy is None else f"{cache.copy} for {cache.left}"
        news = after.owed.acknowledged - before.owed.acknowledged
        trust = ", ".join(f"store {n} from {t.version} for {t.left}" for n, t in enumerate(after.trust) if t.left)
        said = {
            f"archive: {after.archive}": after.archive != before.archive,
            f"cache: {cached}{ticket}": cache != before.cache,
            f"acknowledged: {', '.join(what for what, _ in news)}": bool(news),
            f"trusts: {trust or 'all'}": after.trust != before.trust,
            "(no answer)": after.crashes < before.crashes,
        }
        return "; ".join(text for text, is_news in said.items() if is_news)


CACHE_CONFIGURATIONS = {
    "caching: writing": CacheConfiguration(
        "one who writes, a reader in the same store and one in another",
        lambda some: [some.writes("w1", store=0), some.reads(store=0), some.reads(store=1)],
    ),
    "caching: two writing": CacheConfiguration(
        "two who write in one store at once, a reader in it",
        lambda some: [some.writes("w1", store=0), some.writes("x1", store=0), some.reads(store=0)],
    ),
    "caching: deleting": CacheConfiguration(
        "one who writes, one who deletes in another store, a reader there",
        lambda some: [some.writes("w1", store=0), some.writes(DELETION, store=1), some.reads(store=1)],
    ),
    "caching: rolling back": CacheConfiguration(
        "one who writes, a reader in the same store and one in another",
        lambda some: [some.writes("w1", store=0), some.reads(store=0), some.reads(store=1)],
        crashes=0,
        rolls_back=True,
    ),
    "caching: rolling back a delete": CacheConfiguration(
        "one who deletes, a reader in the same store and one in another",
        lambda some: [some.writes(DELETION, store=0), some.reads(store=0), some.reads(store=1)],
        crashes=0,
        rolls_back=True,
    ),
}
