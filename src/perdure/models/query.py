"""One query of an analysis, and the text in which it is stored."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema, to_json
from uuid_utils.compat import uuid7

from perdure.errors import ValueTooLargeError
from perdure.models.names import checked_name
from perdure.models.times import EPOCH, Instant, utc_now
from perdure.values import ValueEncoder, plain

__all__ = ["QueryRecord", "StoredQuery", "read_query", "store_query"]

UNREADABLE = "unreadable"
"""The `query_type` of a record whose stored text cannot be read."""


class _Name:
    """A name, checked where people give it; JSON text is taken as it says, for the reason that `Instant` has."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(min_length=1)
        checked = core_schema.no_info_plain_validator_function(lambda given: checked_name(given, what="query_type"))
        return core_schema.json_or_python_schema(text, checked, serialization=core_schema.to_string_ser_schema())


class QueryRecord(BaseModel):
    """One query: what was asked, what came of it, how long it took. Frozen.

    `position` is the query's place in its session, from 1 and without gaps; None until it is stored.
    `parameters` and `metadata` take what `perdure.values` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: UUID = Field(default_factory=uuid7)
    position: Annotated[int, Field(ge=1)] | None = None
    timestamp: Instant = Field(default_factory=utc_now)
    query_type: Annotated[str, _Name]
    parameters: dict[str, Any] = Field(default_factory=dict)
    result_summary: str | None = None
    execution_time_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    cache_hit: bool = False
    error: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    def placed(self, position: int) -> QueryRecord:
        """The same query with its place in the session."""
        return self.model_copy(update={"position": position})


@dataclass(frozen=True, slots=True)
class StoredQuery:
    """A query as backends keep it: its text, and the three facts that counters and merges ask for.

    `body` is JSON with every field but the position, which is the place where it is kept; defaults are left out.
    """

    id: UUID
    timestamp: dt.datetime
    cache_hit: bool
    body: str

    @property
    def size_bytes(self) -> int:
        """Bytes of the body in UTF-8."""
        return len(self.body) if self.body.isascii() else len(self.body.encode())


def store_query(record: QueryRecord, *, encoder: ValueEncoder, limit: int | None = None) -> StoredQuery:
    """The query as it is stored; `limit` bounds its text, in bytes.

    Raises:
        InvalidValueError: something in it cannot be kept; the message names the key.
        ValueTooLargeError: the text has more than `limit` bytes.
    """
    fields: dict[str, Any] = {
        "id": str(record.id),
        "timestamp": record.timestamp.isoformat(),
        "query_type": record.query_type,
    }
    if record.parameters:
        fields["parameters"] = record.parameters
    if record.result_summary is not None:
        fields["result_summary"] = record.result_summary
    if record.execution_time_ms is not None:
        fields["execution_time_ms"] = record.execution_time_ms
    if record.cache_hit:
        fields["cache_hit"] = True
    if record.error is not None:
        fields["error"] = record.error
    if record.metadata:
        fields["metadata"] = record.metadata
    body = to_json(plain(fields, name="query", encoder=encoder))
    if limit is not None and len(body) > limit:
        raise ValueTooLargeError(f"query of type {record.query_type!r}", size=len(body), limit=limit)
    return StoredQuery(record.id, record.timestamp, record.cache_hit, body.decode())


def read_query(body: str, position: int) -> QueryRecord:
    """The query that `store_query` made `body` of.

    A text that cannot be read does not hide its neighbours: it comes back as a record of type "unreadable", with the
    true position and an `error` that says so.
    """
    try:
        record: QueryRecord = QueryRecord.__pydantic_validator__.validate_json(f'{{"position":{position},{body[1:]}')
        return record
    except ValidationError:
        return QueryRecord(
            id=UUID(int=0),
            position=position,
            timestamp=EPOCH,
            query_type=UNREADABLE,
            error=f"what is stored at position {position} cannot be read ({len(body)} characters)",
        )
