"""Pages of the documentation as programs: the Python blocks of one page, in order, with top-level `await`."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from sybil.document import Document
from sybil.example import Example
from sybil.parsers.markdown import CodeBlockParser

PROJECT = Path(__file__).parents[2]
OF_EXTRAS = {"mcp.md": "fastmcp"}
"""Pages whose programs need an extra."""

PAGES = [
    page
    for page in [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
    if page.name not in OF_EXTRAS or find_spec(OF_EXTRAS[page.name]) is not None
]


def run_page(page: Path, *, folder: Path) -> dict[str, Any]:
    """The names that the page's program leaves behind, run in `folder` on a machine without sessions or settings.

    The traceback of a failure names the line of the page.
    """
    with pytest.MonkeyPatch.context() as machine, asyncio.Runner() as runner:
        for name in os.environ:
            if name.upper().startswith("PERDURE_"):
                machine.delenv(name)
        for name in ("HOME", "LOCALAPPDATA", "XDG_DATA_HOME", "XDG_STATE_HOME"):
            machine.setenv(name, str(folder))
        machine.chdir(folder)

        def run(example: Example) -> None:
            source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
            code = compile(source, example.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            outcome = eval(code, example.namespace)
            if inspect.iscoroutine(outcome):
                runner.run(outcome)

        document = Document.parse(str(page), CodeBlockParser(language="python", evaluator=run))
        document.namespace["__name__"] = page.stem.replace("-", "_")
        for example in document.examples():
            example.evaluate()
        return document.namespace


def table_rows(page: str, *, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of `docs/{page}`, without its two lines of head."""
    _, _, below = (PROJECT / "docs" / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")
    assert below, f"docs/{page} has no heading {heading!r}"
    rows: list[list[str]] = []
    for line in below.splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            break
    return rows[2:]
