"""Which sessions a listing is about, and one page of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from perdure.models.names import checked_name, checked_names, checked_type
from perdure.models.times import Instant

__all__ = ["Page", "SessionFilter", "StatsFilter"]

T = TypeVar("T")


_UserId = Annotated[str | None, BeforeValidator(lambda v: v if v is None else checked_name(v, what="user_id"))]
_TypeName = Annotated[str | None, BeforeValidator(lambda v: v if v is None else str(checked_type(v)))]


class SessionFilter(BaseModel):
    """Sessions of which everything given here holds; nothing given means all.

    `created_after` is included, `created_before` is not. `archived`: True only archived ones, False only the others,
    None both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: _UserId = None
    session_type: _TypeName = None
    assets: Annotated[tuple[str, ...], BeforeValidator(lambda v: tuple(checked_names(v, what="assets")))] = ()
    tags: Annotated[tuple[str, ...], BeforeValidator(lambda v: tuple(checked_names(v, what="tags")))] = ()
    created_after: Instant | None = None
    created_before: Instant | None = None
    archived: bool | None = None


class StatsFilter(BaseModel):
    """Which sessions statistics are about: a user's, of a type, created from `since` on (included) to before `until`.

    Nothing given means all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: _UserId = None
    session_type: _TypeName = None
    since: Instant | None = None
    until: Instant | None = None

    def sessions(self, *, archived: bool | None = None) -> SessionFilter:
        """The same of sessions that are kept."""
        return SessionFilter(
            user_id=self.user_id,
            session_type=self.session_type,
            created_after=self.since,
            created_before=self.until,
            archived=archived,
        )


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing. `next_cursor` is None on the last one."""

    items: list[T]
    next_cursor: str | None = None
    is_stale: bool = False
    """Whether sessions may be missing or out of date, since the tier that would know did not answer."""

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)
