"""Letting plugins watch verbs and tiers. Where none wants to, nothing is put in between, so that it costs nothing."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

from perdure.backends import ObservedBackend, SessionBackend
from perdure.models import Session
from perdure.store.hooks import Around, HookRelay

__all__ = ["watch_verbs", "watched_tier"]

T = TypeVar("T")

UNWATCHED = frozenset({"aclose"})


def watched_tier(backend: SessionBackend, hooks: HookRelay, *, tier: str) -> SessionBackend:
    """The backend, with `around_tier_call` entered around each of its calls if any plugin has that hook."""
    if not hooks.listens("around_tier_call"):
        return backend

    def surround(tier: str, name: str, operation: str) -> Around:
        return hooks.around("around_tier_call", tier=tier, backend=name, operation=operation)

    return ObservedBackend(backend, surround, tier=tier)


def watch_verbs(sessions: object, hooks: HookRelay) -> None:
    """Put what enters `around_verb` in front of each verb of this object, if any plugin has that hook."""
    if not hooks.listens("around_verb"):
        return
    for name, verb in inspect.getmembers(type(sessions), inspect.iscoroutinefunction):
        if not name.startswith("_") and name not in UNWATCHED:
            setattr(sessions, name, _watched(name, verb.__get__(sessions), hooks))


def _watched(name: str, verb: Callable[..., Awaitable[T]], hooks: HookRelay) -> Callable[..., Awaitable[T]]:
    about_a_session = next(iter(inspect.signature(verb).parameters), None) in ("session_id", "session")

    @functools.wraps(verb)
    async def watched(*args: Any, **kwargs: Any) -> T:
        about = args[0] if args and about_a_session else kwargs.get("session_id", kwargs.get("session"))
        with hooks.around("around_verb", verb=name, session_id=_id_of(about)):
            return await verb(*args, **kwargs)

    return watched


def _id_of(about: object) -> UUID | None:
    """The session that a call is about, if that can be told; the verb itself refuses what is no id."""
    match about:
        case UUID():
            return about
        case Session():
            return about.id
        case str():
            try:
                return UUID(about)
            except ValueError:
                return None
    return None
