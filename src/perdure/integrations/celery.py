"""Maintenance as Celery tasks: `register(app)`, and workers and beat do what `perdure maintain` does.

Configured by `PERDURE_*`, as everything else. Needs the extra `perdure[celery]`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias

from perdure.analytics import SessionAnalytics
from perdure.errors import BackendError, BackendUnavailableError, MissingExtraError, SchemaError, StorageReadOnlyError
from perdure.settings import Settings
from perdure.sync import SessionStore

try:
    from celery import Celery, Task, signals
    from celery.schedules import crontab
except ImportError as error:
    raise MissingExtraError("perdure.integrations.celery", extra="celery") from error

__all__ = [
    "Tasks",
    "beat_schedule",
    "cleanup_expired_sessions",
    "delete_old_archived_sessions",
    "generate_session_metrics",
    "open_store",
    "register",
]

Report: TypeAlias = dict[str, Any]
"""What a task answers: JSON."""

FAILURES_SHOWN = 100
"""Sessions of which a result says why they failed; all of them are counted, and logged."""

OPTIONS: dict[str, Any] = {
    "shared": False,  # this app's alone: its store is not that of another one
    "autoretry_for": (BackendError,),
    "dont_autoretry_for": (SchemaError, StorageReadOnlyError),  # which time does not mend
    "retry_backoff": 2,  # seconds, doubled each time
    "retry_backoff_max": 600,
    "retry_jitter": True,
    "max_retries": 8,
    # Whatever is cut short is safe to do again.
    "acks_late": True,
    "reject_on_worker_lost": True,
}


# The work ---------------------------------------------------------------------------------------------


def cleanup_expired_sessions(store: SessionStore, *, limit: int | None = None) -> Report:
    """Archive everything that has expired, or at most `limit`; safe to run at once in any number of places."""
    report = store.cleanup_expired_sessions(limit)
    shown = list(report.failed.items())[:FAILURES_SHOWN]
    return {
        "archived": report.archived,
        "skipped": report.skipped,
        "forked": len(report.forked),
        "failed": len(report.failed),
        "failures": {str(session_id): reason for session_id, reason in shown},
        "stopped": report.stopped,
    }


def delete_old_archived_sessions(
    store: SessionStore, *, retention_days: float | None = None, dry_run: bool = False
) -> Report:
    """Delete what was archived longer ago than `retention_days` (default: the setting); `dry_run` only counts it."""
    report = store.delete_old_archived_sessions(retention_days, dry_run)
    return {"deleted": report.deleted, "found": len(report.session_ids), "cutoff": report.cutoff.isoformat()}


def generate_session_metrics(store: SessionStore, *, days: int = 30) -> Report:
    """Roll up what archived sessions count, and tell the statistics of the last `days`; safe anywhere, any time."""
    gathered = store.generate_session_metrics()
    stats = store.run(lambda sessions: SessionAnalytics(sessions).get_session_stats(days=days))
    return {"gathered": gathered, "stats": stats.model_dump(mode="json")}


# Celery -----------------------------------------------------------------------------------------------


class Tasks(NamedTuple):
    """The tasks of one app: `tasks.cleanup_expired_sessions.delay()`."""

    cleanup_expired_sessions: Task[..., Report]
    delete_old_archived_sessions: Task[..., Report]
    generate_session_metrics: Task[..., Report]


def register(app: Celery, *, open_store: Callable[[], SessionStore] | None = None) -> Tasks:
    """Give the app the three tasks, as `perdure.…`, and their times in `beat_schedule` to its own.

    Each process of a worker opens one store, with its first task, and closes it when it ends. `open_store` opens it
    in another way than the environment says. What the app's own schedule says under the same name stays.

    A task whose backend is away, and a sweep that was stopped because nothing could be archived, are tried again.

    Raises:
        ConfigurationError: settings in the environment that cannot work.
    """
    stores = _StoreOfProcess(_open_quietly if open_store is None else open_store)
    own = f"perdure.{id(stores):x}"  # older Celery takes the same method of two apps for one
    signals.worker_process_shutdown.connect(stores.close, dispatch_uid=own)  # a child of the prefork pool
    signals.worker_shutdown.connect(stores.close, dispatch_uid=own)  # the worker itself: solo and threads

    def task(work: Callable[..., Report]) -> Task[..., Report]:
        def run(**given: Any) -> Report:
            report = work(stores.get(), **given)
            if report.get("stopped"):
                why = next(iter(report["failures"].values()), "no reason given")
                raise BackendUnavailableError("store", f"nothing can be archived at present: {why}")
            return report

        run.__doc__ = work.__doc__
        as_task: Callable[..., Task[..., Report]] = app.task(name=f"perdure.{work.__name__}", **OPTIONS)
        return as_task(run)

    app.conf.beat_schedule = {**beat_schedule(), **(app.conf.beat_schedule or {})}
    return Tasks(
        cleanup_expired_sessions=task(cleanup_expired_sessions),
        delete_old_archived_sessions=task(delete_old_archived_sessions),
        generate_session_metrics=task(generate_session_metrics),
    )


def beat_schedule(settings: Settings | None = None) -> dict[str, dict[str, Any]]:
    """When beat is to send the tasks: the sweep at every cleanup interval, the other two once a day.

    Also to be had as `CELERY_BEAT_SCHEDULE`, built from the environment when it is looked up. A task that no worker
    took before the next one is due expires.
    """
    interval = (Settings() if settings is None else settings).cleanup_interval
    daily = {"expires": timedelta(days=1).total_seconds()}
    return {
        "perdure-cleanup-expired-sessions": {
            "task": "perdure.cleanup_expired_sessions",
            "schedule": interval,
            "options": {"expires": interval.total_seconds()},
        },
        "perdure-delete-old-archived-sessions": {
            "task": "perdure.delete_old_archived_sessions",
            "schedule": crontab(hour=3, minute=17),
            "options": daily,
        },
        "perdure-generate-session-metrics": {
            "task": "perdure.generate_session_metrics",
            "schedule": crontab(hour=3, minute=47),
            "options": daily,
        },
    }


def __getattr__(name: str) -> Any:
    if name == "CELERY_BEAT_SCHEDULE":  # not before it is asked for: importing must not read the environment
        return beat_schedule()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def open_store() -> SessionStore:
    """The store that the environment names, which does no maintenance by itself: the tasks do it."""
    return SessionStore.open(settings=Settings(sweep_on_open=False, sweep_in_background=False))


_open_quietly = open_store  # `register` has a parameter of that name


class _StoreOfProcess:
    """One store for all tasks of one process. Not opened before the first task: a pool forks its children before."""

    def __init__(self, open_store: Callable[[], SessionStore]) -> None:
        self._open = open_store
        self._lock = threading.Lock()
        self._store: SessionStore | None = None
        self._process: int | None = None

    def get(self) -> SessionStore:
        with self._lock:
            if self._store is None or self._process != os.getpid():
                self._store, self._process = self._open(), os.getpid()
            return self._store

    def close(self, **_: object) -> None:
        with self._lock:
            store, self._store = self._store, None
        if store is not None:
            store.close()
