"""The queries of a session, in order, and the counters that stay true however many of them are loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Self, overload
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema

from perdure.errors import InvalidInputError
from perdure.models.query import QueryRecord, StoredQuery, read_query
from perdure.models.times import Instant

__all__ = ["AnalysisHistory", "QueryLog"]


class QueryLog(Sequence[QueryRecord]):
    """The loaded queries in order; a stored one is decoded each time it is looked at.

    Decoding late and keeping nothing is what makes reading a long history fast: a thousand records that live at once
    cost more in garbage collection than in parsing.
    """

    __slots__ = ("_bodies", "_first", "_new")

    def __init__(self, bodies: Iterable[str] = (), *, first: int = 1, new: Iterable[QueryRecord] = ()) -> None:
        self._bodies: list[str] = list(bodies)
        self._first = first
        self._new: list[QueryRecord] = list(new)

    @property
    def first_position(self) -> int:
        """The position of the first loaded query; meaningless while none is loaded."""
        return self._first

    @property
    def bodies(self) -> list[str]:
        """The stored texts, oldest first."""
        return self._bodies

    @property
    def new(self) -> list[QueryRecord]:
        """The queries that were added and are not stored yet."""
        return self._new

    def append(self, record: QueryRecord) -> None:
        """Add a query that is not stored yet."""
        self._new.append(record)

    def settle(self, stored: Sequence[StoredQuery], *, first: int) -> None:
        """The queries `stored` were stored from position `first` on: they are new no longer."""
        if not self._bodies:
            self._first = first
        self._bodies.extend(query.body for query in stored)
        self.forget(query.id for query in stored)

    def forget(self, ids: Iterable[UUID]) -> None:
        """Drop new queries that turned out to be stored already."""
        stored = set(ids)
        self._new = [record for record in self._new if record.id not in stored]

    def __len__(self) -> int:
        return len(self._bodies) + len(self._new)

    @overload
    def __getitem__(self, index: int) -> QueryRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[QueryRecord]: ...
    def __getitem__(self, index: int | slice) -> QueryRecord | list[QueryRecord]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"{len(self)} queries are loaded")
        stored = len(self._bodies)
        return read_query(self._bodies[index], self._first + index) if index < stored else self._new[index - stored]

    def __iter__(self) -> Iterator[QueryRecord]:
        for position, body in enumerate(self._bodies, self._first):
            yield read_query(body, position)
        yield from self._new

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<QueryLog of {len(self)} queries, {len(self._new)} of them new>"

    @classmethod
    def of(cls, records: Iterable[QueryRecord]) -> QueryLog:
        """A log of the given queries, all of them new."""
        return cls(new=records)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        records = handler.generate_schema(list[QueryRecord])
        return core_schema.union_schema(
            [
                core_schema.is_instance_schema(cls),
                core_schema.no_info_after_validator_function(cls.of, records),
            ],
            mode="left_to_right",
            serialization=core_schema.plain_serializer_function_ser_schema(list, return_schema=records),
        )


class AnalysisHistory(BaseModel):
    """What was asked in a session.

    `queries` may hold only the newest ones (see `SessionStore.get_session`); `total_queries`, `cache_hits`,
    `first_query_at` and `last_query_at` (the earliest and latest timestamp) always speak of the whole history.
    """

    model_config = ConfigDict(extra="forbid")

    queries: QueryLog = Field(default_factory=QueryLog)
    total_queries: int = 0
    cache_hits: int = 0
    first_query_at: Instant | None = None
    last_query_at: Instant | None = None

    @model_validator(mode="after")
    def _count_given(self) -> Self:
        if self.queries and "total_queries" not in self.model_fields_set:
            for query in self.queries:
                self.count(query.timestamp, cache_hit=query.cache_hit)
        return self

    @property
    def cache_hit_rate(self) -> float:
        """Cache hits by queries, 0 to 1; 0 where nothing was asked."""
        return self.cache_hits / self.total_queries if self.total_queries else 0.0

    def add_query(self, query: QueryRecord) -> None:
        """Append a query; its position is given when it is stored."""
        if not isinstance(query, QueryRecord):
            raise InvalidInputError(f"query must be a QueryRecord, not {type(query).__name__}")
        self.queries.append(query if query.position is None else query.model_copy(update={"position": None}))
        self.count(query.timestamp, cache_hit=query.cache_hit)

    def count(self, timestamp: datetime, *, cache_hit: bool) -> None:
        """Let the counters know of one more query."""
        self.total_queries += 1
        self.cache_hits += cache_hit
        self.first_query_at = timestamp if self.first_query_at is None else min(self.first_query_at, timestamp)
        self.last_query_at = timestamp if self.last_query_at is None else max(self.last_query_at, timestamp)

    def get_recent_queries(self, limit: int = 10) -> list[QueryRecord]:
        """The newest `limit` of the loaded queries, oldest of them first."""
        return self.queries[max(0, len(self.queries) - limit) :]

    def get_query_types_summary(self) -> dict[str, int]:
        """How many of the loaded queries are of each type, most frequent first."""
        return dict(Counter(query.query_type for query in self.queries).most_common())
