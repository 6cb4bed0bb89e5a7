"""`docs/examples/replay_trace.py` arrives at every total that the README of its log promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.examples.trace import EXAMPLE, TRACE, replay_trace

from perdure import SessionStore, SessionTotals, Settings


@pytest.fixture
def example() -> ModuleType:
    return replay_trace()


@pytest.fixture(params=["sqlite", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/trace.db" if request.param == "sqlite" else "memory://"


def assert_promised(totals: SessionTotals, *, archived: int) -> None:
    """Every total of the log's README."""
    assert (totals.sessions, totals.archived_sessions, totals.total_queries) == (421, archived, 1_490)
    assert round(totals.total_queries / totals.sessions, 4) == 3.5392
    assert totals.longest_session == 8
    assert list(totals.assets.items())[:3] == [("ETR", 36), ("UNP", 23), ("PM", 22)]
    assert totals.query_types == {"raw": 1_004, "percent": 332, "ratio": 137, "none": 17}
    assert totals.timed_queries == 1_490
    assert round(totals.execution_time_ms / totals.timed_queries, 2) == 2_910.26
    assert totals.errors == 0


async def test_the_replayed_log_has_its_totals_before_and_after_archiving(example: ModuleType, url: str) -> None:
    clock = example.ReplayClock()
    settings = Settings(sweep_on_open=False, sweep_in_background=False)
    async with SessionStore.open(url, settings=settings, clock=clock) as store:
        await example.replay(store, example.read_trace(TRACE), clock=clock)

        assert_promised(await store.get_totals(), archived=0)
        assert_promised(await example.recount(example.sessions_of(store)), archived=0)

        clock.now += example.TIME_TO_LIVE
        report = await store.cleanup_expired_sessions()

        assert (report.archived, report.skipped, report.failed) == (421, 0, {})
        assert_promised(await store.get_totals(), archived=421)
        assert_promised(await example.recount(example.sessions_of(store, archived=True)), archived=421)


def test_the_program_prints_the_statistics_twice(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, str(EXAMPLE), str(TRACE)], capture_output=True, timeout=100, cwd=tmp_path)

    shown = run.stdout.decode()
    assert run.returncode == 0, run.stderr.decode()
    for promised in ("421", "1,490", "3.5392", "2,910.26 ms", "1,004", "332", "137"):
        assert shown.count(promised) >= 2
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, str(EXAMPLE), "none.jsonl"], capture_output=True, timeout=100, cwd=tmp_path)

    assert run.returncode == 2
    assert b"there is no file none.jsonl" in run.stderr
