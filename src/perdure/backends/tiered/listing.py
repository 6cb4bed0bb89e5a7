"""`acknowledge="hot"`: listings and statistics over both tiers, each session exactly once.

Hot is read first, then the archive: a session that is archived in between is seen in hot, and again in the archive,
where it is left out. One that is restored in between is seen in the archive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from perdure.backends.cursors import SortKey
from perdure.backends.protocol import Copy, SessionBackend, Tombstone
from perdure.backends.tiered.paging import full_page, page_of_both
from perdure.backends.tiered.tier import Tier
from perdure.backends.totals import ranked
from perdure.errors import BackendUnavailableError
from perdure.models import Page, SessionFilter, SessionSummary, SessionTotals

__all__ = ["HotListing"]

T = TypeVar("T")

TRIES = 4

BATCH = 1_000
"""Sessions of one page while all of them are gone through."""


class HotListing:
    """The verbs that are about many sessions, and change none."""

    def __init__(self, hot: Tier, archive: Tier) -> None:
        self._hot = hot
        self._archive = archive

    async def find(self, wanted: SessionFilter, *, cursor: str | None = None, limit: int) -> Page[SessionSummary]:
        """See `SessionBackend.find`. While hot cannot be asked: what the archive has, marked as stale.

        Raises:
            BackendUnavailableError: hot cannot be asked, and active sessions are wanted, of which only it knows.
        """
        return await full_page(partial(self._page, wanted), cursor=cursor, limit=limit)

    async def _page(self, wanted: SessionFilter, cursor: str | None, limit: int) -> Page[SessionSummary]:
        """A page that may be shorter than asked for, and yet not the last one."""
        try:
            return await self._page_of_both(wanted, cursor, limit)
        except _HotIsDown as down:
            if wanted.archived is False:
                raise down.error from None
        archived = await self._archive.run(lambda archive: archive.find(wanted, cursor=cursor, limit=limit))
        stale = [summary.model_copy(update={"is_stale": True}) for summary in archived]
        return Page(stale, archived.next_cursor, is_stale=True)

    async def _page_of_both(self, wanted: SessionFilter, cursor: str | None, limit: int) -> Page[SessionSummary]:
        active = await self._ask_hot(lambda hot: hot.find(wanted, cursor=cursor, limit=limit))
        archived = await self._archived_page(wanted, cursor, limit)
        seen = {summary.id for summary in active}
        fresh = await self._as_hot_sees_them([s for s in archived if s.id not in seen], wanted)
        return page_of_both(active, archived, fresh, key=_sort_key, limit=limit)

    async def _ask_hot(self, call: Callable[[SessionBackend], Awaitable[T]]) -> T:
        try:
            return await self._hot.run(call)
        except BackendUnavailableError as error:
            raise _HotIsDown(error) from None

    async def _archived_page(self, wanted: SessionFilter, cursor: str | None, limit: int) -> Page[SessionSummary]:
        if wanted.archived is not False:
            return await self._archive.run(lambda archive: archive.find(wanted, cursor=cursor, limit=limit))
        # Active sessions live in hot, and are listed without an archive as well.
        page = await self._archive.attempt(lambda archive: archive.find(wanted, cursor=cursor, limit=limit))
        return Page([]) if page is None else page

    async def _as_hot_sees_them(self, found: Sequence[SessionSummary], wanted: SessionFilter) -> list[SessionSummary]:
        """What the archive lists, without what hot knows to be deleted, and as hot has it where hot has it."""
        held: Mapping[UUID, Copy | Tombstone] = {}
        if found:
            held = await self._ask_hot(lambda hot: hot.copies([summary.id for summary in found]))
        summaries = []
        for summary in found:
            match held.get(summary.id):
                case None:
                    summaries.append(summary)
                case Copy():
                    summaries += await self._summary_in_hot(summary.id, wanted)
        return summaries

    async def _summary_in_hot(self, session_id: UUID, wanted: SessionFilter) -> list[SessionSummary]:
        stored = await self._ask_hot(lambda hot: hot.read(session_id, history=0))
        if stored is None:
            return []
        summary = SessionSummary.of(stored)
        return [summary] if matches(summary, wanted) else []

    async def aggregate(self, wanted: SessionFilter, *, without: Collection[UUID] = ()) -> SessionTotals:
        """See `SessionBackend.aggregate`. Asks hot for the ids of all that it holds, at O(active).

        Counted again, a few times at most, when a session moved between the tiers meanwhile.
        """
        before, tries = await self._ids_in_hot(), TRIES
        while True:
            totals = await self._totals(wanted, without, before)
            after = await self._ids_in_hot()
            tries -= 1
            if not tries or not await self._moved(before, after):
                return totals
            before = after

    async def _totals(self, wanted: SessionFilter, without: Collection[UUID], in_hot: set[UUID]) -> SessionTotals:
        """The totals of both tiers, where hot holds these ids."""
        excluded = in_hot.union(without)
        return added(
            await self._hot.run(lambda hot: hot.aggregate(wanted, without=without)),
            await self._archive.run(lambda archive: archive.aggregate(wanted, without=excluded)),
        )

    async def _moved(self, before: set[UUID], after: set[UUID]) -> bool:
        """Whether sessions left hot, or came into it from the archive."""
        if before - after:
            return True
        came = list(after - before)
        return bool(came) and bool(await self._archive.run(lambda archive: archive.copies(came)))

    async def _ids_in_hot(self) -> set[UUID]:
        ids: set[UUID] = set()
        cursor: str | None = None
        while True:
            page = await self._hot.run(partial(_page_of_all, cursor=cursor))
            ids.update(summary.id for summary in page)
            cursor = page.next_cursor
            if cursor is None:
                return ids


class _HotIsDown(Exception):  # noqa: N818 (it never leaves this module)
    """The hot tier was asked, and does not answer."""

    def __init__(self, error: BackendUnavailableError) -> None:
        self.error = error
        super().__init__(str(error))


async def _page_of_all(backend: SessionBackend, *, cursor: str | None) -> Page[SessionSummary]:
    return await backend.find(SessionFilter(), cursor=cursor, limit=BATCH)


def matches(summary: SessionSummary, wanted: SessionFilter) -> bool:
    """Whether all that the filter says holds."""
    return (
        wanted.user_id in (None, summary.user_id)
        and wanted.session_type in (None, str(summary.type))
        and set(wanted.assets) <= set(summary.assets)
        and set(wanted.tags) <= set(summary.tags)
        and (wanted.created_after is None or summary.created_at >= wanted.created_after)
        and (wanted.created_before is None or summary.created_at < wanted.created_before)
        and wanted.archived in (None, summary.is_archived)
    )


def added(one: SessionTotals, other: SessionTotals) -> SessionTotals:
    """The totals of two sets of sessions that have none in common."""
    facts: dict[str, Any] = {}
    for name in SessionTotals.model_fields:
        mine, theirs = getattr(one, name), getattr(other, name)
        facts[name] = ranked(_sum(mine, theirs)) if isinstance(mine, dict) else mine + theirs
    facts["longest_session"] = max(one.longest_session, other.longest_session)
    return SessionTotals(**facts)


def _sum(*counts: Mapping[str, int]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total


def _sort_key(summary: SessionSummary) -> SortKey:
    return summary.created_at, summary.id
