"""Tests of the MCP integration: left out where fastmcp is not installed, with no settings around them."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore_glob = [] if find_spec("fastmcp") else ["test_*.py"]


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("PERDURE_") and not name.startswith("PERDURE_TEST_"):
            monkeypatch.delenv(name)
    for name in ("HOME", "LOCALAPPDATA", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
