"""`perdure doctor`"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cli.running import CommandLine

from perdure import Settings
from perdure.testing.servers import ValkeyServer


def problems(examination: dict[str, Any]) -> list[str]:
    return [finding["what"] for finding in examination["findings"] if finding["level"] == "problem"]


def test_a_machine_without_sessions_is_well_and_stays_as_it_is(machine: Path) -> None:
    examination = CommandLine().json("doctor")

    assert examination["ok"] is True
    assert [(finding["level"], finding["do"]) for finding in examination["findings"]] == [
        ("note", "run `perdure demo`")
    ]
    assert not (machine / "home").exists()


def test_a_store_that_is_well_says_how_it_is(perdure: CommandLine) -> None:
    perdure.session()
    perdure.json("maintain", "--once")

    examination, shown = perdure.json("doctor"), perdure.text("doctor")

    (tier,) = examination["tiers"].values()
    assert (examination["ok"], tier["ok"], tier["due"], tier["backend"]) == (True, True, 0, "sqlite")
    assert tier["latency_ms"] > 0
    assert tier["last_swept_at"] is not None
    assert "all is well" in shown
    assert "journal mode" in shown


def test_every_setting_is_there_with_its_source(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("perdure_sweep_batch", "7")
    monkeypatch.setenv("PERDURE_MAX_KEY_LENGTH", "")

    configuration = perdure.json("doctor", code=1)["configuration"]

    assert configuration.keys() == Settings.model_fields.keys() - {"value_encoder"}
    assert configuration["url"] == {"value": "sqlite:///kept.db", "source": "option"}
    assert configuration["sweep_batch"] == {"value": 7, "source": "environment"}
    assert configuration["max_key_length"] == {"value": 256, "source": "default"}


def test_passwords_are_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_ARCHIVE", "postgresql://joe:secret@example/db")

    result = CommandLine().run("doctor")

    assert "postgresql://joe:***@example/db" in result.stdout
    assert "secret" not in result.output


def test_a_bad_setting_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_SWEEP_BACH", "7")

    examination = CommandLine().json("doctor", code=1)

    assert problems(examination) == [
        "no setting PERDURE_SWEEP_BACH in the environment; did you mean PERDURE_SWEEP_BATCH?"
    ]


def test_a_url_without_a_backend_is_a_finding() -> None:
    (problem,) = problems(CommandLine("nowhere://").json("doctor", code=1))

    assert problem.startswith("no backend for 'nowhere'")


def test_a_file_that_is_not_there_is_a_finding_and_is_not_made(perdure: CommandLine, machine: Path) -> None:
    (problem,) = problems(perdure.json("doctor", code=1))

    assert "there is no file kept.db" in problem
    assert not (machine / "kept.db").exists()


def test_a_file_that_is_no_database_is_a_finding(perdure: CommandLine) -> None:
    Path("kept.db").write_text("a letter to my aunt, which is no database at all" * 9)

    shown = perdure.text("doctor", code=1)

    assert "problem: sqlite: the file is not a SQLite database" in shown
    assert "→ " in shown


def test_a_schema_with_something_missing_is_a_finding_and_stays_so(perdure: CommandLine) -> None:
    perdure.session()
    with closing(sqlite3.connect("kept.db")) as connection:
        connection.execute("DROP TABLE session_labels")

    examination = perdure.json("doctor", code=1)

    assert any("table session_labels is missing" in problem for problem in problems(examination))
    assert perdure.json("db", "verify", code=1)["ok"] is False


def test_a_database_of_somebody_else_is_a_finding_and_gets_no_tables(perdure: CommandLine) -> None:
    with closing(sqlite3.connect("kept.db")) as connection:
        connection.execute("CREATE TABLE letters (text)")

        (problem,) = problems(perdure.json("doctor", code=1))

        assert "holds nothing of perdure's" in problem
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("letters",)]


def test_expired_sessions_that_nobody_archives_are_a_finding(perdure: CommandLine) -> None:
    perdure.session(age=timedelta(days=2))

    examination = perdure.json("doctor", code=1)

    assert problems(examination) == ["1 session has expired and not been archived; the last sweep was never"]
    assert "perdure maintain --once" in examination["findings"][0]["do"]
    assert problems(perdure.json("doctor", code=1)) == problems(examination)  # looking changed nothing


def test_what_expired_since_the_last_sweep_is_only_noted(perdure: CommandLine) -> None:
    perdure.text("maintain", "--once")
    perdure.session(age=timedelta(days=2))
    perdure.session(age=timedelta(days=2))

    shown = perdure.text("doctor")

    assert "note: 2 sessions have expired since the last sweep" in shown


def test_a_last_sweep_of_long_ago_is_a_finding(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    perdure.text("maintain", "--once")
    perdure.session(age=timedelta(days=2))
    monkeypatch.setenv("PERDURE_SESSION_CLEANUP_INTERVAL_MINUTES", "0.0000001")

    assert re.search(r"the last sweep was \d+ s ago", perdure.text("doctor", code=1))


def test_a_store_in_memory_needs_no_schema() -> None:
    assert CommandLine("memory://").json("doctor")["tiers"]["store"]["backend"] == "memory"


def test_what_a_server_is_set_up_to_lose_is_a_warning_and_no_failure() -> None:
    with ValkeyServer(durability="none", maxmemory_policy="allkeys-lru") as server:
        perdure = CommandLine(server.url)
        perdure.session()

        examination, shown = perdure.json("doctor"), perdure.text("doctor")

    warnings = [finding["what"] for finding in examination["findings"] if finding["level"] == "warning"]
    assert (examination["ok"], problems(examination)) == (True, [])
    assert any("allkeys-lru" in warning for warning in warnings)
    assert any("disk" in warning for warning in warnings)
    assert shown.count("warning: store: ") == len(warnings)


def test_the_archive_of_two_tiers_is_examined_and_not_made(machine: Path) -> None:
    words = ["--url", "memory://", "--archive", "sqlite:///archive.db", "doctor"]

    examination = CommandLine().json(*words, code=1)

    assert problems(examination) == ["sqlite: there is no file archive.db; run `perdure db create`"]
    assert not (machine / "archive.db").exists()
    CommandLine("sqlite:///archive.db").session()
    assert CommandLine().json(*words)["tiers"].keys() == {"hot", "archive"}


def test_a_tier_that_is_away_does_not_hide_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_ACKNOWLEDGE", "hot")
    words = ["--url", "memory://", "--archive", "postgresql://127.0.0.1:1/nowhere", "doctor"]

    examination = CommandLine().json(*words, code=1)

    assert (examination["tiers"]["hot"]["ok"], examination["tiers"]["archive"]["ok"]) == (True, False)
    assert [what.partition(":")[0] for what in problems(examination)] == ["archive does not answer"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everything")
def test_a_folder_that_cannot_be_written_is_a_finding(perdure: CommandLine, machine: Path) -> None:
    perdure.session()
    Path("kept.db").chmod(0o400)

    assert problems(perdure.json("doctor", code=1))
