"""What `docs/testing.md` tells authors of backends to write works as pytest runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import PROJECT


def block(containing: str) -> str:
    """The one Python block of the page with these words."""
    page = (PROJECT / "docs" / "testing.md").read_text(encoding="utf-8")
    found: str
    (found,) = (text for text in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.M) if containing in text)
    return found


@pytest.mark.xdist_group("servers")
def test_the_conftest_and_the_test_of_the_page_pass(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # wherever this is, the settings of no project above hold
    (tmp_path / "conftest.py").write_text(block("pytest_plugins"))
    overriding = "import pytest\nfrom perdure.testing.servers import available_postgres_binaries\n"
    (tmp_path / "test_page.py").write_text(
        f"{block('def test_a_write_survives')}\n{overriding}{block('def postgres_binaries')}\n"
        "def test_it_is_overridden(postgres_url, postgres_server):\n"
        "    assert postgres_server.binaries in available_postgres_binaries()\n"
    )

    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-v",
            "-W",
            "error",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:asyncio",
            str(tmp_path),
        ],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout
    assert "test_a_write_survives_a_kill PASSED" in ran.stdout
    assert "test_it_is_overridden[embedded-postgres-18" in ran.stdout
