"""Whom a verified access token stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

__all__ = ["PrincipalOf", "principal_of"]

PrincipalOf: TypeAlias = Callable[[Any], str]
"""Names the user that a verified token (fastmcp's or mcp's `AccessToken`) stands for."""


def principal_of(token: Any) -> str:
    """The subject of the token; of one that speaks for no user, the client.

    A subject is unique within one issuer only: a server that takes tokens of several must name principals itself.
    """
    subject = (token.claims or {}).get("sub") or getattr(token, "subject", None)
    return str(subject or token.client_id)
