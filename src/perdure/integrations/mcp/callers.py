"""Who makes a call, and what the call says beside its arguments: read from fastmcp's context, 3.x and 4.x alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastmcp.exceptions import ToolError
from fastmcp.server.dependencies import get_access_token, get_context, get_http_request

from perdure.integrations.mcp.principals import PrincipalOf, principal_of

__all__ = ["Caller", "current_caller"]

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal, where the server authenticates; and the `_meta` of the request."""

    principal: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


def current_caller(principal_of: PrincipalOf = principal_of) -> Caller:
    """Who is calling at present, within a request or a background task.

    Raises:
        ToolError: the server authenticates, and this call over HTTP carries no verified token.
    """
    token = get_access_token()
    if token is not None:
        return Caller(principal_of(token), _meta())
    if _must_authenticate():
        raise ToolError("This server keeps sessions for authenticated users only; the call carries no valid token.")
    return Caller(None, _meta())


def _must_authenticate() -> bool:
    """Whether a call without token came over HTTP to a server that has an authentication provider.

    Its middleware turns such calls away; should an application serve it without, nobody may become everybody.
    """
    try:
        if get_context().fastmcp.auth is None:
            return False
        get_http_request()
    except RuntimeError:  # no context, or another transport
        return False
    return True


def _meta() -> Mapping[str, Any]:
    """`_meta` of the request; empty outside of one. A mapping in fastmcp 4, a model with extra fields in 3."""
    try:
        request = get_context().request_context
    except RuntimeError:
        return _NOTHING
    given: Any = None if request is None else request.meta
    if given is None or isinstance(given, Mapping):
        return given or _NOTHING
    dumped: dict[str, Any] = given.model_dump(by_alias=True)
    return dumped
