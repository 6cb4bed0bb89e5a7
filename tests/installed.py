"""As if a package with entry points was installed."""

from __future__ import annotations

from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest


class _Package(Distribution):
    def __init__(self, group: str, name: str, value: str) -> None:
        self._texts = {
            "METADATA": "Metadata-Version: 2.1\nName: perdure-extra\nVersion: 1.0\n",
            "entry_points.txt": f"[{group}]\n{name} = {value}\n",
        }

    def read_text(self, filename: str) -> str | None:
        return self._texts.get(filename)

    def locate_file(self, path: Any) -> Path:
        return Path(path)


def install(monkeypatch: pytest.MonkeyPatch, *, group: str, name: str, value: str) -> None:
    """Let this entry point be the only one that is found."""
    monkeypatch.setattr("importlib.metadata.distributions", lambda **_: [_Package(group, name, value)])
