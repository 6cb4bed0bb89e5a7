from __future__ import annotations

import pytest

from perdure.backends import MemoryBackend, MemoryData, SessionBackend
from perdure.testing import BackendConformance, OpenBackend


class TestMemoryBackend(BackendConformance):
    @pytest.fixture
    def open_backend(self) -> OpenBackend:
        data = MemoryData()

        async def open_backend() -> SessionBackend:
            backend = MemoryBackend(data)
            await backend.open()
            return backend

        return open_backend
