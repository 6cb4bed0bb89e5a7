"""The backend that `docs/writing-a-backend.md` shows keeps the contract that the page is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import PROJECT, run_page

from perdure.backends import SessionBackend
from perdure.testing import BackendConformance
from perdure.testing.conformance import OpenBackend

pytest.importorskip("fcntl", reason="the example locks its file as POSIX does")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_page(PROJECT / "docs" / "writing-a-backend.md", folder=tmp_path_factory.mktemp("page"))


class TestJournalBackend(BackendConformance):
    @pytest.fixture
    def open_backend(self, page: dict[str, Any], tmp_path: Path) -> OpenBackend:
        async def open_backend() -> SessionBackend:
            backend: SessionBackend = page["JournalBackend"](tmp_path / "sessions.journal")
            await backend.open()
            return backend

        return open_backend
