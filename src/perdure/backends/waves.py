"""Sessions that come several times in one call: each is dealt with after the one before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from uuid import UUID

from perdure.models import StoredSession

__all__ = ["waves"]


def waves(sessions: Sequence[StoredSession]) -> Iterable[list[int]]:
    """Places in the order given, such that no id is twice in one wave."""
    seen: Counter[UUID] = Counter()
    found: dict[int, list[int]] = {}
    for place, session in enumerate(sessions):
        found.setdefault(seen[session.id], []).append(place)
        seen[session.id] += 1
    return found.values()
