"""The example of a plugin in a package of its own is installed, found and called."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import PROJECT

PACKAGE = PROJECT / "docs" / "examples" / "plugin"

PROGRAM = """
from perdure import QueryRecord
from perdure.sync import SessionStore

with SessionStore.open("memory://") as store:
    session = store.create_session(["AAPL"], "equity")
    for milliseconds in (5, 50, 500):
        query = QueryRecord(query_type="backtest", parameters={"k": "swordfish"}, execution_time_ms=milliseconds)
        store.track_query(session.id, query)
    store.archive_session(session.id)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in it, built without a network."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(PACKAGE, source)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"),
            *("--no-index", "--no-build-isolation", "--no-warn-conflicts", "--target", str(folder / "target")),
            str(source),
        ],
        check=True,
        timeout=100,
    )
    return folder / "target"


def run(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("PERDURE_")}
    return subprocess.run(
        [sys.executable, *words],
        env={**kept, "PYTHONPATH": str(installed), "HOME": str(folder), "SLOW_QUERY_MS": "40"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_is_listed_with_its_version_and_hooks(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, tmp_path, "-m", "perdure", "--url", "memory://", "plugins", "--json")

    assert (listed.returncode, listed.stderr) == (0, "")
    assert json.loads(listed.stdout) == {
        "plugins": [
            {
                "name": "slow-queries",
                "package": "perdure-slow-queries",
                "version": "1.2.0",
                "hooks": ["query_tracked", "session_archived", "session_deleted"],
            }
        ]
    }


def test_it_is_called_by_every_store_that_is_opened(installed: Path, tmp_path: Path) -> None:
    ran = run(installed, tmp_path, "-c", PROGRAM)

    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.splitlines() == [
        "backtest took 50 ms (query 2)",
        "backtest took 500 ms (query 3)",
        "2 of 3 queries were slow",
    ]


def test_without_it_nothing_is_listed(tmp_path: Path) -> None:
    listed = run(tmp_path, tmp_path, "-m", "perdure", "--url", "memory://", "plugins", "--json")

    assert json.loads(listed.stdout) == {"plugins": []}
