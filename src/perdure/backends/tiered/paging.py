"""Pages of two tiers as one ordered sequence, newest first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from perdure.backends.cursors import SortKey, write_cursor
from perdure.models import Page

__all__ = ["full_page", "page_of_both"]

T = TypeVar("T")


async def full_page(
    page_of: Callable[[str | None, int], Awaitable[Page[T]]], *, cursor: str | None, limit: int
) -> Page[T]:
    """A page of pages that may each be shorter than asked for, and yet not the last one."""
    items: list[T] = []
    is_stale = False
    while True:
        page = await page_of(cursor, limit - len(items))
        items += page.items
        cursor, is_stale = page.next_cursor, is_stale or page.is_stale
        if cursor is None or len(items) == limit:
            return Page(items, cursor, is_stale)


def page_of_both(
    active: Page[T], archived: Page[T], fresh: Iterable[T], *, key: Callable[[T], SortKey], limit: int
) -> Page[T]:
    """What is known for certain of the sequence, of a page of each tier; may be shorter than asked for.

    `fresh` is what there is to see of the archive's page: what hot does not have as well, as hot knows it.
    """
    merged = sorted([*active, *fresh], key=key, reverse=True)
    # Beyond the end of a page that is not the last, the other tier may have something in between.
    ends = [key(page.items[-1]) for page in (active, archived) if page.next_cursor and page.items]
    known = [each for each in merged if key(each) >= max(ends, default=key(each))]
    if len(known) > limit:
        return Page(known[:limit], write_cursor(key(known[limit - 1])))
    return Page(known, write_cursor(max(ends)) if ends else None)
