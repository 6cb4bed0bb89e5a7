"""Calling the plugins of this integration, so that none can disturb a tool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

from perdure.errors import PluginError
from perdure.integrations.mcp import hookspecs
from perdure.logs import EventLog

if TYPE_CHECKING:
    from perdure.integrations.mcp.providers.protocol import QuoteProvider

__all__ = ["McpHooks"]

log = EventLog("perdure.mcp")

ENTRY_POINTS = "perdure.mcp"


class McpHooks:
    """The plugins of one server. The first that is given is called first; installed ones come after those given.

    Raises:
        PluginError: a hook that does not exist, or with arguments that it does not have.
    """

    def __init__(self, plugins: Iterable[object] = ()) -> None:
        self._manager = pluggy.PluginManager(hookspecs.NAMESPACE)
        self._manager.add_hookspecs(hookspecs)
        try:
            self._manager.load_setuptools_entrypoints(ENTRY_POINTS)
            for plugin in reversed(list(plugins)):
                self._manager.register(plugin)
            self._manager.check_pending()
        except Exception as error:
            raise PluginError(str(error)) from error
        self.summarizes = bool(self._manager.hook.summarize_result.get_hookimpls())

    def quote_providers(self, packaged: Iterable[QuoteProvider]) -> list[QuoteProvider]:
        """What plugins make of the providers that there are without them.

        Raises:
            PluginError: a plugin that fails to say.
        """
        providers = list(packaged)
        for implementation in self._manager.hook.register_quote_providers.get_hookimpls()[::-1]:
            try:
                implementation.function(*(providers for _ in implementation.argnames))
            except Exception as error:
                raise PluginError(f"{implementation.plugin_name} brings no quotes: {error}") from error
        return providers

    def summarize(self, tool: str, arguments: Mapping[str, Any], result: Any) -> str | None:
        """The first summary that a plugin gives; one that raises is logged by name and passed over."""
        facts = {"tool": tool, "arguments": arguments, "result": result}
        for implementation in self._manager.hook.summarize_result.get_hookimpls()[::-1]:
            try:
                summary = implementation.function(*(facts[name] for name in implementation.argnames))
            except Exception as error:  # noqa: BLE001 (describing a result must not lose it)
                log.error("mcp.summary_failed", plugin=implementation.plugin_name, error=_name(error))
                continue
            if isinstance(summary, str):
                return summary
        return None


def _name(error: Exception) -> str:
    """What an error is called in logs: values, which its message may hold, do not go there."""
    return type(error).__name__
