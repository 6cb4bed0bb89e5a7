"""Keeping what users name from becoming a new time series each."""

from __future__ import annotations

__all__ = ["FewNames"]


class FewNames:
    """The first `most` names as they are, every further one as `other`."""

    def __init__(self, most: int = 100) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        """The name, or `other`."""
        if name not in self._known:
            if len(self._known) >= self._most:
                return "other"
            self._known.add(name)
        return name
