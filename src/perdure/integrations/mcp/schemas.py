"""JSON schemas: of the argument that session-aware tools have more than others, and of what our own tools answer."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

__all__ = ["SESSION_ARGUMENT", "SESSION_DESCRIPTION", "answer_schema", "has_session_argument", "with_session_argument"]

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


def answer_schema(answer: type[BaseModel]) -> dict[str, Any]:
    """The schema of an answer, with what it refers to in place: not every host follows references, and fastmcp's
    way of doing it costs more than the whole listing.
    """
    schema = answer.model_json_schema(mode="serialization")
    flat: dict[str, Any] = _inlined(schema, schema.pop("$defs", {}))
    return flat


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inlined(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inlined(definitions[part["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in part.items()}
