"""The argument that session-aware tools have more than others."""

from __future__ import annotations

from typing import Any

__all__ = ["SESSION_ARGUMENT", "SESSION_DESCRIPTION", "has_session_argument", "with_session_argument"]

SESSION_ARGUMENT = "session_id"

SESSION_DESCRIPTION = "The analysis session in which to record this call. Optional: leave it out if there is none."

# A plain string: `anyOf` with null is beyond some hosts, and beyond some models.
_SCHEMA = {"type": "string", "title": "Session Id", "description": SESSION_DESCRIPTION}


def has_session_argument(parameters: dict[str, Any]) -> bool:
    """Whether a tool takes such an argument by itself."""
    return SESSION_ARGUMENT in parameters.get("properties", ())


def with_session_argument(parameters: dict[str, Any]) -> dict[str, Any]:
    """A tool's JSON schema with the optional argument in it; the one given is left as it is."""
    properties = {**parameters.get("properties", {}), SESSION_ARGUMENT: dict(_SCHEMA)}
    return {"type": "object", **parameters, "properties": properties}
