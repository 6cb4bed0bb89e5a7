"""Every Python block of README.md and docs/*.md runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.pages import PAGES, run_page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    run_page(page, folder=tmp_path)


def test_the_blocks_of_a_page_are_one_program(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nimport asyncio\nawait asyncio.sleep(0)\nseen = 1\n```\n\n```python\nseen += 1\n```\n")

    assert run_page(page, folder=tmp_path)["seen"] == 2


def test_a_block_that_fails_fails_its_page_and_names_the_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```python\nwell = True\n```\n\n```python\nassert not well, 'seen'\n```\n")

    with pytest.raises(AssertionError, match="seen") as caught:
        run_page(page, folder=tmp_path)

    assert (str(caught.traceback[-1].path), caught.traceback[-1].lineno + 1) == (str(page), 8)
