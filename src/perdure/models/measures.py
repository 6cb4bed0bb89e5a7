"""What sessions amount to, as whole numbers that add up key by key, so that a database can sum them too.

| key | counts | key | counts |
| --- | --- | --- | --- |
| `sessions` | 1 for each | `type:T` | 1 in sessions of type T |
| `archived` | 1 in an archived one | `asset:A`, `tag:G` | 1 in sessions that have it |
| `expired` | 1 where its time ran out | `user:U` | 1 in sessions of user U |
| `abandoned` | 1 where it did so before a second query | `began:H` | 1 in sessions that were created in that hour |
| `queries` | its queries | `length:N` | 1 in sessions of N queries |
| `cache_hits` | those answered by a cache | `lasted:B` | 1 in sessions that lasted as many ms (`bucket_of`) |
| `errors` | those with an error | `query:Q` | its queries of type Q |
| `timed` | those that say how long they took | `took:B:Q` | those that took as many µs (`bucket_of`) |
| `took_us`, `lasted_ms` | how long they took, it lasted | `asked:H` | those that were asked in that hour |

An hour is the first 13 characters of an instant, `2026-01-31T09`, in UTC. A key that would count 0 is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import SchemaValidator, core_schema

from perdure.models.filter import StatsFilter
from perdure.models.query import UNREADABLE
from perdure.models.stored import StoredSession

__all__ = [
    "ABANDONED_BELOW",
    "MEASURED_MOST",
    "Measured",
    "Measures",
    "SessionFacts",
    "bucket_of",
    "counts_of",
    "micros_of",
    "middle_of",
]

LEADING_BITS = 5

ABANDONED_BELOW = 2
"""A session that expires with fewer queries than this was abandoned."""

MEASURED_MOST = 2**43
"""The most that one duration counts: 279 years in ms, 101 days in µs. A million of them fit a database's integer."""

_HOUR = re.compile(r"\d{4}-\d\d-\d\dT\d\d", re.ASCII)
_MILLISECOND = timedelta(milliseconds=1)


def bucket_of(value: int) -> int:
    """The least number with the same five leading binary digits: 16 buckets between a power of two and the next.

    Numbers below 32 are buckets of their own.
    """
    cut = value.bit_length() - LEADING_BITS
    return value if cut <= 0 else value >> cut << cut


def middle_of(bucket: int) -> float:
    """What a value in that bucket is taken for: off by 1/32 of the value at most."""
    width = 1 << max(0, bucket.bit_length() - LEADING_BITS)
    return bucket + (width - 1) / 2


def micros_of(milliseconds: float) -> int:
    """Whole microseconds, at most `MEASURED_MOST`."""
    return min(int(min(milliseconds, MEASURED_MOST) * 1000 + 0.5), MEASURED_MOST)


@dataclass(frozen=True, slots=True)
class Measures:
    """The sums of some sessions, by the keys that this module lists.

    `ids` may name those of them that are kept, for whoever adds what is kept elsewhere.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    ids: frozenset[UUID] = frozenset()

    def __getitem__(self, key: str) -> int:
        return self.counts.get(key, 0)

    def __add__(self, other: Measures) -> Measures:
        return Measures(added(self.counts, other.counts), self.ids | other.ids)

    def named(self, kind: str) -> dict[str, int]:
        """What the keys `kind:…` count, by what comes after the colon."""
        start = f"{kind}:"
        return {key[len(start) :]: count for key, count in self.counts.items() if key.startswith(start)}


def added(*parts: Mapping[str, int]) -> dict[str, int]:
    """The sums, key by key."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return {key: count for key, count in total.items() if count}


