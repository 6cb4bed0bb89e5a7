"""Statistics over many sessions, for those who ask."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Literal, overload

from perdure.analytics.exporting import checked_format, write_metrics
from perdure.analytics.statistics import SessionStats, UserSessionSummary
from perdure.errors import InvalidInputError
from perdure.files import whole_file
from perdure.models import Session, SessionMetrics, StatsFilter
from perdure.models.names import checked_name, checked_type
from perdure.models.times import to_utc
from perdure.store import UserSessions

__all__ = ["SessionAnalytics"]

MOST_DAYS = 36_525
MOST_RANKED = 10_000

RECENT = 5
"""Sessions that a user's summary names."""


class SessionAnalytics:
    """What the sessions of a store amount to: active and archived ones, those that retention removed, each once.

    Of `store.for_user(…)`, the sessions of that user alone. Which sessions a call is about is said by when they were
    created: within the last `days`, counted back from now by the store's clock (None: at any time), or from `since`
    on (included) to before `until`. The page on analytics defines every number.
    """

    def __init__(self, store: UserSessions) -> None:
        self._store = store

    async def record_session_metrics(self, session: Session) -> bool:
        """Let a session count that the store does not hold, given with its whole history; idempotent.

        Sessions of the store count by themselves, and go on counting after retention. This is for those that ended
        elsewhere, and are not to be imported. False where the session was deleted here, and so must not count.

        Raises:
            InvalidInputError: a part of its history is not loaded.
        """
        return await self._store.record_metrics(session)

    async def get_session_stats(
        self,
        user_id: str | None = None,
        session_type: str | None = None,
        days: int | None = 30,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        top: int = 10,
    ) -> SessionStats:
        """The statistics; `top` is how many assets and tags are named.

        Raises:
            InvalidInputError: a bad name, number or time.
        """
        if not isinstance(top, int) or isinstance(top, bool) or not 0 <= top <= MOST_RANKED:
            raise InvalidInputError(f"top must be a whole number from 0 to {MOST_RANKED:,}, not {top!r}")
        now = self._store.clock()
        wanted = _filter(user_id, session_type, days, since, until, now=now)
        measures = await self._store.measure(wanted)
        return SessionStats.of(measures, wanted, until=wanted.until or now, top=top)

    async def get_user_session_summary(
        self,
        user_id: str,
        days: int | None = 30,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> UserSessionSummary:
        """The statistics of one user, and what that user did last.

        Raises:
            InvalidInputError: a bad name, number or time.
        """
        now = self._store.clock()
        wanted = _filter(checked_name(user_id, what="user_id"), None, days, since, until, now=now)
        stats = SessionStats.of(await self._store.measure(wanted), wanted, until=wanted.until or now)
        newest = [metrics.created_at async for metrics in _first(self._store.session_metrics(wanted))]
        asked = stats.queries_by_hour
        return UserSessionSummary(
            user_id=user_id,
            stats=stats,
            last_session_at=next(iter(newest), None),
            busiest_hour=asked.index(max(asked)) if any(asked) else None,
            is_returning=stats.total_sessions > 1,
            recent_sessions=(await self._store.list_sessions(wanted.sessions(), limit=RECENT)).items,
        )

    @overload
    async def export_session_metrics(
        self,
        format: Literal["json", "jsonl", "csv"] = ...,
        path: None = ...,
        *,
        user_id: str | None = ...,
        session_type: str | None = ...,
        days: int | None = ...,
        since: datetime | None = ...,
        until: datetime | None = ...,
        progress: Callable[[int], None] | None = ...,
    ) -> str: ...
    @overload
    async def export_session_metrics(
        self,
        format: Literal["json", "jsonl", "csv"],
        path: Path | str | BinaryIO,
        *,
        user_id: str | None = ...,
        session_type: str | None = ...,
        days: int | None = ...,
        since: datetime | None = ...,
        until: datetime | None = ...,
        progress: Callable[[int], None] | None = ...,
    ) -> int: ...
    async def export_session_metrics(
        self,
        format: Literal["json", "jsonl", "csv"] = "json",  # noqa: A002 (what callers say)
        path: Path | str | BinaryIO | None = None,
        *,
        user_id: str | None = None,
        session_type: str | None = None,
        days: int | None = 30,
        since: datetime | None = None,
        until: datetime | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> str | int:
        """The metrics of each session, newest first, as JSON, JSON lines or CSV: as text, or into a file or stream.

        Given a `path`, how many sessions they were is returned. The file is put in place when it is complete, and left
        as it was otherwise. In CSV, text that a spreadsheet would take for a formula is behind an apostrophe.
        `progress` is told how many there are so far.

        Raises:
            InvalidInputError: a bad format, name, number or time.
            OSError: the file cannot be written.
        """
        form = checked_format(format)
        wanted = _filter(user_id, session_type, days, since, until, now=self._store.clock())
        metrics = self._store.session_metrics(wanted)
        told = progress if progress is not None else lambda _: None
        if path is None:
            text = io.BytesIO()
            await write_metrics(metrics, text, form=form, progress=told)
            return text.getvalue().decode()
        if not isinstance(path, Path | str):
            return await write_metrics(metrics, path, form=form, progress=told)
        with whole_file(Path(path)) as stream:
            return await write_metrics(metrics, stream, form=form, progress=told)


def _filter(
    user_id: str | None,
    session_type: str | None,
    days: int | None,
    since: datetime | None,
    until: datetime | None,
    *,
    now: datetime,
) -> StatsFilter:
    """Which sessions a call is about.

    Raises:
        InvalidInputError: something in it is wrong.
    """
    if days is not None and (isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MOST_DAYS):
        raise InvalidInputError(f"days must be a whole number from 1 to {MOST_DAYS:,}, or None, not {days!r}")
    end = None if until is None else to_utc(until, name="until")
    if since is not None:
        since = to_utc(since, name="since")
    elif days is not None:
        since = _days_before(now if end is None else end, days)
    return StatsFilter(
        user_id=None if user_id is None else checked_name(user_id, what="user_id"),
        session_type=None if session_type is None else checked_type(session_type),
        since=since,
        until=end,
    )


def _days_before(end: datetime, days: int) -> datetime:
    try:
        return end - timedelta(days=days)
    except OverflowError:
        raise InvalidInputError(f"there is no time {days:,} days before {end:%Y-%m-%d}") from None


async def _first(metrics: AsyncIterator[SessionMetrics]) -> AsyncIterator[SessionMetrics]:
    """The first of them, if there is one."""
    async for each in metrics:
        yield each
        return
