"""Knowing what is under way, so that closing can wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

__all__ = ["InFlight", "under_way"]

P = ParamSpec("P")
T = TypeVar("T")


class InFlight:
    """How many verbs are under way. Verbs, not calls: between two calls of one, something is half done."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._idle.set()

    async def finish(self) -> None:
        """Wait until there are none."""
        while self._count:
            self._idle.clear()
            await self._idle.wait()


class _Has(Protocol):
    @property
    def in_flight(self) -> InFlight: ...


Owner = TypeVar("Owner", bound=_Has)


def under_way(
    verb: Callable[Concatenate[Owner, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Owner, P], Coroutine[Any, Any, T]]:
    """A method that counts as under way until it has ended."""

    @wraps(verb)
    async def counted(owner: Owner, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with owner.in_flight:
            return await verb(owner, *args, **kwargs)

    return counted