class SessionFacts(Protocol):
    """What is to be known of a session to measure it, besides its queries."""

    @property
    def id(self) -> UUID: ...  # noqa: D102
    @property
    def user_id(self) -> str | None: ...  # noqa: D102
    @property
    def type(self) -> str: ...  # noqa: D102
    @property
    def assets(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def tags(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def created_at(self) -> datetime: ...  # noqa: D102
    @property
    def expires_at(self) -> datetime: ...  # noqa: D102
    @property
    def last_accessed_at(self) -> datetime: ...  # noqa: D102
    @property
    def archived_at(self) -> datetime | None: ...  # noqa: D102
    @property
    def version(self) -> int: ...  # noqa: D102
    @property
    def total_queries(self) -> int: ...  # noqa: D102
    @property
    def cache_hits(self) -> int: ...  # noqa: D102


def counts_of(session: SessionFacts, bodies: Iterable[str], *, now: datetime) -> dict[str, int]:
    """What one session counts, `user:U` left out: given whole, with the bodies of all its queries.

    One that is not archived has expired if it has at `now`.
    """
    counts = _counts_of_queries(bodies, began=_hour_of(session.created_at))
    lasted = min(max((session.last_accessed_at - session.created_at) // _MILLISECOND, 0), MEASURED_MOST)
    expired = session.expires_at <= (now if session.archived_at is None else session.archived_at)
    counts |= {
        "sessions": 1,
        "archived": session.archived_at is not None,
        "expired": expired,
        "abandoned": expired and session.total_queries < ABANDONED_BELOW,
        "queries": session.total_queries,
        "cache_hits": session.cache_hits,
        "lasted_ms": lasted,
        f"lasted:{bucket_of(lasted)}": 1,
        f"length:{session.total_queries}": 1,
        f"began:{_hour_of(session.created_at)}": 1,
        f"type:{session.type}": 1,
        **{f"asset:{asset}": 1 for asset in session.assets},
        **{f"tag:{tag}": 1 for tag in session.tags},
    }
    return {key: int(count) for key, count in counts.items() if count}


def _hour_of(at: datetime) -> str:
    return at.isoformat()[:13]


class _Asked(NamedTuple):
    query_type: str
    took_ms: float | None
    failed: bool
    hour: str


def _counts_of_queries(bodies: Iterable[str], *, began: str) -> dict[str, int]:
    keys: list[str] = []
    took_us = 0
    for body in bodies:
        query_type, took_ms, failed, hour = _asked(body, began)
        keys.append("query:" + query_type)
        keys.append("asked:" + hour)
        if failed:
            keys.append("errors")
        if took_ms is not None:
            micros = micros_of(took_ms)
            took_us += micros
            keys.append(f"took:{bucket_of(micros)}:{query_type}")
            keys.append("timed")
    counts: dict[str, int] = Counter(keys)
    counts["took_us"] = took_us
    return counts


def _anything() -> core_schema.TypedDictField:
    return core_schema.typed_dict_field(core_schema.any_schema(), required=False)


_FACTS = SchemaValidator(
    core_schema.typed_dict_schema(
        {
            "query_type": core_schema.typed_dict_field(core_schema.str_schema(strict=True, min_length=1)),
            "timestamp": _anything(),
            "execution_time_ms": _anything(),
            "error": _anything(),
        }
    )
)
"""Makes Python objects of what is looked at alone, which halves the time that measuring takes."""


def _asked(body: str, began: str) -> _Asked:
    """What is measured of a query; one that cannot be read is an error, asked when its session began."""
    try:
        facts: Any = _FACTS.validate_json(body)
    except ValidationError:
        return _Asked(UNREADABLE, None, True, began)
    query_type, took, at = facts["query_type"], facts.get("execution_time_ms"), facts.get("timestamp")
    if "\0" in query_type:
        return _Asked(UNREADABLE, None, True, began)
    timed = isinstance(took, int | float) and not isinstance(took, bool) and took >= 0
    dated = isinstance(at, str) and _HOUR.match(at) is not None
    return _Asked(query_type, took if timed else None, facts.get("error") is not None, at[:13] if dated else began)


@dataclass(frozen=True, slots=True)
class Measured:
    """The facts of one session, and what it counts."""

    facts: SessionFacts
    counts: Mapping[str, int]

    @classmethod
    def of(cls, session: StoredSession, *, now: datetime) -> Measured:
        """A whole session, measured."""
        return cls(replace(session, sections={}, queries=[], writers=b""), counts_of(session, session.queries, now=now))

    def matches(self, wanted: StatsFilter) -> bool:
        """Whether statistics are about it."""
        session = self.facts
        return (
            wanted.user_id in (None, session.user_id)
            and wanted.session_type in (None, session.type)
            and (wanted.since is None or session.created_at >= wanted.since)
            and (wanted.until is None or session.created_at < wanted.until)
        )
