"""What sessions are found by: one label for each thing that a filter can ask for."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.models import SessionFilter

__all__ = ["ALL", "labels_of", "wanted_labels"]

ALL = "all"
"""The label that every session has."""


def labels_of(user_id: str | None, session_type: str, assets: Iterable[str], tags: Iterable[str]) -> list[str]:
    """Every label of a session with these facts."""
    user = [] if user_id is None else [f"user:{user_id}"]
    return [ALL, *user, f"type:{session_type}", *(f"asset:{a}" for a in assets), *(f"tag:{t}" for t in tags)]


def wanted_labels(wanted: SessionFilter) -> list[str]:
    """The labels that a session must have to match; `ALL` alone where the filter names none."""
    named = [f"type:{wanted.session_type}"] if wanted.session_type is not None else []
    if wanted.user_id is not None:
        named.append(f"user:{wanted.user_id}")
    named += [f"asset:{asset}" for asset in wanted.assets] + [f"tag:{tag}" for tag in wanted.tags]
    return named or [ALL]
