"""Every test of the command line has a machine of its own: a home with nothing in it, and a terminal of no kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.running import CommandLine


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "LOCALAPPDATA", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def perdure() -> CommandLine:
    """The command line, on a store of its own."""
    return CommandLine("sqlite:///kept.db")
