"""Tests of the MCP integration: without fastmcp only those of the plain package, without that none. No settings."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import structlog

HERE = Path(__file__).parent
PLAIN = "test_plain.py"

collect_ignore = [
    path.name
    for path in HERE.glob("test_*.py")
    if not (find_spec("fastmcp") or (path.name == PLAIN and find_spec("mcp")))
]


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("PERDURE_"):
            monkeypatch.delenv(name)
    structlog.reset_defaults()  # a test elsewhere may have left it configured, and then `caplog` sees nothing
    for name in ("HOME", "LOCALAPPDATA", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
