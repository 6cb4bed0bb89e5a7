"""`perdure export`, `import` and `copy`."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from tests.cli.running import CommandLine

from perdure import Session


@pytest.fixture
def three(perdure: CommandLine) -> list[Session]:
    """An active, an expired and an archived session."""
    return [
        perdure.session(queries=3, tags=["x"]),
        perdure.session(age=timedelta(days=2), user_id=None),
        perdure.archived(age=timedelta(days=3)),
    ]


def test_exported_dropped_and_imported_sessions_are_equal(perdure: CommandLine, three: list[Session]) -> None:
    exported = perdure.json("export", "all.jsonl")
    perdure.text("db", "drop", "--yes")
    imported = perdure.json("import", "all.jsonl")

    assert exported == {"file": "all.jsonl", "exported": 3, "failed": {}, "missing": 0}
    assert imported == {"stored": 3, "merged": 0, "unchanged": 0, "deleted": 0, "failed": []}
    assert [perdure.found(session) for session in three] == three
    first = Path("all.jsonl").read_bytes()
    perdure.text("export", "again.jsonl")
    assert Path("again.jsonl").read_bytes() == first


def test_an_export_is_one_object_a_line_in_utf_8(perdure: CommandLine, three: list[Session]) -> None:
    perdure.text("export", "all.jsonl")

    lines = Path("all.jsonl").read_text(encoding="utf-8").splitlines()

    assert sorted(map(json.loads, lines), key=str) == sorted((session.to_dict() for session in three), key=str)
    assert "Zürich" in lines[0]


def test_an_export_goes_to_stdout_and_says_the_rest_on_stderr(perdure: CommandLine, three: list[Session]) -> None:
    for words in (["export"], ["export", "-"], ["export", "--json"]):
        result = perdure.run(*words)
        assert {json.loads(line)["id"] for line in result.stdout.splitlines()} == {str(made.id) for made in three}
        assert result.stderr == "exported 3 sessions\n"


def test_an_import_reads_stdin(perdure: CommandLine, three: list[Session]) -> None:
    lines = perdure.run("export").stdout_bytes
    elsewhere = CommandLine("sqlite:///elsewhere.db")

    assert elsewhere.text("import", "-", stdin=lines) == "sessions: 3 new, 0 brought up to date, 0 there already\n"
    assert elsewhere.found(three[0]) == three[0]


def test_an_import_may_be_repeated_and_brings_nothing_back(perdure: CommandLine, three: list[Session]) -> None:
    perdure.text("export", "all.jsonl")
    perdure.text("sessions", "delete", str(three[0].id))

    again = perdure.json("import", "all.jsonl")

    assert again == {"stored": 0, "merged": 0, "unchanged": 2, "deleted": 1, "failed": []}
    assert "1 deleted here before" in perdure.text("import", "all.jsonl")
    assert perdure.found(three[0]) is None


def test_bad_lines_are_named_by_number_and_the_rest_goes_on(perdure: CommandLine, three: list[Session]) -> None:
    good = perdure.run("export").stdout_bytes.splitlines(keepends=True)
    too_large = json.loads(good[0])
    too_large["id"] = "01a20aa8-a194-7470-b6cc-715d5cba4996"
    too_large["state"]["context"]["k"] = "x" * 300_000
    bad = [b"no json\n", b"[]\n", b"{}\n", b"\xff\n", b"[" * 100_000 + b"\n", json.dumps(too_large).encode() + b"\n"]
    Path("mixed.jsonl").write_bytes(b"\xef\xbb\xbf" + good[0] + b"".join(bad) + b"\n" + b"".join(good[1:]))
    elsewhere = CommandLine("sqlite:///elsewhere.db")

    report = elsewhere.json("import", "mixed.jsonl", code=1)
    said = elsewhere.run("import", "mixed.jsonl")

    assert (report["stored"], [problem["line"] for problem in report["failed"]]) == (3, [2, 3, 4, 5, 6, 7])
    assert said.exit_code == 1
    complaints = said.stderr.splitlines()
    assert len(complaints) == 6
    assert complaints[0] == "error: line 2: no JSON: Expecting value at column 1"
    assert "type: Field required" in complaints[2]
    assert "context['k'] has 300,002 bytes" in complaints[5]


def test_a_file_that_is_not_there_is_wrong_input(perdure: CommandLine) -> None:
    assert perdure.error("import", "nothing.jsonl", code=2) == "No such file or directory: nothing.jsonl"


def test_an_export_that_fails_leaves_the_file_as_it_was(
    perdure: CommandLine, three: list[Session], machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("all.jsonl").write_text("as it was")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    assert perdure.error("export", "all.jsonl", code=1) == "No space left on device"
    assert Path("all.jsonl").read_text() == "as it was"
    assert not list(machine.glob(".*part"))


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be replaced there")
def test_a_file_that_cannot_be_written_is_named_as_it_was_asked_for(
    perdure: CommandLine, three: list[Session], machine: Path
) -> None:
    missing = machine / "nowhere" / "x.jsonl"

    assert perdure.error("export", str(missing), code=1) == f"No such file or directory: {missing}"


def test_an_export_takes_nothing_from_who_is_reading_the_last_one(perdure: CommandLine, three: list[Session]) -> None:
    Path("all.jsonl").write_text("as it was")

    with Path("all.jsonl").open() as reader:
        perdure.text("export", "all.jsonl")
        assert reader.read() == "as it was"
    assert len(Path("all.jsonl").read_text().splitlines()) == 3


def test_an_export_follows_a_link(perdure: CommandLine, three: list[Session]) -> None:
    Path("target.jsonl").write_text("")
    Path("link.jsonl").symlink_to("target.jsonl")

    perdure.text("export", "link.jsonl")

    assert Path("link.jsonl").is_symlink()
    assert len(Path("target.jsonl").read_text().splitlines()) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_an_export_writes_into_a_pipe_and_does_not_replace_it(perdure: CommandLine, three: list[Session]) -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)

    try:
        assert perdure.text("export", "pipe") == "exported 3 sessions to pipe\n"
        assert os.read(reader, 2**20).count(b"\n") == 3
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)


def test_what_an_export_cannot_read_is_named_and_fails_it(perdure: CommandLine, three: list[Session]) -> None:
    with closing(sqlite3.connect("kept.db")) as connection, connection:
        connection.execute(
            "UPDATE session_entries SET value = 'no json' WHERE key = 'focus' AND session_id = ?", (three[0].id.bytes,)
        )
        connection.execute("UPDATE sessions SET assets = 'no json' WHERE id = ?", (three[1].id.bytes,))

    result = perdure.run("export", "all.jsonl", "--json")

    report = json.loads(result.stdout)
    assert (result.exit_code, report["exported"], report["missing"]) == (1, 1, 1)
    assert list(report["failed"]) == [str(three[0].id)]
    assert f"error: session {three[0].id}: " in result.stderr
    assert "error: 1 session could not be read" in result.stderr


@pytest.mark.parametrize("words", [["export", "-"], ["sessions", "list"], ["sessions", "list", "--json"], ["demo"]])
def test_nobody_hears_of_a_reader_that_went_away(perdure: CommandLine, words: list[str]) -> None:
    perdure.session()
    with perdure.start(*words) as process:
        assert process.stdout is not None
        process.stdout.close()  # before anything can have been written

        assert process.wait(timeout=60) == 1
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_copy_copies_whole_sessions_and_may_be_repeated(perdure: CommandLine, three: list[Session]) -> None:
    elsewhere = CommandLine("sqlite:///elsewhere.db")
    words = ["copy", "--from", "sqlite:///kept.db", "--to", "sqlite:///elsewhere.db"]

    first, second = CommandLine().json(*words), CommandLine().text(*words)

    assert first == {
        "source": "sqlite:///kept.db",
        "target": "sqlite:///elsewhere.db",
        "stored": 3,
        "merged": 0,
        "unchanged": 0,
        "deleted": 0,
        "failed": [],
    }
    assert second == "sessions: 0 new, 0 brought up to date, 3 there already\n"
    assert [elsewhere.found(session) for session in three] == three


@pytest.mark.parametrize(
    ("source", "target", "code", "said"),
    [
        ("sqlite:///none.db", "sqlite:///b.db", 1, "there is no file none.db"),
        ("sqlite:///a.db", "sqlite:///a.db", 2, "it is the store that --from names"),
        ("nowhere://", "sqlite:///a.db", 2, "no backend for 'nowhere'"),
    ],
)
def test_copy_wants_two_stores(source: str, target: str, code: int, said: str) -> None:
    assert said in CommandLine().error("copy", "--from", source, "--to", target, code=code)


def test_copy_from_memory_copies_nothing() -> None:
    assert CommandLine().json("copy", "--from", "memory://", "--to", "sqlite:///a.db")["stored"] == 0


def test_copy_takes_no_url_besides(perdure: CommandLine) -> None:
    assert "names its stores itself" in perdure.error("copy", "--from", "memory://", "--to", "sqlite:///a.db", code=2)


def test_a_session_that_cannot_be_copied_is_named(
    perdure: CommandLine, three: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERDURE_MAX_KEY_LENGTH", "5")

    result = CommandLine().run("copy", "--from", "sqlite:///kept.db", "--to", "sqlite:///elsewhere.db")

    assert result.exit_code == 1
    assert f"error: session {three[0].id}: " in result.stderr


@pytest.mark.parametrize("words", [["export", "all.jsonl"], ["import", "all.jsonl"], ["metrics", "all.csv"]])
def test_a_terminal_is_shown_how_far_it_is(perdure: CommandLine, three: list[Session], words: list[str]) -> None:
    perdure.text("export", "all.jsonl")

    result = perdure.run(*words, env={"FORCE_COLOR": "1"})

    assert "3 sessions" in result.stderr
    assert "/s" in result.stderr
