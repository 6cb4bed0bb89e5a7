"""Backends that are opened for a moment."""

from __future__ import annotations

from perdure.backends import BackendHealth, SessionBackend
from perdure.testing import START, stored_query, stored_session

__all__ = ["health_once_open", "with_one_session"]


async def health_once_open(backend: SessionBackend) -> BackendHealth:
    """How a backend is that is opened for it, and well."""
    await backend.open()
    health = await backend.health(now=START)
    await backend.aclose()
    assert health.ok
    return health


async def with_one_session(backend: SessionBackend) -> None:
    """Make the place of a backend, and one session in it that has a row in every table for content."""
    await backend.open()
    await backend.create(stored_session(queries=(stored_query(),), sections={"context": {"k": 1}}, tags=("tech",)))
    await backend.aclose()
