"""Running a tool and noting the run in its session: timed, with what was asked and what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from perdure.errors import ConfigurationError, PerdureError
from perdure.integrations.mcp.binding import Bound, BoundBy
from perdure.integrations.mcp.errors import explain
from perdure.integrations.mcp.names import ToolNames
from perdure.logs import EventLog
from perdure.store import Tracking

__all__ = [
    "SUMMARY_LENGTH",
    "Outcome",
    "Recorder",
    "TrackedCall",
    "checked_summary_length",
    "current_call",
    "cut",
    "mark_cache_hit",
]

log = EventLog("perdure.mcp")

T = TypeVar("T")

SUMMARY_LENGTH = 200
"""Characters that are kept of what a tool answered, where nobody says."""

LONGEST_SUMMARY = 10_000


@dataclass(slots=True)
class TrackedCall:
    """A call while its tool runs: the session it belongs to, and the query it will be noted as."""

    bound: Bound
    query: Tracking


@dataclass(slots=True)
class Outcome:
    """What a tool is said to have answered: a summary, or an error."""

    summary: str | None = None
    error: str | None = None


_current: ContextVar[TrackedCall | None] = ContextVar("perdure_mcp_call", default=None)


def current_call() -> TrackedCall | None:
    """The tracked call that the running tool answers; None where it is not tracked."""
    return _current.get()


def mark_cache_hit() -> bool:
    """Note that the running tool answered from a cache. False where the call is not tracked."""
    call = _current.get()
    if call is not None:
        call.query.cache_hit = True
    return call is not None


@dataclass(slots=True)
class Recorder:
    """Notes calls, and counts them. `failed`: tools that ran and gave their result, and could not be noted."""

    names: ToolNames
    summary_length: int
    recorded: int = 0
    failed: int = 0

    async def run(
        self,
        bound: Bound,
        tool: str,
        arguments: dict[str, Any],
        work: Callable[[], Awaitable[T]],
        describe: Callable[[T], Outcome],
    ) -> tuple[T, dict[str, Any]]:
        """The result of `work`, and what to tell the caller of where it was noted.

        What `work` raises goes on, noted as the error of the query. Noting that fails loses nothing of the result.
        """
        query = bound.sessions.tracking(bound.session_id, tool, arguments)
        token = _current.set(TrackedCall(bound, query))
        try:
            async with query:
                result = await work()
                outcome = _described(describe, result)
                query.error = cut(outcome.error, self.summary_length)
                # The tool may have said it better, by `current_call().query.result_summary`.
                query.result_summary = cut(query.result_summary or outcome.summary, self.summary_length)
        finally:
            _current.reset(token)
            self._count(query)
        return result, self._told(bound, query)

    def _count(self, query: Tracking) -> None:
        if query.failure is None:
            self.recorded += 1
        else:
            self.failed += 1

    def _told(self, bound: Bound, query: Tracking) -> dict[str, Any]:
        told: dict[str, Any] = {"session_id": str(bound.session_id), "bound_by": str(bound.by)}
        if query.tracked is not None:
            told["position"] = query.tracked.position
        elif query.failure is not None:
            told["warning"] = f"The call was not recorded: {_reason(query.failure, self.names)}"
        return told

    def unbound(self, tool: str, error: Exception) -> dict[str, Any]:
        """What to tell of a call whose conversation has sessions that could not be asked for; it is counted."""
        self.failed += 1
        log.warning("mcp.call_not_bound", tool=tool, error=type(error).__name__)
        reason = _reason(error, self.names)
        return {"bound_by": str(BoundBy.CONVERSATION), "warning": f"The call was not recorded: {reason}"}


def _described(describe: Callable[[T], Outcome], result: T) -> Outcome:
    try:
        return describe(result)
    except Exception as error:  # noqa: BLE001 (describing a result must not lose it)
        log.error("mcp.result_not_described", error=type(error).__name__)
        return Outcome()


def _reason(error: Exception, names: ToolNames) -> str:
    return explain(error, names) if isinstance(error, PerdureError) else f"unexpected {type(error).__name__}"


def checked_summary_length(given: int) -> int:
    """The most characters to keep of what a tool answered.

    Raises:
        ConfigurationError: not a whole number within bounds.
    """
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= LONGEST_SUMMARY:
        raise ConfigurationError(f"summary_length must be from 1 to {LONGEST_SUMMARY:,}, not {given!r}")
    return given


def cut(text: str | None, length: int) -> str | None:
    """The text, or its beginning and an ellipsis: at most `length` characters."""
    return text if text is None or len(text) <= length else text[: length - 1] + "…"
