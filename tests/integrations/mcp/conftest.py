"""Tests of the MCP integration: without fastmcp only those of the plain package, without that none."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PLAIN = "test_plain.py"

collect_ignore = [
    path.name
    for path in HERE.glob("test_*.py")
    if not (find_spec("fastmcp") or (path.name == PLAIN and find_spec("mcp")))
]


@pytest.fixture(autouse=True)
def _a_home_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOME", "LOCALAPPDATA", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
