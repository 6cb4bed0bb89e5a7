"""Putting sessions into a fastmcp server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastmcp import FastMCP
from fastmcp.server.providers import Provider

from perdure import SessionStore
from perdure.errors import BackendClosedError
from perdure.integrations.mcp.awareness import SessionAwareness
from perdure.integrations.mcp.binding import CONVERSATION_KEYS, Bind, Binder
from perdure.integrations.mcp.hooks import McpHooks
from perdure.integrations.mcp.names import Naming, ToolNames
from perdure.integrations.mcp.principals import PrincipalOf, principal_of
from perdure.integrations.mcp.prompts import SessionPrompts
from perdure.integrations.mcp.recording import SUMMARY_LENGTH, Recorder, checked_summary_length
from perdure.integrations.mcp.resources import SessionResources
from perdure.integrations.mcp.tools import SessionTools
from perdure.integrations.mcp.tracking import SessionTracking, Track

__all__ = ["InstalledSessions", "install"]


def install(
    mcp: FastMCP,
    store: SessionStore,
    *,
    track: Track = "*",
    naming: Naming = "kebab",
    prefix: str = "",
    bind: Bind = "meta",
    conversation_keys: Iterable[str] = CONVERSATION_KEYS,
    principal_of: PrincipalOf = principal_of,
    summary_length: int = SUMMARY_LENGTH,
    plugins: Iterable[object] = (),
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> InstalledSessions:
    """Give a server the five session tools, their resources and prompt, and make its other tools session-aware.

    A store that is not open when the server starts is opened with it and closed with it; one that is open is left so.

    Args:
        mcp: the server; tools that are added to it later are session-aware too.
        store: where the sessions are.
        track: which tools get the optional `session_id`: a pattern, several, or a function of the name.
        naming: how the session tools are called: "kebab" or "snake".
        prefix: what goes before that.
        bind: "meta" notes calls without `session_id` in the session of the host's conversation; "argument" does not.
        conversation_keys: where hosts put the id of a conversation in `_meta`; the first that is there counts.
        principal_of: names the user that a verified token stands for.
        summary_length: the most characters that are kept of what a tool answered.
        plugins: implementations of `perdure.integrations.mcp.hookspecs`.
        clock: gives the present; for tests.

    Raises:
        ConfigurationError: an option that cannot be; the server is left as it was.
        PluginError: a plugin that cannot be registered.
    """
    names = ToolNames.of(naming, prefix)
    binder = Binder(store, bind=bind, keys=conversation_keys, clock=clock)
    hooks = McpHooks(plugins)
    recorder = Recorder(names, checked_summary_length(summary_length))
    awareness = SessionAwareness(binder, recorder, hooks, names, principal_of)
    tracking = SessionTracking(awareness, track=track)
    SessionTools(store, binder, names, principal_of, clock).add_to(mcp)
    SessionResources(binder, names, principal_of).add_to(mcp)
    SessionPrompts(binder, names, principal_of).add_to(mcp)
    _keep_open(mcp, store)
    mcp.add_transform(tracking)
    return InstalledSessions(store, names, awareness)


class InstalledSessions:
    """Sessions in one server, and how noting its calls has gone."""

    def __init__(self, store: SessionStore, names: ToolNames, awareness: SessionAwareness) -> None:
        self.store = store
        self.names = names
        self.hooks = awareness.hooks
        self._recorder = awareness.recorder

    @property
    def recorded(self) -> int:
        """Calls that were noted in a session since the server was made."""
        return self._recorder.recorded

    @property
    def failed(self) -> int:
        """Calls whose tool ran, and that could not be noted."""
        return self._recorder.failed


def _keep_open(mcp: FastMCP, store: SessionStore) -> None:
    """Open the store with the server if nobody has, and close it with it then."""

    @asynccontextmanager
    async def kept_open() -> AsyncIterator[None]:
        if await _is_open(store):
            yield
            return
        async with store:
            yield

    class Keeper(Provider):
        @asynccontextmanager
        async def lifespan(self) -> AsyncGenerator[None, None]:
            async with kept_open():
                yield

    own: Any = getattr(mcp, "_lifespan", None)
    if own is None:
        mcp.add_provider(Keeper())
        return

    @asynccontextmanager
    async def lifespan(server: Any) -> AsyncIterator[Any]:
        async with kept_open(), own(server) as result:
            yield result

    # A provider would do, and for nothing but this would be asked for each tool that is called: a tenth of a call.
    mcp._lifespan = lifespan


async def _is_open(store: SessionStore) -> bool:
    try:
        await store.list_sessions(limit=1)
    except BackendClosedError:
        return False
    return True
