"""Backends on a server, freshly opened."""

from __future__ import annotations

from perdure.backends import SessionBackend
from perdure.backends.redis.backend import RedisBackend
from perdure.testing.conformance import OpenBackend


def opener(url: str) -> OpenBackend:
    """Opens backends on one place."""

    async def open_backend() -> SessionBackend:
        backend = RedisBackend(url)
        await backend.open()
        return backend

    return open_backend
