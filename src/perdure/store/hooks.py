"""Calling plugins: one by one, each on its own, so that none can disturb another or the caller."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pkgutil import resolve_name
from types import TracebackType
from typing import Any
from uuid import UUID

import pluggy

from perdure import hookspecs
from perdure.backends import BackendFactory
from perdure.errors import PluginError, QueryVetoedError
from perdure.logs import EventLog
from perdure.models import QueryRecord
from perdure.store.reports import ActivePlugin

__all__ = ["Around", "HookRelay", "imported"]

log = EventLog("perdure.hooks")

ENTRY_POINTS = "perdure.plugins"


def imported(names: Iterable[str]) -> list[object]:
    """The plugins of these names: a module, or `module:name` in it; of a class, an object made without arguments.

    Raises:
        PluginError: one that cannot be imported or made; it is named.
    """
    plugins = []
    for name in names:
        try:
            found = resolve_name(name)
            plugins.append(found() if inspect.isclass(found) else found)
        except Exception as error:
            raise PluginError(f"plugin {name} of the settings: {_name(error)}: {error}") from error
    return plugins


class HookRelay:
    """The plugins of one store. The first that is given is called first; installed ones come after those given.

    Raises:
        PluginError: a hook that does not exist, or with arguments that it does not have.
    """

    def __init__(self, plugins: Iterable[object] = (), *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._manager = pluggy.PluginManager(hookspecs.NAMESPACE)
        self._manager.add_hookspecs(hookspecs)
        try:
            self._manager.load_setuptools_entrypoints(ENTRY_POINTS)
            for plugin in reversed(list(plugins)):
                self._manager.register(plugin, name=self._free_name(plugin))
            self._manager.check_pending()
        except Exception as error:
            raise PluginError(str(error)) from error

    def active(self) -> list[ActivePlugin]:
        """Every plugin, the first to be called first."""
        installed = {id(plugin): package.metadata for plugin, package in self._manager.list_plugin_distinfo()}
        found = []
        for name, plugin in reversed(self._manager.list_name_plugin()):
            package = installed.get(id(plugin))
            hooks = sorted(caller.name for caller in self._manager.get_hookcallers(plugin) or ())
            found.append(
                ActivePlugin(
                    name,
                    tuple(hooks),
                    package=None if package is None else package["Name"],
                    version=None if package is None else package["Version"],
                )
            )
        return found

    def register_backends(self) -> dict[str, BackendFactory]:
        """The URL schemes that plugins bring.

        Raises:
            PluginError: a plugin that fails to say.
        """
        backends: dict[str, BackendFactory] = {}
        for implementation in self._implementations("register_backends"):
            try:
                implementation.function(*(backends for _ in implementation.argnames))
            except Exception as error:
                raise PluginError(f"{implementation.plugin_name} brings no backends: {error}") from error
        return backends

    def listens(self, hook: str) -> bool:
        """Whether anybody implements the hook; a tenth of a microsecond where nobody does."""
        return bool(getattr(self._manager.hook, hook).get_hookimpls())

    async def notify(self, hook: str, **facts: Any) -> None:
        """Tell every observer; never raises."""
        for implementation in self._implementations(hook):
            try:
                await self._call(implementation, facts)
            except Exception as error:  # noqa: BLE001 (an observer must not break what it observes)
                self.failed(hook, implementation, error)

    def around(self, hook: str, **facts: Any) -> Around:
        """What every implementation of an `around_…` hook wants entered around a call, as one."""
        return Around(self, hook, self._implementations(hook), facts)

    def failed(self, hook: str, implementation: pluggy.HookImpl, error: Exception) -> None:
        """Say that a hook failed: in the log, and to whoever counts that."""
        plugin = str(implementation.plugin_name)
        log.error("hook.failed", hook=hook, plugin=plugin, error=_name(error))
        for listener in self._implementations("hook_failed"):
            facts = {"hook": hook, "plugin": plugin, "error": _name(error)}
            try:
                listener.function(*(facts[name] for name in listener.argnames))
            except Exception as failure:  # noqa: BLE001 (nor must whoever counts the failures)
                log.error("hook.failed", hook="hook_failed", plugin=listener.plugin_name, error=_name(failure))

    async def prepare(self, session_id: UUID, query: QueryRecord) -> QueryRecord:
        """The query as it is to be stored, after every `prepare_query`.

        Raises:
            QueryVetoedError: one of them raised, timed out, or gave back something that is no query.
        """
        for implementation in self._implementations("prepare_query"):
            name = str(implementation.plugin_name)
            try:
                prepared = await self._call(implementation, {"session_id": session_id, "query": query})
            except Exception as error:
                raise QueryVetoedError(name, f"{_name(error)}: {error}") from error
            if prepared is None:
                continue
            if not isinstance(prepared, QueryRecord):
                raise QueryVetoedError(name, f"it gave back a {type(prepared).__name__}")
            query = prepared.model_copy(update={"id": query.id})  # by which a repeat is known
        return query

    def _free_name(self, plugin: object) -> str:
        """What the plugin is called in logs: its own name, or that of its class, with a number from the second on."""
        name = str(getattr(plugin, "__name__", type(plugin).__qualname__))
        return name if not self._manager.has_plugin(name) else f"{name}-{len(self._manager.get_plugins()) + 1}"

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        found: list[pluggy.HookImpl] = getattr(self._manager.hook, hook).get_hookimpls()
        return found[::-1]

    async def _call(self, implementation: pluggy.HookImpl, facts: dict[str, Any]) -> Any:
        function: Callable[..., Any] = implementation.function
        answer = function(*(facts[name] for name in implementation.argnames))
        if not inspect.isawaitable(answer):
            return answer
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await answer
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled the caller: what the plugin waited for was cancelled, and that is the plugin's failure.
            raise PluginError("what it waited for was cancelled") from cancelled


class Around:
    """What plugins want entered around one call, entered one by one, the first given outermost.

    They watch: one that fails is left out and said by name, and none can hold back an exception.
    """

    __slots__ = ("_entered", "_facts", "_hook", "_implementations", "_relay")

    def __init__(
        self, relay: HookRelay, hook: str, implementations: list[pluggy.HookImpl], facts: dict[str, Any]
    ) -> None:
        self._relay = relay
        self._hook = hook
        self._implementations = implementations
        self._facts = facts
        self._entered: list[tuple[pluggy.HookImpl, AbstractContextManager[object]]] = []

    def __enter__(self) -> None:
        for implementation in self._implementations:
            try:
                function: Callable[..., Any] = implementation.function
                wanted: AbstractContextManager[object] | None = function(
                    *(self._facts[name] for name in implementation.argnames)
                )
                if wanted is not None:
                    wanted.__enter__()
                    self._entered.append((implementation, wanted))
            except Exception as error:  # noqa: BLE001 (who watches must not break what is watched)
                self._relay.failed(self._hook, implementation, error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._entered:
            implementation, wanted = self._entered.pop()
            try:
                wanted.__exit__(kind, error, trace)
            except Exception as failure:  # noqa: BLE001 (as above)
                if failure is not error:
                    self._relay.failed(self._hook, implementation, failure)


def _name(error: Exception) -> str:
    """What an error is called in logs: values of state or parameters, which its message may hold, do not go there."""
    return type(error).__name__
