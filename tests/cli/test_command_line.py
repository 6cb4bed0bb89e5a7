"""What all commands have in common."""

from __future__ import annotations

import json
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.cli.running import CommandLine, finished
from tests.installed import install

from perdure.cli import app as application
from perdure.cli import command as commands
from perdure.cli.app import app
from perdure.cli.errors import sentence
from perdure.cli.output import duration, shown_url

COMMANDS = [
    [],
    ["demo"],
    ["export"],
    ["import"],
    ["copy"],
    ["maintain"],
    ["doctor"],
    ["plugins"],
    ["sessions"],
    *(["sessions", verb] for verb in ("list", "show", "history", "extend", "archive", "delete")),
    ["db"],
    *(["db", verb] for verb in ("create", "upgrade", "verify", "drop")),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(perdure: CommandLine, words: list[str]) -> None:
    shown = perdure.text(*words, "--help")

    assert f"perdure {' '.join(words)}".strip().split()[-1] in shown or "root" in shown
    assert perdure.text(*words, "-h") == shown


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words not in ([], ["sessions"], ["db"])], ids=" ".join
)
def test_every_command_has_the_shared_options(words: list[str]) -> None:
    found: Any = typer.main.get_command(app)
    for word in words:
        found = found.commands[word]

    options = {option for parameter in found.params for option in parameter.opts}
    wanted = {"--json", "--verbose", "--debug"} | (set() if words == ["copy"] else {"--url", "--archive"})
    assert wanted <= options


@pytest.mark.parametrize("words", [[], ["sessions"], ["db"]])
def test_no_command_at_all_shows_the_help_and_is_wrong(words: list[str]) -> None:
    result = CommandLine().run(*words)

    assert (result.exit_code, result.stderr) == (2, "")
    assert "Usage:" in result.stdout


def test_the_version_is_shown_in_both_ways() -> None:
    assert CommandLine().text("--version").startswith("perdure ")
    assert CommandLine().run("--json", "--version").stdout.startswith('{\n  "version": ')


def test_the_version_of_sources_that_are_not_installed_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "DISTRIBUTION", "not-a-distribution")

    assert CommandLine().text("--version") == "perdure unknown\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")

    code, out, err = finished(CommandLine().start("--show-completion", shell))

    assert (code, err) == (0, "")
    assert "_PERDURE_COMPLETE" in out


def test_completion_completes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PERDURE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "perdure sess")
    monkeypatch.setenv("COMP_CWORD", "1")

    assert finished(CommandLine().start())[1].split() == ["sessions"]


@pytest.mark.parametrize(
    "words",
    [
        ["--url", "sqlite:///a.db", "--json", "sessions", "list"],
        ["sessions", "list", "--url", "sqlite:///a.db", "--json"],
        ["--url", "sqlite:///b.db", "sessions", "list", "--url", "sqlite:///a.db", "--json"],
    ],
)
def test_shared_options_count_before_and_after_the_command(words: list[str]) -> None:
    session = CommandLine("sqlite:///a.db").session()

    listing = json.loads(CommandLine().text(*words))

    assert [entry["id"] for entry in listing["sessions"]] == [str(session.id)]


def test_the_store_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    CommandLine("sqlite:///a.db").session()
    monkeypatch.setenv("PERDURE_URL", "sqlite:///a.db")

    assert len(CommandLine().json("sessions", "list")["sessions"]) == 1


def test_without_a_url_the_store_is_in_the_users_data_directory(machine: Path) -> None:
    CommandLine().text("sessions", "list")

    (made,) = machine.rglob("sessions.db")
    assert made.is_relative_to(machine / "home")


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("nowhere://", 2, "no backend for 'nowhere'"),
        ("a.db", 2, "a SQLite file is sqlite:///a.db"),
        ("sqlite:///no/such/folder/a.db", 1, "cannot be opened"),
        ("sqlite:///letter.txt", 1, "not a SQLite database"),
    ],
)
def test_a_store_that_cannot_be_opened_is_one_line(url: str, code: int, said: str) -> None:
    Path("letter.txt").write_text("a letter to my aunt, which is no database at all" * 9)

    assert said in CommandLine(url).error("sessions", "list", code=code)


