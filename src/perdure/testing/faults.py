"""Breaking a backend on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from perdure.backends import ForwardingBackend, SessionBackend
from perdure.errors import BackendUnavailableError

__all__ = ["Fault", "FaultyBackend", "Moment"]

T = TypeVar("T")


class Moment(Enum):
    """Where in a call the fault strikes."""

    BEFORE = "before"
    """The call never reached the backend."""
    AFTER = "after"
    """The backend did its work, and the answer was lost."""
    CANCEL_BEFORE = "cancel before"
    """The caller is cancelled before the backend did anything."""
    CANCEL_AFTER = "cancel after"
    """The caller is cancelled after the backend did its work."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What strikes, and at which call: the first is 1. `method` counts calls of that method alone."""

    call: int
    moment: Moment
    method: str | None = None


class FaultyBackend(ForwardingBackend):
    """A `SessionBackend` that passes every call on to another, and fails where the plan says so.

    `calls` lists the methods called so far; `open`, `aclose` and `health` neither count nor fail. With
    `calls_until_dead`, every call from that one on fails before it reaches the backend, as if the process was gone.
    """

    def __init__(
        self, inner: SessionBackend, faults: Sequence[Fault] = (), *, calls_until_dead: int | None = None
    ) -> None:
        super().__init__(inner)
        self.faults = list(faults)
        self.calls: list[str] = []
        self.calls_until_dead = calls_until_dead

    async def pass_on(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        """What the call gives, unless the plan says that it fails."""
        self.calls.append(method)
        moment = self._moment(method)
        if moment is Moment.BEFORE:
            raise BackendUnavailableError(self.name, f"a fault before {method}, call {len(self.calls)}")
        if moment is Moment.CANCEL_BEFORE:
            raise asyncio.CancelledError
        answer = await call()
        if moment is Moment.AFTER:
            raise BackendUnavailableError(self.name, f"a fault after {method}, call {len(self.calls)}")
        if moment is Moment.CANCEL_AFTER:
            raise asyncio.CancelledError
        return answer

    def _moment(self, method: str) -> Moment | None:
        if self.calls_until_dead is not None and len(self.calls) >= self.calls_until_dead:
            return Moment.BEFORE
        for fault in self.faults:
            counted = len(self.calls) if fault.method is None else self.calls.count(fault.method)
            if fault.method in (None, method) and fault.call == counted:
                return fault.moment
        return None
