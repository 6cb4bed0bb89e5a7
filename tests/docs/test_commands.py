"""docs/cli.md shows every command, each with `--json` and every option of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from tests.docs.pages import PROJECT

from perdure.cli.app import app

SHARED = {"--url", "--archive", "--json", "--verbose", "--debug", "--help"}


def commands(command: Any, name: str = "perdure") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by the words that call it."""
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for word, part in below.items():
        yield from commands(part, f"{name} {word}")


COMMANDS = dict(commands(typer.main.get_command(app)))


def sections() -> dict[str, str]:
    """The text below each heading that names a command."""
    page = (PROJECT / "docs" / "cli.md").read_text(encoding="utf-8")
    parts = re.split(r"^#{2,3} (.+)$", page, flags=re.MULTILINE)
    return {heading.strip("`"): text for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_command_has_its_heading_and_no_other_is_named() -> None:
    assert {heading for heading in sections() if heading.startswith("perdure ")} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_shown_as_it_is_called_and_with_json(name: str) -> None:
    section = sections()[name]

    calls = [line for line in section.splitlines() if line.startswith("$ ")]
    assert any(name in call for call in calls)
    assert any(name in call and "--json" in call for call in calls)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_named(name: str) -> None:
    section = sections()[name]

    own = {option for parameter in COMMANDS[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
    for option in sorted(own - SHARED):
        if option.startswith("--"):
            assert option in section


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_is_shown_that_does_not_exist(name: str) -> None:
    own = {option for parameter in COMMANDS[name].params for option in (*parameter.opts, *parameter.secondary_opts)}

    calls = [line.partition(name)[2] for line in sections()[name].splitlines() if line.startswith("$ ")]
    shown = {word for call in calls for word in call.split(" | ")[0].split() if word.startswith("--")}
    assert shown <= own | SHARED
