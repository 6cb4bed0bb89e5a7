"""`SessionStore` and `UserSessions` as one calls them from threads: each verb waits for the `async` one of its name."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from datetime import timedelta
from itertools import islice
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar
from uuid import UUID

from perdure import store as aio
from perdure.errors import PerdureError
from perdure.models import Clock, Session, SessionFilter, SessionMetrics, StatsFilter, utc_now
from perdure.settings import Settings
from perdure.store import ActivePlugin, ImportReport, Progress, Tracking
from perdure.sync.loop_thread import LoopThread

__all__ = ["SessionStore", "UserSessions"]

P = ParamSpec("P")
T = TypeVar("T")

IMPORT_BATCH = 100


def blocking(
    verb: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], *, bounded: bool = True
) -> Callable[Concatenate[UserSessions, P], T]:
    """The verb for threads: same parameters, same answer, same errors. Unless `bounded`, it takes the time it takes."""
    name = verb.__name__

    @functools.wraps(verb)
    def call(sessions: UserSessions, /, *args: P.args, **kwargs: P.kwargs) -> T:
        wanted: Callable[P, Coroutine[Any, Any, T]] = getattr(sessions._verbs, name)
        return sessions._thread.call(
            lambda: wanted(*args, **kwargs), timeout_s=sessions._timeout_s if bounded else None
        )

    return call


class UserSessions:
    """The verbs of sessions, for threads; see `perdure.store.UserSessions` for each."""

    def __init__(self, verbs: aio.UserSessions, thread: LoopThread, *, timeout_s: float | None = None) -> None:
        self._verbs = verbs
        self._thread = thread
        self._timeout_s = timeout_s

    create_session = blocking(aio.UserSessions.create_session)
    get_session = blocking(aio.UserSessions.get_session)
    update_session = blocking(aio.UserSessions.update_session)
    save = blocking(aio.UserSessions.save)
    ensure_active = blocking(aio.UserSessions.ensure_active)
    track_query = blocking(aio.UserSessions.track_query)
    update_context = blocking(aio.UserSessions.update_context)
    update_preferences = blocking(aio.UserSessions.update_preferences)
    store_intermediate_result = blocking(aio.UserSessions.store_intermediate_result)
    remove_context = blocking(aio.UserSessions.remove_context)
    get_queries = blocking(aio.UserSessions.get_queries)
    list_sessions = blocking(aio.UserSessions.list_sessions)
    list_user_sessions = blocking(aio.UserSessions.list_user_sessions)
    extend_session = blocking(aio.UserSessions.extend_session)
    archive_session = blocking(aio.UserSessions.archive_session)
    delete_session = blocking(aio.UserSessions.delete_session)
    measure = blocking(aio.UserSessions.measure)
    record_metrics = blocking(aio.UserSessions.record_metrics)

    @property
    def clock(self) -> Clock:
        """The clock that it goes by."""
        return self._verbs.clock

    def session_metrics(self, wanted: StatsFilter | None = None) -> Iterator[SessionMetrics]:
        """The metrics of each session that `measure` counts, newest first; needs memory for one page of them."""
        return self._each_of(self._verbs.session_metrics(wanted))

    def _each_of(self, found: AsyncIterator[T]) -> Iterator[T]:
        """What the store gives one after the other, waited for one by one."""

        async def following() -> T | None:
            return await anext(found, None)

        while (each := self._thread.call(following, timeout_s=self._timeout_s)) is not None:
            yield each

    def tracking(
        self,
        session_id: UUID | str,
        query_type: str,
        parameters: dict[str, Any] | None = None,
        *,
        strict: bool = False,
    ) -> Recording:
        """Record a block of code as a query: `with store.tracking(id, "price", {…}) as query: …`

        Otherwise as `perdure.store.UserSessions.tracking`.
        """
        tracking = self._verbs.tracking(session_id, query_type, parameters, strict=strict)
        return Recording(tracking, self._thread, timeout_s=self._timeout_s)


class Recording:
    """What `tracking` gives: `with` it as a `Tracking`, which is recorded when the block ends."""

    def __init__(self, tracking: Tracking, thread: LoopThread, *, timeout_s: float | None) -> None:
        self._tracking = tracking
        self._thread = thread
        self._timeout_s = timeout_s

    def __enter__(self) -> Tracking:
        return self._tracking.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tracking, failure = self._tracking, None
        tracking.end(error)
        try:
            self._thread.call(tracking.record, timeout_s=self._timeout_s)
        except PerdureError as did_not_begin:
            failure = did_not_begin
        except BaseException as interrupted:
            tracking.leave(interrupted)
            raise
        tracking.conclude(failure)


class SessionStore(UserSessions):
    """A `perdure.store.SessionStore` on a thread of its own, for any number of threads: the same verbs without `await`.

    `with SessionStore.open() as store: …`. Whatever is given to it (plugins, progress, clock) is called on that
    thread. In a forked process it refuses to work: open one in each.
    """

    _verbs: aio.SessionStore

    def __init__(self, store: aio.SessionStore, *, timeout: timedelta | None = None) -> None:
        super().__init__(store, LoopThread(store), timeout_s=None if timeout is None else timeout.total_seconds())

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
        timeout: timedelta | None = None,
    ) -> Self:
        """As `perdure.store.SessionStore.open`, and open at once: enter it, or `close` it.

        `timeout` is how long a verb may take before it is cancelled and a `BackendUnavailableError` raised; maintenance
        and import are not bounded.

        Raises:
            ConfigurationError: settings, a URL or a plugin that cannot work.
            BackendError: it cannot be opened.
        """
        store = aio.SessionStore.open(
            url, archive=archive, acknowledge=acknowledge, plugins=plugins, settings=settings, clock=clock
        )
        return cls(store, timeout=timeout)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._verbs.settings

    @property
    def plugins(self) -> list[ActivePlugin]:
        """The plugins that are called, the first one first."""
        return self._verbs.plugins

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish the writes that are on their way, close what was opened, and end the thread. Repeatable."""
        self._thread.close()

    def for_user(self, user_id: str) -> UserSessions:
        """The same verbs, seeing only the sessions of that user; anything else is as if it did not exist."""
        return UserSessions(self._verbs.for_user(user_id), self._thread, timeout_s=self._timeout_s)

    cleanup_expired_sessions = blocking(aio.SessionStore.cleanup_expired_sessions, bounded=False)
    delete_old_archived_sessions = blocking(aio.SessionStore.delete_old_archived_sessions, bounded=False)
    generate_session_metrics = blocking(aio.SessionStore.generate_session_metrics, bounded=False)
    health = blocking(aio.SessionStore.health)
    get_totals = blocking(aio.SessionStore.get_totals)

    def export_sessions(self, wanted: SessionFilter | None = None) -> Iterator[Session]:
        """Every matching session, whole, newest first; needs memory for one page of summaries at a time."""
        return self._each_of(self._verbs.export_sessions(wanted))

    def import_sessions(self, sessions: Iterable[Session], *, progress: Progress | None = None) -> ImportReport:
        """Take whole sessions from elsewhere; see `perdure.store.SessionStore.import_sessions`.

        They are taken from the iterable by the calling thread, which may use this store to make them.
        """
        report, seen, left = ImportReport(), 0, iter(sessions)
        while batch := list(islice(left, IMPORT_BATCH)):
            report += self._thread.call(functools.partial(self._verbs.import_sessions, batch))
            seen += len(batch)
            if progress is not None:
                progress(seen)
        return report

    def run(self, work: Callable[[aio.SessionStore], Awaitable[T]]) -> T:
        """The result of `await work(store)`, with the `async` store and on its thread: for what has no verb here."""

        async def awaited() -> T:
            return await work(self._verbs)

        return self._thread.call(awaited)
