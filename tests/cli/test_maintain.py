"""`perdure maintain`"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from tests.cli.running import CommandLine, finished

from perdure import SessionStore
from perdure.errors import BackendUnavailableError
from perdure.store import CleanupReport

NO_SIGNALS = pytest.mark.skipif(os.name == "nt", reason="signals as on POSIX")


def test_one_round_archives_what_expired_and_deletes_what_is_old(perdure: CommandLine) -> None:
    archived, old = perdure.archived(age=timedelta(days=3)), perdure.archived(age=timedelta(days=40))
    active, expired = perdure.session(), perdure.session(age=timedelta(days=2))

    report = perdure.json("maintain", "--once")

    assert report == {"archived": 1, "skipped": 0, "deleted": 1, "gathered": 3, "failed": {}, "finished": True}
    assert perdure.found(old) is None
    states = [found is not None and found.is_archived for found in map(perdure.found, (active, expired, archived))]
    assert states == [False, True, True]


def test_a_round_leaves_nothing_to_be_rolled_up(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.cli.maintain.ROLL_UP_BATCH", 2)
    for _ in range(5):
        perdure.session(age=timedelta(days=2))

    assert perdure.json("maintain", "--once")["gathered"] == 5
    assert perdure.within(SessionStore.generate_session_metrics) == 0


def test_a_round_for_people_is_one_line(perdure: CommandLine) -> None:
    perdure.session(age=timedelta(days=2))

    assert perdure.text("maintain", "--once") == "archived 1, deleted 0 past their retention\n"


def test_rounds_of_more_than_a_batch_leave_nothing(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_SWEEP_BATCH", "2")
    for _ in range(5):
        perdure.session(queries=0, age=timedelta(days=2))

    result = perdure.run("maintain", "--once", env={"FORCE_COLOR": "1"})

    assert "archived 5" in result.stdout
    assert "5 sessions" in result.stderr


def test_a_round_is_a_sweep_of_which_others_know(perdure: CommandLine) -> None:
    perdure.json("maintain", "--once")

    async def last_sweep(store: SessionStore) -> datetime | None:
        return (await store.health()).tiers["store"].last_swept_at

    swept = perdure.within(last_sweep)
    assert swept is not None
    assert datetime.now(UTC) - swept < timedelta(minutes=1)


def test_what_failed_is_named_and_fails_the_round(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    session = perdure.session()

    async def sweep(store: SessionStore, limit: int | None = None, **how: Any) -> CleanupReport:
        return CleanupReport(archived=1, skipped=1, failed={session.id: "it is damaged"})

    monkeypatch.setattr(SessionStore, "cleanup_expired_sessions", sweep)

    result = perdure.run("maintain", "--once")

    assert result.exit_code == 1
    assert result.stdout == "archived 1, deleted 0 past their retention, 1 were changed meanwhile, 1 failed\n"
    assert result.stderr == f"error: session {session.id}: it is damaged\n"


@NO_SIGNALS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_ends_when_it_is_told_to(perdure: CommandLine, number: signal.Signals) -> None:
    session = perdure.session(age=timedelta(days=2))
    process = perdure.start("maintain", "--json")
    first_round = _line(process)

    process.send_signal(number)
    code, rest, err = finished(process)

    assert first_round["archived"] == 1
    assert datetime.fromisoformat(first_round["at"]) <= datetime.now(UTC)
    assert (code, rest) == (0, "")
    assert err == "maintaining sqlite:///kept.db every 60 minutes; Ctrl-C ends it\n"
    found = perdure.found(session)
    assert found is not None
    assert found.is_archived


@NO_SIGNALS
def test_a_service_goes_on_at_every_interval(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_SESSION_CLEANUP_INTERVAL_MINUTES", "0.001")
    elsewhere = CommandLine("sqlite:///elsewhere.db")
    elsewhere.session(age=timedelta(days=2))
    process = perdure.start("maintain", "--json")
    _line(process)
    CommandLine().text("copy", "--from", "sqlite:///elsewhere.db", "--to", "sqlite:///kept.db")  # whole, at once

    while not _line(process)["archived"]:
        pass
    process.terminate()

    assert finished(process)[0] == 0


@NO_SIGNALS
def test_a_round_that_is_told_to_stop_ends_after_its_batch(
    perdure: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, after_the_first = list[int | None](), list[Any]()

    async def sweep(store: SessionStore, limit: int | None = None, **how: Any) -> CleanupReport:
        batches.append(limit)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.01)  # a sweep that does something lets the loop run
        after_the_first.append(signal.getsignal(signal.SIGTERM))
        return CleanupReport(archived=limit or 0)

    monkeypatch.setattr(SessionStore, "cleanup_expired_sessions", sweep)

    result = perdure.run("maintain", "--once")

    assert (batches, result.exit_code) == ([2_000], 1)
    assert result.stdout == "archived 2,000, deleted 0 past their retention; stopped before the end\n"
    assert after_the_first == [signal.SIG_DFL]  # whoever will not wait for the batch says so once more


@NO_SIGNALS
def test_a_service_outlives_a_backend_that_is_away(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_SESSION_CLEANUP_INTERVAL_MINUTES", "0.0001")
    outcomes = iter([BackendUnavailableError("sqlite", "another process held the write lock for too long"), None])

    async def sweep(store: SessionStore, limit: int | None = None, **how: Any) -> CleanupReport:
        if (error := next(outcomes)) is not None:
            raise error
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.01)
        return CleanupReport(archived=3)

    monkeypatch.setattr(SessionStore, "cleanup_expired_sessions", sweep)

    result = perdure.run("maintain")

    assert result.exit_code == 0
    assert "error: sqlite: another process held the write lock for too long; trying again in 0.0001" in result.stderr
    assert "UTC  archived 3" in result.stdout


def test_a_service_that_finds_its_backend_away_waits_longer_each_time(
    perdure: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = BackendUnavailableError("sqlite", "no answer")
    outcomes, pauses = iter([away, away, away, None, away, None]), list[float]()

    async def sweep(store: SessionStore, limit: int | None = None, **how: Any) -> CleanupReport:
        if (error := next(outcomes)) is not None:
            raise error
        return CleanupReport(archived=1)

    async def wait(stopping: asyncio.Event, *, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 6:
            stopping.set()

    monkeypatch.setattr(SessionStore, "cleanup_expired_sessions", sweep)
    monkeypatch.setattr("perdure.cli.maintain.wait_for", wait)
    monkeypatch.setenv("PERDURE_SESSION_CLEANUP_INTERVAL_MINUTES", "0.8")

    result = perdure.run("maintain")

    assert (result.exit_code, pauses) == (0, [15, 30, 48, 48, 15, 48])


def test_a_service_outlives_a_backend_that_is_away_for_weeks(
    perdure: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = 0

    async def sweep(store: SessionStore, limit: int | None = None, **how: Any) -> CleanupReport:
        raise BackendUnavailableError("sqlite", "no answer")

    async def wait(stopping: asyncio.Event, *, seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1_100:  # a power of two that no float holds
            stopping.set()

    monkeypatch.setattr(SessionStore, "cleanup_expired_sessions", sweep)
    monkeypatch.setattr("perdure.cli.maintain.wait_for", wait)

    result = perdure.run("maintain")

    assert (result.exit_code, rounds) == (0, 1_100)


def test_a_round_ends_where_a_whole_batch_fails(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    perdure.session()
    rounds = list[int | None]()

    async def sweep(store: SessionStore, limit: int | None = None, **how: Any) -> CleanupReport:
        rounds.append(limit)
        return CleanupReport(failed={uuid4(): "the archive does not answer" for _ in range(limit or 0)})

    monkeypatch.setattr(SessionStore, "cleanup_expired_sessions", sweep)

    assert perdure.run("maintain", "--once").exit_code == 1
    assert rounds == [2_000]


def test_a_round_whose_sweep_was_stopped_is_not_finished(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    session = perdure.session()

    async def sweep(store: SessionStore, limit: int | None = None, **how: Any) -> CleanupReport:
        return CleanupReport(failed={session.id: "the archive does not answer"}, stopped=True)

    monkeypatch.setattr(SessionStore, "cleanup_expired_sessions", sweep)

    report = json.loads(perdure.run("maintain", "--once", "--json").stdout)
    assert (report["finished"], len(report["failed"])) == (False, 1)
    line = perdure.run("maintain", "--once").stdout
    assert line == "archived 0, deleted 0 past their retention, 1 failed; stopped before the end\n"


def test_a_probe_sees_whether_somebody_sweeps(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    perdure.session(age=timedelta(days=2))
    assert perdure.run("maintain", "--check").exit_code == 1
    assert perdure.run("maintain", "--check").stdout == "the store answers; the last sweep was never\n"

    perdure.json("maintain", "--once")
    seen = perdure.json("maintain", "--check")
    assert (seen["ok"], seen["answers"]) == (True, True)
    assert datetime.now(UTC) - datetime.fromisoformat(seen["last_swept_at"]) < timedelta(minutes=1)
    assert perdure.text("maintain", "--check").startswith("the store answers; the last sweep was ")

    monkeypatch.setenv("PERDURE_SESSION_CLEANUP_INTERVAL_MINUTES", "0.000001")
    overdue = perdure.run("maintain", "--check", "--json")
    assert (overdue.exit_code, json.loads(overdue.stdout)["ok"]) == (1, False)


def test_a_probe_changes_nothing(perdure: CommandLine) -> None:
    session = perdure.session(age=timedelta(days=2))

    perdure.run("maintain", "--check")

    found = perdure.found(session)
    assert found is not None
    assert not found.is_archived


def test_a_probe_of_a_store_that_is_not_there_fails(perdure: CommandLine) -> None:
    assert CommandLine("sqlite:///no/such/folder/kept.db").run("maintain", "--check").exit_code == 1
    assert "only looks" in perdure.error("maintain", "--check", "--once", code=2)


def _line(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line: dict[str, Any] = json.loads(process.stdout.readline())
    return line
