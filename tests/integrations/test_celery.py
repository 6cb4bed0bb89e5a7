"""Celery: the tasks in real workers of every kind, beat, retries, and what importing and registering do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task, group, signals
from tests.docs.pages import PROJECT

import perdure.integrations.celery as jobs
from perdure import QueryRecord, Session, SessionFilter, Settings
from perdure.backends import Archived, MemoryBackend
from perdure.errors import BackendUnavailableError, ConfigurationError, SchemaError
from perdure.models import StoredSession
from perdure.store import SessionStore as AsyncStore
from perdure.sync import SessionStore
from perdure.testing import Fault, FaultyBackend, ManualClock, Moment
from perdure.testing.servers import ValkeyServer

QUIET = Settings(sweep_on_open=False, sweep_in_background=False)
POSIX = pytest.mark.skipif(os.name == "nt", reason="worker processes as on POSIX")


@pytest.fixture(scope="module")
def broker() -> Iterator[ValkeyServer]:
    with ValkeyServer(durability="none") as server:
        yield server


class Jobs:
    """Workers and beat on one SQLite file and one broker, and a client that sends them tasks."""

    def __init__(self, folder: Path, broker: ValkeyServer) -> None:
        self.path = folder / "kept.db"
        self.folder = folder
        self._broker = broker
        self.app = Celery("client", broker=broker.url, backend=broker.url)

    @contextmanager
    def running(self, *words: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
        """`celery …` in a process of its own, told to end at the end; its log is shown where it fails."""
        environment = {
            **os.environ,
            "BROKER_URL": self._broker.url,
            "PERDURE_URL": f"sqlite:///{self.path}",
            "PYTHONPATH": str(PROJECT),
            **settings,
        }
        command = [sys.executable, "-m", "celery", "-A", "tests.integrations.celery_app", *words]
        log = self.folder / f"{words[0]}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        try:
            yield process
            process.terminate()
            assert process.wait(timeout=30) == 0
            assert "DIES_ONCE" in settings or "Traceback" not in log.read_text()
        except BaseException:
            print(log.read_text())
            raise
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def worker(self, pool: str, **settings: str) -> Any:
        return self.running(
            *("worker", "--pool", pool, "--concurrency", "2", "--loglevel", "INFO"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            **settings,
        )

    def send(self, name: str, **given: Any) -> Any:
        """The result of one task, as another program sees it."""
        return self.app.send_task(f"perdure.{name}", kwargs=given).get(timeout=40)

    def store(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> SessionStore:
        return SessionStore.open(f"sqlite:///{self.path}", settings=QUIET, clock=clock)

    def expired(self, count: int, *, age: timedelta = timedelta(days=2)) -> list[Session]:
        """Sessions that ran out of time, and that nobody has archived."""
        with self.store(ManualClock(datetime.now(UTC) - age)) as store:
            sessions = [store.create_session(["AAPL"], "equity", ttl_hours=1) for _ in range(count)]
            for session in sessions:
                store.track_query(session.id, QueryRecord(query_type="price"))
        return sessions

    def archived(self) -> int:
        with self.store() as store:
            return len(store.list_sessions(SessionFilter(archived=True), limit=1_000))

    def close(self) -> None:
        self._broker.clear()
        self.app.close()


@pytest.fixture
def at(tmp_path: Path, broker: ValkeyServer) -> Iterator[Jobs]:
    found = Jobs(tmp_path, broker)
    yield found
    found.close()


# In real workers ---------------------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_what_expired_is_archived_once_by_tasks_that_run_at_once(pool: str, at: Jobs) -> None:
    at.expired(20)
    with at.worker(pool, PERDURE_SWEEP_BATCH="3"):
        sent = group(at.app.signature("perdure.cleanup_expired_sessions") for _ in range(4)).apply_async()
        reports = sent.get(timeout=60)

        assert sum(report["archived"] for report in reports) == 20
        assert all(report["failed"] == report["skipped"] == 0 for report in reports)
        assert json.loads(json.dumps(reports)) == reports
        assert at.archived() == 20

        sent = group(at.app.signature("perdure.generate_session_metrics") for _ in range(2)).apply_async()
        metrics = sent.get(timeout=60)
        assert sum(report["gathered"] for report in metrics) == 20
        for report in metrics:
            stats = report["stats"]
            assert (stats["total_sessions"], stats["archived_sessions"], stats["total_queries"]) == (20, 20, 20)
        assert json.loads(json.dumps(metrics)) == metrics
        assert at.send("generate_session_metrics", days=1)["stats"]["total_sessions"] == 0
        assert at.send("delete_old_archived_sessions", retention_days=0, dry_run=True)["found"] == 20
        assert at.send("delete_old_archived_sessions")["deleted"] == 0
        assert at.send("delete_old_archived_sessions", retention_days=0)["deleted"] == 20
        assert at.path.with_name("kept.db-wal").exists()  # the worker has it open

    assert not at.path.with_name("kept.db-wal").exists()  # whoever closed it last did so cleanly
    assert at.archived() == 0


@POSIX
def test_beat_sends_what_the_settings_say_and_a_worker_does_it(at: Jobs) -> None:
    at.expired(5)
    often = {"PERDURE_SESSION_CLEANUP_INTERVAL_MINUTES": "0.02"}
    with at.worker("threads", **often), at.running("beat", "--loglevel", "INFO", **often):
        eventually(lambda: at.archived() == 5)


@POSIX
def test_a_task_whose_worker_is_killed_is_done_by_another(at: Jobs) -> None:
    at.expired(3)
    marker = at.folder / "died"
    with at.worker("prefork", DIES_ONCE=str(marker)):
        assert at.send("cleanup_expired_sessions")["archived"] == 3

    assert marker.exists()


# Retries -----------------------------------------------------------------------------------------------


def eager(*failures: Exception | None) -> tuple[jobs.Tasks, list[int]]:
    """Tasks that run in this process at once, whose store cannot be opened the first few times."""
    left, attempts = list(failures), list[int]()

    def open_store() -> SessionStore:
        attempts.append(len(attempts) + 1)
        if left and (failure := left.pop(0)) is not None:
            raise failure
        return SessionStore.open("memory://", settings=QUIET)

    app = Celery("eager", broker="memory://", set_as_current=False)
    app.conf.task_always_eager = True
    return jobs.register(app, open_store=open_store), attempts


def close_stores() -> None:
    signals.worker_shutdown.send(sender=None)


def test_a_backend_that_is_away_is_asked_again() -> None:
    away = BackendUnavailableError("sqlite", "no answer")
    tasks, attempts = eager(away, away)

    assert tasks.cleanup_expired_sessions.delay().get() == {
        "archived": 0,
        "skipped": 0,
        "forked": 0,
        "failed": 0,
        "failures": {},
        "stopped": False,
    }
    assert attempts == [1, 2, 3]
    close_stores()


def test_what_time_does_not_mend_is_not_tried_again() -> None:
    tasks, attempts = eager(SchemaError("sqlite", "made by a newer perdure"))

    with pytest.raises(SchemaError):
        tasks.cleanup_expired_sessions.delay().get()
    assert attempts == [1]


def test_a_sweep_that_could_archive_nothing_is_tried_again() -> None:
    clock = ManualClock()

    class Away(FaultyBackend):
        async def archive(self, sessions: Sequence[StoredSession], **how: Any) -> list[Archived]:
            clock.advance(timedelta(hours=1))  # what was claimed is free again
            return await super().archive(sessions, **how)

    away = Away(MemoryBackend(), [Fault(number, Moment.BEFORE, "archive") for number in (1, 2)])
    store = SessionStore(AsyncStore(away, settings=QUIET, clock=clock))
    store.create_session(["A"], "equity", ttl_hours=1)
    clock.advance(timedelta(hours=2))
    app = Celery("eager", broker="memory://", set_as_current=False)
    app.conf.task_always_eager = True
    tasks = jobs.register(app, open_store=lambda: store)

    report = tasks.cleanup_expired_sessions.delay().get()

    assert (report["archived"], report["stopped"]) == (1, False)
    assert away.calls.count("archive") == 3
    close_stores()


def test_it_is_given_up_in_the_end_with_ever_longer_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    away = BackendUnavailableError("sqlite", "no answer")
    tasks, attempts = eager(*[away] * 20)
    pauses, retry = list[int](), Task.retry

    def noted(task: Any, **given: Any) -> Any:
        pauses.append(given["countdown"])
        return retry(task, **given)

    monkeypatch.setattr(Task, "retry", noted)
    monkeypatch.setattr("celery.utils.time.random.randrange", lambda end: end - 1)  # of the jitter, the longest

    with pytest.raises(BackendUnavailableError):
        tasks.generate_session_metrics.delay().get()

    assert len(attempts) == 9
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 512]  # in seconds; the last is asked for and refused
    assert tasks.generate_session_metrics.acks_late
    assert tasks.generate_session_metrics.reject_on_worker_lost


def test_one_store_serves_the_tasks_of_a_process_until_that_ends() -> None:
    tasks, attempts = eager()
    tasks.generate_session_metrics.delay().get()
    tasks.cleanup_expired_sessions.delay(limit=5).get()
    assert attempts == [1]

    close_stores()
    close_stores()
    tasks.generate_session_metrics.delay().get()

    assert attempts == [1, 2]
    close_stores()


def test_what_failed_is_counted_and_the_first_of_it_explained() -> None:
    clock = ManualClock()
    faulty = FaultyBackend(MemoryBackend())
    store = SessionStore(AsyncStore(faulty, settings=QUIET, clock=clock))
    with store:
        sessions = [store.create_session(["A"], "equity", ttl_hours=1) for _ in range(3)]
        clock.advance(timedelta(hours=2))
        faulty.faults = [Fault(1, Moment.BEFORE, "archive")]

        report = jobs.cleanup_expired_sessions(store)

    assert report["failed"] == 3
    assert report["failures"].keys() == {str(session.id) for session in sessions}


# Registering -------------------------------------------------------------------------------------------


def test_the_schedule_is_built_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_SESSION_CLEANUP_INTERVAL_MINUTES", "15")

    schedule = jobs.CELERY_BEAT_SCHEDULE

    assert {entry["task"] for entry in schedule.values()} == {
        "perdure.cleanup_expired_sessions",
        "perdure.delete_old_archived_sessions",
        "perdure.generate_session_metrics",
    }
    sweep = schedule["perdure-cleanup-expired-sessions"]
    assert (sweep["schedule"], sweep["options"]["expires"]) == (timedelta(minutes=15), 900)
    daily = schedule["perdure-delete-old-archived-sessions"]["schedule"]
    assert (daily.hour, len(daily.minute)) == ({3}, 1)


def test_by_default_the_sweep_is_hourly() -> None:
    assert jobs.beat_schedule()["perdure-cleanup-expired-sessions"]["schedule"] == timedelta(hours=1)


def test_an_app_keeps_its_own_schedule() -> None:
    app = Celery("own", set_as_current=False)
    mine = {"task": "mine", "schedule": 1.0}
    app.conf.beat_schedule = {"mine": mine, "perdure-generate-session-metrics": mine}

    tasks = jobs.register(app)

    assert app.conf.beat_schedule["mine"] == mine
    assert app.conf.beat_schedule["perdure-generate-session-metrics"] == mine
    assert len(app.conf.beat_schedule) == 4
    assert {task.name for task in tasks} <= app.tasks.keys()
    assert "Archive everything" in (tasks.cleanup_expired_sessions.__doc__ or "")


def test_settings_that_cannot_work_are_said_when_registering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_SESSION_CLEANUP_INTERVALL_MINUTES", "15")

    with pytest.raises(ConfigurationError, match="did you mean"):
        jobs.register(Celery("broken", set_as_current=False))


def test_two_apps_have_their_tasks_and_stores_to_themselves() -> None:
    (one, opened_by_one), (other, opened_by_other) = eager(), eager()

    for tasks in (other, one):
        registered = tasks.generate_session_metrics.app.tasks
        registered["perdure.generate_session_metrics"].delay().get()

    assert (opened_by_one, opened_by_other) == ([1], [1])
    close_stores()


def test_a_name_that_does_not_exist_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="CELERY_BEAT"):
        _ = jobs.CELERY_BEAT


def test_a_worker_s_store_does_no_maintenance_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_URL", f"sqlite:///{tmp_path / 'kept.db'}")
    monkeypatch.setenv("PERDURE_SWEEP_ON_OPEN", "true")

    with jobs.open_store() as store:
        assert not store.settings.sweep_on_open
        assert not store.settings.sweep_in_background


def test_without_celery_the_extra_is_named() -> None:
    program = "import sys; sys.modules['celery'] = None; import perdure.integrations.celery"

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert "pip install 'perdure[celery]'" in ran.stderr.splitlines()[-1]


def eventually(condition: Callable[[], bool], *, within_seconds: float = 30) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