def test_a_home_that_is_a_file_is_one_line(machine: Path) -> None:
    (machine / "home").write_text("")

    assert "no folder for" in CommandLine().error("sessions", "list", code=1)


def test_a_setting_that_does_not_exist_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_SWEEP_BACH", "7")

    assert "did you mean PERDURE_SWEEP_BATCH?" in CommandLine().error("sessions", "list", code=2)


def test_an_archive_without_a_tier_in_front_of_it_is_refused_in_one_line() -> None:
    assert "give url" in CommandLine().error("sessions", "list", "--archive", "memory://", code=2)


def test_a_bug_is_one_line_unless_one_asks(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any) -> Any:
        raise TypeError("two\nlines")

    monkeypatch.setattr(commands.Run, "open_store", broken)

    assert perdure.error("sessions", "list", code=1) == (
        "unexpected TypeError: two lines (a bug: `--debug` shows where)"
    )
    asked = perdure.run("sessions", "list", "--debug")
    assert asked.exit_code == 1
    assert asked.stderr.startswith("Traceback")
    assert "in broken" in asked.stderr


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), typer.Abort()])
def test_an_interrupted_command_says_so(
    perdure: CommandLine, monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    def interrupted(self: Any) -> Any:
        raise raised

    monkeypatch.setattr(commands.Run, "open_store", interrupted)

    said = {KeyboardInterrupt: ("interrupted", 130), typer.Abort: ("aborted; nothing was done", 1)}[type(raised)]
    assert perdure.error("sessions", "list", code=said[1]) == said[0]


@pytest.mark.skipif(os.name == "nt", reason="signals as on POSIX")
def test_ctrl_c_ends_the_demo_with_130(perdure: CommandLine) -> None:
    process = perdure.start("demo")
    assert process.stdout is not None
    process.stdout.readline()  # it has begun

    process.send_signal(signal.SIGINT)
    code, _, err = finished(process)

    assert (code, err) == (130, "error: interrupted\n")


def test_the_log_stays_off_stdout_and_is_shown_on_request(perdure: CommandLine) -> None:
    perdure.session(age=timedelta(days=2))
    quiet = perdure.run("maintain", "--once")
    perdure.session(age=timedelta(days=2))
    loud = perdure.run("maintain", "--once", "--verbose", "--json")

    assert quiet.stderr == ""
    assert json.loads(loud.stdout)["archived"] == 1
    assert "event=sessions.archived archived=1" in loud.stderr


@pytest.mark.parametrize(
    ("length", "told"),
    [
        (timedelta(seconds=0.4), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(minutes=2), "2 min"),
        (timedelta(hours=47), "47 h"),
        (timedelta(hours=48), "2 d"),
    ],
)
def test_a_length_of_time_is_told_in_its_largest_unit(length: timedelta, told: str) -> None:
    assert duration(length) == told


def test_errors_are_told_by_what_they_say() -> None:
    assert sentence(FileNotFoundError(2, "No such file", "a")) == "No such file: a"
    assert sentence(OSError("odd")) == "odd"
    assert sentence(RecursionError()) == "nested too deeply"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:s3cret@host:6379/0", "redis://:***@host:6379/0"),
        ("postgresql://joe:s3cret@host/db", "postgresql://joe:***@host/db"),
        ("sqlite:///a.db", "sqlite:///a.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_plugins_are_listed_and_a_broken_one_is_named(perdure: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert perdure.run("plugins").stderr.startswith("no plugins")
    install(monkeypatch, group="perdure.plugins", name="extra", value="tests.hooks.test_registering:INSTALLED")
    assert "extra   perdure-extra 1.0" in perdure.text("plugins")

    install(monkeypatch, group="perdure.plugins", name="extra", value="tests.hooks.test_registering:MISSPELT")
    assert "sesion_created" in perdure.error("plugins", code=2)


def test_the_help_of_the_report_names_its_extra() -> None:
    shown = CommandLine().text("report", "--help")

    assert "extra report." in " ".join(shown.replace("`", "").split())
