"""`perdure db …`"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.running import CommandLine


def test_create_makes_a_database_and_may_be_repeated(perdure: CommandLine, machine: Path) -> None:
    assert perdure.text("db", "create") == "sqlite:///kept.db is ready\n"
    assert perdure.json("db", "create") == {"url": "sqlite:///kept.db", "created": True}
    assert (machine / "kept.db").exists()


def test_create_without_a_url_makes_the_folder_of_the_user(perdure: CommandLine, machine: Path) -> None:
    perdure.url = None

    made = perdure.json("db", "create")

    assert Path(made["url"]).is_relative_to(machine / "home")
    assert Path(made["url"]).exists()


def test_upgrade_says_from_where_to_where(perdure: CommandLine) -> None:
    perdure.text("db", "create")

    upgraded = perdure.json("db", "upgrade")

    assert upgraded == {"url": "sqlite:///kept.db", "before": upgraded["now"], "now": upgraded["now"]}
    assert "was at revision" in perdure.text("db", "upgrade")


def test_verify_is_silent_about_nothing(perdure: CommandLine) -> None:
    perdure.text("db", "create")

    assert perdure.json("db", "verify") == {"url": "sqlite:///kept.db", "ok": True, "differences": []}
    assert perdure.text("db", "verify") == "sqlite:///kept.db is as expected\n"


def test_verify_lists_the_differences_and_fails(perdure: CommandLine) -> None:
    perdure.text("db", "create")
    with closing(sqlite3.connect("kept.db")) as connection:
        connection.execute("DROP TABLE session_labels")

    verified = perdure.json("db", "verify", code=1)

    assert verified["ok"] is False
    assert "table session_labels is missing" in verified["differences"]
    assert "table session_labels is missing\n" in perdure.text("db", "verify", code=1)


def test_drop_asks_and_takes_no_for_an_answer(perdure: CommandLine, machine: Path) -> None:
    perdure.session()

    for answer in ("n\n", "", "yess\n"):
        result = perdure.run("db", "drop", stdin=answer)
        assert result.exit_code == 1
        assert "Delete every session in sqlite:///kept.db? [y/N]" in result.stderr
        assert "error: nothing was dropped" in result.stderr
    assert (machine / "kept.db").exists()


def test_drop_deletes_the_file_when_told_to(perdure: CommandLine, machine: Path) -> None:
    perdure.session()

    dropped = perdure.run("db", "drop", stdin="y\n")

    assert (dropped.exit_code, dropped.stdout) == (0, "sqlite:///kept.db is gone\n")
    assert not (machine / "kept.db").exists()
    perdure.session()
    assert perdure.json("db", "drop", "--yes") == {"url": "sqlite:///kept.db", "dropped": True}


@pytest.mark.parametrize("verb", [["upgrade"], ["verify"], ["drop", "--yes"]])
def test_what_is_not_there_cannot_be_looked_at(perdure: CommandLine, verb: list[str]) -> None:
    assert "there is no file kept.db" in perdure.error("db", *verb, code=1)


def test_memory_has_no_schema(perdure: CommandLine) -> None:
    perdure.url = "memory://"

    assert "memory has no schema" in perdure.error("db", "create", code=2)


# Two tiers ---------------------------------------------------------------------------------------------


@pytest.fixture
def two_tiers(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setenv("PERDURE_ARCHIVE", "sqlite:///archive.db")
    return perdure


def test_each_tier_that_has_a_schema_is_dealt_with(two_tiers: CommandLine, machine: Path) -> None:
    places = ["sqlite:///kept.db", "sqlite:///archive.db"]

    assert two_tiers.text("db", "create") == "sqlite:///kept.db is ready\nsqlite:///archive.db is ready\n"
    assert [made["url"] for made in two_tiers.json("db", "create")] == places
    assert [done["url"] for done in two_tiers.json("db", "upgrade")] == places
    assert [(seen["url"], seen["ok"]) for seen in two_tiers.json("db", "verify")] == [(place, True) for place in places]
    assert [done["url"] for done in two_tiers.json("db", "drop", "--yes")] == places
    assert not (machine / "kept.db").exists()
    assert not (machine / "archive.db").exists()


@pytest.mark.parametrize("damaged", ["kept.db", "archive.db"])
def test_verify_fails_where_either_tier_differs(two_tiers: CommandLine, damaged: str) -> None:
    two_tiers.text("db", "create")
    with closing(sqlite3.connect(damaged)) as connection:
        connection.execute("DROP TABLE session_labels")

    verified = two_tiers.json("db", "verify", code=1)

    assert [seen["url"] for seen in verified if not seen["ok"]] == [f"sqlite:///{damaged}"]


def test_drop_names_both_tiers_before_it_drops_them(two_tiers: CommandLine, machine: Path) -> None:
    two_tiers.text("db", "create")

    result = two_tiers.run("db", "drop", stdin="n\n")

    assert result.exit_code == 1
    assert "Delete every session in sqlite:///kept.db and in sqlite:///archive.db? [y/N]" in result.stderr
    assert (machine / "kept.db").exists()
    assert (machine / "archive.db").exists()


def test_behind_a_memory_the_archive_alone_has_a_schema(two_tiers: CommandLine, machine: Path) -> None:
    two_tiers.url = "memory://"

    assert two_tiers.text("db", "create") == "sqlite:///archive.db is ready\n"
    assert two_tiers.json("db", "verify") == {"url": "sqlite:///archive.db", "ok": True, "differences": []}
    assert not (machine / "kept.db").exists()


def test_an_archive_without_anything_before_it_is_a_mistake(two_tiers: CommandLine) -> None:
    two_tiers.url = None

    assert "an archive needs a hot tier" in two_tiers.error("db", "create", code=2)
