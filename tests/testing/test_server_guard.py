"""No server outlives the program that started it, and none needs root."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.testing.processes import becomes_true, gone

from perdure.testing.servers.guard import Guard, all_ended, children_of, has_ended

SCRIPT = Path(__file__).with_name("server_child.py")

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="what runs is looked up as on Linux")


@contextmanager
def child(verb: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), verb], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What it tells in one line."""
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    assert line, process.stderr.read().decode()
    answer: dict[str, Any] = json.loads(line)
    return answer


@pytest.mark.parametrize("verb", ["start", "start-stopped"])
@pytest.mark.parametrize("end", ["killed", "returns"])
def test_servers_and_their_folders_are_gone_after_the_program_that_started_them(verb: str, end: str) -> None:
    with child(verb) as process:
        facts = told(process)
        family = {pid for server in facts["pids"] for pid in (server, *children_of(server))}
        assert len(family) > 5
        assert all(Path(folder).is_dir() for folder in facts["folders"])

        if end == "killed":
            process.kill()
        else:
            process.communicate(b"end\n", timeout=30)

        assert all(map(gone, family))
        assert becomes_true(lambda: not any(Path(folder).exists() for folder in facts["folders"]))


@pytest.mark.skipif(os.geteuid() != 0, reason="whoever is not root shows it with every other test")
def test_without_root_servers_run_as_who_one_is() -> None:
    with child("unprivileged") as process:
        facts = told(process)
        process.communicate(timeout=30)

    if "failed" in facts:
        pytest.skip(f"the installed servers are closed to others than root: {facts['failed']}")
    assert facts == {"owners": [facts["expected"]] * 2, "expected": facts["expected"], "kept": "yes", "rows": [[1]]}


def test_a_process_that_was_forgotten_is_left_alone(tmp_path: Path) -> None:
    guard = Guard()
    with (tmp_path / "log").open("wb") as log:
        process = guard.launch(["sleep", "60"], log=log, cwd=tmp_path, env=os.environ)
    try:
        assert becomes_true(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
        guard.forget()
        guard.close()
    finally:
        process.terminate()

    assert process.wait(10) == -signal.SIGTERM  # SIGKILL would have come before


def test_a_process_is_guarded_from_its_first_moment(tmp_path: Path) -> None:
    guard = Guard()
    with (tmp_path / "log").open("wb") as log:
        process = guard.launch(["sleep", "60"], log=log, cwd=tmp_path, env=os.environ)

    guard.close()  # the process may not even have begun

    assert process.wait(10) == -signal.SIGKILL


def test_the_children_of_a_process_die_with_it(tmp_path: Path) -> None:
    guard = Guard()
    with (tmp_path / "log").open("wb") as log:
        process = guard.launch(["sh", "-c", "sleep 60 & sleep 60"], log=log, cwd=tmp_path, env=os.environ)
    assert becomes_true(lambda: len(children_of(process.pid)) == 2)
    children = children_of(process.pid)

    guard.close()

    assert process.wait(10) == -signal.SIGKILL
    assert all(map(gone, children))


@pytest.mark.parametrize("stopped", [False, True])
def test_a_process_is_given_the_chance_to_end_by_a_milder_signal(tmp_path: Path, stopped: bool) -> None:
    guard = Guard(first=signal.SIGTERM)
    ending = "trap 'touch ended; exit' TERM; touch begun; while :; do sleep 0.01; done"
    with (tmp_path / "log").open("wb") as log:
        process = guard.launch(["sh", "-c", ending], log=log, cwd=tmp_path, env=os.environ)
    assert becomes_true((tmp_path / "begun").exists)
    if stopped:
        process.send_signal(signal.SIGSTOP)

    guard.close()

    assert process.wait(10) == 0
    assert (tmp_path / "ended").exists()


def test_the_folders_are_removed_whatever_their_names(tmp_path: Path) -> None:
    guard = Guard()
    for name in ("a b", "-rf", "$HOME", "*"):
        (tmp_path / name / "in it").mkdir(parents=True)
        guard.remove_at_the_end(tmp_path / name)
    (tmp_path / "other").mkdir()

    guard.close()

    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_process_that_nobody_has_asked_about_since_its_end_has_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert has_ended(process.pid) is False
        assert all_ended([os.getpid(), process.pid], within_seconds=0.05) is False

        process.kill()

        assert all_ended([process.pid], within_seconds=10) is True
        assert process.returncode is None  # so its id is still taken
    assert has_ended(process.pid) is True


@pytest.mark.parametrize("folder", ["relative", "/tmp/one\n/tmp/other"])
def test_a_folder_that_could_be_mistaken_is_not_removed(folder: str) -> None:
    guard = Guard()
    try:
        with pytest.raises(ValueError, match="told apart"):
            guard.remove_at_the_end(Path(folder))
    finally:
        guard.close()
