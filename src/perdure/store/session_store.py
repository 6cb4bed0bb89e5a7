"""The store: what users open."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self

from perdure.backends import SessionBackend
from perdure.differences import stored_form
from perdure.errors import ConfigurationError, InvalidInputError
from perdure.merging import AbsorbOutcome
from perdure.models import Clock, Session, SessionFilter, SessionTotals, utc_now
from perdure.models.names import checked_name
from perdure.settings import Settings
from perdure.store.arguments import MAX_PAGE, checked_filter, checked_limit, checked_session
from perdure.store.backing import ONLY_TIER, backend_of
from perdure.store.core import StoreCore
from perdure.store.hooks import HookRelay, imported
from perdure.store.maintenance import Maintenance, Progress
from perdure.store.reports import ActivePlugin, CleanupReport, ImportReport, RetentionReport, StoreHealth
from perdure.store.scoped import UserSessions
from perdure.store.writer import ChangeWriter

__all__ = ["SessionStore"]

IMPORT_BATCH = 100
MAX_RETENTION_DAYS = 36_525


class SessionStore(UserSessions):
    """Durable sessions of analysis. `async with SessionStore.open() as store: …`

    Safe for any number of tasks of one event loop; other processes may have the same data open.
    """

    def __init__(
        self,
        backend: SessionBackend,
        *,
        settings: Settings | None = None,
        hooks: HookRelay | None = None,
        clock: Clock = utc_now,
    ) -> None:
        settings = Settings() if settings is None else settings
        hooks = _relay((), settings) if hooks is None else hooks
        # A trace that tiers are watched for must not lay what one caller wrote to another.
        writer = ChangeWriter(backend, in_context=hooks.listens("around_tier_call"))
        super().__init__(StoreCore(backend, settings, hooks, writer, clock))
        self._maintenance = Maintenance(self._core)
        self._told_of_opening = False

    @classmethod
    def open(
        cls,
        url: str | None = None,
        *,
        archive: str | None = None,
        acknowledge: Literal["archive", "hot"] | None = None,
        plugins: Iterable[object] = (),
        settings: Settings | None = None,
        clock: Clock = utc_now,
    ) -> Self:
        """A store for `url`: `memory://`, `sqlite:///PATH`, `redis://…`, `postgresql://…`; without one a SQLite file in
        the user's data directory.

        With an `archive`, `url` is the fast tier of two, and `acknowledge` says which of them must hold a write before
        the caller hears of success; see `TieredBackend`. What is not given comes from `settings`, else from `PERDURE_*`
        in the environment. Nothing happens before the store is entered (`async with`) or awaited (`store = await
        SessionStore.open()`, to be closed by `aclose`).

        Raises:
            ConfigurationError: settings, a URL or a plugin that cannot work.
        """
        settings = Settings() if settings is None else settings
        hooks = _relay(plugins, settings)
        if acknowledge not in (None, "archive", "hot"):
            raise ConfigurationError(f"acknowledge must be 'archive' or 'hot', not {acknowledge!r}")
        given = {"url": url, "archive": archive, "acknowledge": acknowledge}
        settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
        return cls(backend_of(settings, hooks), settings=settings, hooks=hooks, clock=clock)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._core.settings

    @property
    def plugins(self) -> list[ActivePlugin]:
        """The plugins that are called, the first one first."""
        return self._core.hooks.active()

    async def __aenter__(self) -> Self:
        await self._core.backend.open()
        self._told_of_opening = True
        try:
            await self._core.notify("store_opened", store=self)
        except BaseException:  # cancelled: whoever did not get in will not close it
            await self.aclose()
            raise
        self._maintenance.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def aclose(self) -> None:
        """Finish what is on its way, and close what was opened. Repeatable."""
        if self._told_of_opening:
            self._told_of_opening = False
            await self._core.notify("store_closing", store=self)
        await self._maintenance.stop()
        await self._core.writer.finish()
        await self._core.backend.aclose()

    def for_user(self, user_id: str) -> UserSessions:
        """The same verbs, seeing only the sessions of that user; anything else is as if it did not exist."""
        return UserSessions(self._core, owner=checked_name(user_id, what="user_id"))

    async def cleanup_expired_sessions(
        self, limit: int | None = None, *, progress: Progress | None = None
    ) -> CleanupReport:
        """Archive everything that has expired, in batches, or at most `limit`. A bad record is reported and skipped.

        Safe to call at any time, in any number of processes at once.
        """
        if limit is not None:
            checked_limit(limit, highest=2**31)
        return await self._maintenance.archive_expired(limit=limit, progress=progress)

    async def delete_old_archived_sessions(
        self,
        retention_days: float | None = None,
        dry_run: bool = False,
        *,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> RetentionReport:
        """Delete what was archived more than `retention_days` ago (default: the setting), or at most `limit` of it.

        The longest archived go first. Plugins are told of each before it goes, at least once; one that is restored in
        that moment stays. `dry_run` only says which they are.
        """
        if limit is not None:
            checked_limit(limit, highest=2**31)
        retention = self.settings.retention
        if retention_days is not None:
            if (
                isinstance(retention_days, bool)
                or not isinstance(retention_days, int | float)
                or not 0 <= retention_days <= MAX_RETENTION_DAYS
            ):
                raise InvalidInputError(
                    f"retention_days must be a number from 0 to {MAX_RETENTION_DAYS:,}, not {retention_days!r}"
                )
            retention = timedelta(days=retention_days)
        return await self._maintenance.purge_archived(
            retention=retention, dry_run=dry_run, limit=limit, progress=progress
        )

    async def generate_session_metrics(self, limit: int | None = None, *, progress: Progress | None = None) -> int:
        """Gather what sessions count that were archived since, or up to `limit` of them, so that statistics stay cheap.

        How many were gathered. Statistics are right without it. Safe at any time, in any number of processes at once.
        """
        if limit is not None:
            checked_limit(limit, highest=2**31)
        return await self._maintenance.roll_up(limit=limit, progress=progress)

    async def health(self) -> StoreHealth:
        """How each tier is: whether it answers, how fast, when it was last swept, what is due. Never raises."""
        health = await self._core.backend.health(now=self._core.now())
        return StoreHealth(dict(health.tiers) or {ONLY_TIER: health})

    async def get_totals(self, wanted: SessionFilter | None = None) -> SessionTotals:
        """What the matching sessions amount to, active and archived, counted where they are kept."""
        return await self._core.backend.aggregate(checked_filter(wanted))

    async def export_sessions(self, wanted: SessionFilter | None = None) -> AsyncIterator[Session]:
        """Every matching session, whole, newest first; needs memory for one page of summaries at a time."""
        cursor: str | None = None
        while True:
            page = await self.list_sessions(wanted, limit=MAX_PAGE, cursor=cursor)
            for summary in page:
                session = await self.get_session(summary.id)
                if session is not None:
                    yield session
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    async def import_sessions(
        self, sessions: AsyncIterable[Session] | Iterable[Session], *, progress: Progress | None = None
    ) -> ImportReport:
        """Take whole sessions from elsewhere, with ids, times, versions and positions as they are. Repeatable.

        A session that is there already gets what it lacks; one that was deleted here stays deleted.
        """
        report, seen, batch = ImportReport(), 0, list[Session]()

        async def absorb() -> None:
            nonlocal seen
            seen += len(batch)
            await self._absorb(batch, report)
            batch.clear()
            if progress is not None:
                progress(seen)

        async for session in _each(sessions):
            batch.append(checked_session(session))
            if len(batch) == IMPORT_BATCH:
                await absorb()
        if batch:
            await absorb()
        return report

    async def _absorb(self, sessions: list[Session], report: ImportReport) -> None:
        stored = []
        for session in sessions:
            try:
                stored.append(stored_form(session, self.settings))
            except InvalidInputError as error:
                report.failed[session.id] = str(error)
        for absorbed in await self._core.backend.absorb(stored):
            match absorbed.outcome:
                case AbsorbOutcome.STORED:
                    report.stored += 1
                case AbsorbOutcome.MERGED | AbsorbOutcome.FORKED:
                    report.merged += 1
                case AbsorbOutcome.UNCHANGED:
                    report.unchanged += 1
                case AbsorbOutcome.DELETED:
                    report.deleted += 1
                case _:
                    report.failed[absorbed.session_id] = absorbed.error or str(absorbed.outcome)


def _relay(plugins: Iterable[object], settings: Settings) -> HookRelay:
    """What calls the plugins that were given, then those that the settings name, then those that are installed."""
    return HookRelay([*plugins, *imported(settings.plugins)], timeout_seconds=settings.hook_timeout_seconds)


async def _each(sessions: AsyncIterable[Session] | Iterable[Session]) -> AsyncIterator[Session]:
    if isinstance(sessions, AsyncIterable):
        async for session in sessions:
            yield session
    else:
        for session in sessions:
            yield session
