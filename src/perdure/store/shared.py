"""One store for a whole program, opened when it is first asked for."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from perdure.store.session_store import SessionStore

__all__ = ["close_session_store", "get_session_store"]

# The one piece of state that a module of perdure keeps: what is shared must be kept somewhere.
_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[SessionStore]] = WeakKeyDictionary()


async def get_session_store() -> SessionStore:
    """The store of the running loop, configured by the environment; opened once, tried again after a failed start.

    Close it with `close_session_store` before the loop ends.
    """
    loop = asyncio.get_running_loop()
    opening = _shared.get(loop)
    if opening is None or (opening.done() and (opening.cancelled() or opening.exception() is not None)):
        opening = _shared[loop] = loop.create_task(_opened())
    # Shielded: who is cancelled while waiting must not take the store from the others.
    return await asyncio.shield(opening)


async def close_session_store() -> None:
    """Close the store of the running loop, if there is one."""
    opening = _shared.pop(asyncio.get_running_loop(), None)
    if opening is not None:
        await asyncio.wait([opening])
        if not opening.cancelled() and opening.exception() is None:
            await opening.result().aclose()


async def _opened() -> SessionStore:
    return await SessionStore.open()
