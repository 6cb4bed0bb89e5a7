"""What can be imported from where, and what importing does not do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import perdure
from perdure import errors, hookspecs, store

NAMES = {
    "AnalysisHistory",
    "Page",
    "QueryRecord",
    "Session",
    "SessionFilter",
    "SessionMetrics",
    "SessionState",
    "SessionStore",
    "SessionSummary",
    "SessionTotals",
    "SessionType",
    "Settings",
    "StatsFilter",
    "close_session_store",
    "get_session_store",
    "hookimpl",
}


def test_the_public_names_are_those_that_were_promised_and_no_others() -> None:
    assert set(perdure.__all__) == NAMES
    assert all(hasattr(perdure, name) for name in NAMES)


def test_every_error_can_be_imported_from_one_place() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}

    assert set(errors.__all__) == kinds
    assert all(issubclass(getattr(errors, name), errors.PerdureError) for name in kinds)


def test_plugins_mark_their_hooks_with_the_same_marker() -> None:
    assert perdure.hookimpl is hookspecs.hookimpl


def test_what_the_verbs_answer_can_be_imported_to_be_named_in_annotations() -> None:
    assert {"TrackedQuery", "CleanupReport", "RetentionReport", "ImportReport", "StoreHealth", "UserSessions"} <= set(
        store.__all__
    )


def imported(statement: str, folder: Path) -> dict[str, Any]:
    """What a fresh Python, with an empty folder as its home, has and did after a statement."""
    program = f"""
import json, sys, threading
before = set(threading.enumerate())
{statement}
print(json.dumps({{"modules": sorted(sys.modules), "threads": len(set(threading.enumerate()) - before)}}))
"""
    environment = {
        "HOME": str(folder),
        "PERDURE_NONSENSE": "which only a store would complain of",
        "PYTHONPATH": str(Path(perdure.__file__).parent.parent),
    }
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stderr == ""
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def test_importing_perdure_imports_no_driver_and_has_no_effects(tmp_path: Path) -> None:
    found = imported("import perdure, perdure.store, perdure.sync, perdure.backends, perdure.hookspecs", tmp_path)

    drivers = {"sqlite3", "aiosqlite", "sqlalchemy", "alembic", "typer", "redis", "asyncpg", "pytest", "hypothesis"}
    drivers |= {"celery", "prometheus_client", "opentelemetry"}
    assert drivers.isdisjoint(found["modules"])
    # structlog looks whether rich is there; perdure itself uses it in the command line only
    assert not [name for name in found["modules"] if name.startswith("perdure.") and name.split(".")[1] in ("cli",)]
    assert found["threads"] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_store_in_memory_needs_no_driver_either(tmp_path: Path) -> None:
    statement = "import os; del os.environ['PERDURE_NONSENSE']; from perdure import SessionStore; SessionStore.open('memory://')"

    assert {"sqlite3", "sqlalchemy", "alembic"}.isdisjoint(imported(statement, tmp_path)["modules"])
