"""What the statistics are, each defined once: from sums of counts to the numbers that people read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Self

from pydantic import BaseModel, ConfigDict

from perdure.analytics.percentiles import percentile
from perdure.models import Measures, SessionSummary, StatsFilter
from perdure.models.names import is_hidden
from perdure.models.times import Instant

__all__ = ["Durations", "SessionStats", "UserSessionSummary"]

DAYS_SHOWN = 3_700
"""Longest period of which days without sessions are named as well."""


class Durations(BaseModel):
    """How long something took; percentiles are None where nothing is known of it."""

    model_config = ConfigDict(frozen=True)

    count: int = 0
    """How many values there are."""
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None

    @classmethod
    def of(cls, buckets: Mapping[int, int], *, unit: int) -> Self:
        """Of values counted by bucket, `unit` of which are one of what is told."""

        def told(percent: int) -> float | None:
            found = percentile(buckets, percent)
            return None if found is None else found / unit

        return cls(count=sum(buckets.values()), p50=told(50), p95=told(95), p99=told(99))


class SessionStats(BaseModel):
    """Statistics of the sessions that were created within a period, active and archived ones, each exactly once.

    A rate of nothing and an average of nothing are 0, a percentile of nothing is None. Days and hours are in UTC.
    """

    model_config = ConfigDict(frozen=True)

    user_id: str | None = None
    """Only this user's, where it is given."""
    session_type: str | None = None
    """Only those of this type, where it is given."""
    since: Instant | None = None
    """Created then or later."""
    until: Instant
    """Created before then."""
    period_days: int | None = None
    """Days from `since` to `until`, begun ones counted; None where there is no `since`."""

    total_sessions: int = 0
    active_sessions: int = 0
    archived_sessions: int = 0
    """Those whose content retention has removed are among them."""
    expired_sessions: int = 0
    """Their time ran out, in contrast to those that were archived before."""
    abandoned_sessions: int = 0
    """They expired with fewer than two queries."""
    abandonment_rate: float = 0.0
    """Abandoned sessions by all."""

    total_queries: int = 0
    avg_queries_per_session: float = 0.0
    longest_session: int = 0
    """Queries in the session that has the most."""
    cache_hit_rate: float = 0.0
    """Queries answered by a cache, by all queries."""
    error_rate: float = 0.0
    """Queries with an error, by all queries."""

    avg_duration_seconds: float = 0.0
    """From a session's creation to the last write, or touch."""
    duration_seconds: Durations = Durations()
    avg_execution_time_ms: float = 0.0
    """Over the queries that say how long they took."""
    execution_time_ms: Durations = Durations()
    execution_time_ms_by_query_type: dict[str, Durations] = {}

    users: int = 0
    """Different users; sessions without one do not count."""
    returning_users: int = 0
    """Users of more than one session."""

    top_assets: dict[str, int] = {}
    """Sessions by asset, most first, then by name."""
    popular_tags: dict[str, int] = {}
    session_type_breakdown: dict[str, int] = {}
    query_type_distribution: dict[str, int] = {}
    """Queries by type, most first, then by name."""

    sessions_by_day: dict[date, int] = {}
    """By the day on which they were created; each day of the period."""
    queries_by_day: dict[date, int] = {}
    """By the day on which they were asked, which may be after `until`."""
    sessions_by_hour: list[int] = [0] * 24
    """By the hour of the day."""
    queries_by_hour: list[int] = [0] * 24
    queries_by_weekday_and_hour: list[list[int]] = [[0] * 24 for _ in range(7)]
    """Monday first."""

    @classmethod
    def of(cls, measures: Measures, wanted: StatsFilter, *, until: datetime, top: int = 10) -> Self:
        """The statistics that such sums make; `top` is how many entries rankings of assets and tags have."""
        sessions, queries = measures["sessions"], measures["queries"]
        took = _took(measures)
        users = measures.named("user")
        began, asked = _hours(measures, "began"), _hours(measures, "asked")
        days = _days_of(wanted.since, until, began)
        return cls(
            user_id=wanted.user_id,
            session_type=wanted.session_type,
            since=wanted.since,
            until=until,
            period_days=None if wanted.since is None else max(0, -((wanted.since - until) // timedelta(days=1))),
            total_sessions=sessions,
            active_sessions=sessions - measures["archived"],
            archived_sessions=measures["archived"],
            expired_sessions=measures["expired"],
            abandoned_sessions=measures["abandoned"],
            abandonment_rate=_ratio(measures["abandoned"], sessions),
            total_queries=queries,
            avg_queries_per_session=_ratio(queries, sessions),
            longest_session=max(map(int, measures.named("length")), default=0),
            cache_hit_rate=_ratio(measures["cache_hits"], queries),
            error_rate=_ratio(measures["errors"], queries),
            avg_duration_seconds=_ratio(measures["lasted_ms"], sessions * 1_000),
            duration_seconds=Durations.of(_buckets(measures.named("lasted")), unit=1_000),
            avg_execution_time_ms=_ratio(measures["took_us"], measures["timed"] * 1_000),
            execution_time_ms=Durations.of(_merged(took), unit=1_000),
            execution_time_ms_by_query_type={
                name: Durations.of(took[name], unit=1_000) for name in _ranked(measures.named("query")) if name in took
            },
            users=len(users),
            returning_users=sum(count > 1 for count in users.values()),
            top_assets=_ranked(measures.named("asset"), most=top),
            popular_tags=_ranked(
                {tag: count for tag, count in measures.named("tag").items() if not is_hidden(tag)}, most=top
            ),
            session_type_breakdown=_ranked(measures.named("type")),
            query_type_distribution=_ranked(measures.named("query")),
            sessions_by_day=_by_day(began, days),
            queries_by_day=_by_day(asked, days),
            sessions_by_hour=_by_hour(began),
            queries_by_hour=_by_hour(asked),
            queries_by_weekday_and_hour=_by_weekday_and_hour(asked),
        )


class UserSessionSummary(BaseModel):
    """One user's statistics, and what that user did last."""

    model_config = ConfigDict(frozen=True)

    user_id: str
    stats: SessionStats
    last_session_at: Instant | None = None
    """When the newest session of the period was created."""
    busiest_hour: int | None = None
    """The hour of the day, in UTC, in which most queries were asked."""
    is_returning: bool = False
    """Whether there is more than one session in the period."""
    recent_sessions: list[SessionSummary] = []
    """The newest sessions of the period that are still kept, newest first."""


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _ranked(counts: Mapping[str, int], *, most: int | None = None) -> dict[str, int]:
    """The counts, most first, then by name."""
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most])


def _buckets(counts: Mapping[str, int]) -> dict[int, int]:
    return {int(bucket): count for bucket, count in counts.items()}


def _took(measures: Measures) -> dict[str, dict[int, int]]:
    """Buckets of execution times by query type."""
    found: dict[str, dict[int, int]] = {}
    for key, count in measures.named("took").items():
        bucket, _, query_type = key.partition(":")
        found.setdefault(query_type, {})[int(bucket)] = count
    return found


def _merged(histograms: Mapping[str, Mapping[int, int]]) -> dict[int, int]:
    total: dict[int, int] = {}
    for buckets in histograms.values():
        for bucket, count in buckets.items():
            total[bucket] = total.get(bucket, 0) + count
    return total


def _hours(measures: Measures, kind: str) -> dict[datetime, int]:
    """Counts by the hour; what is no hour that there is, is left out."""
    found: dict[datetime, int] = {}
    for text, count in measures.named(kind).items():
        try:
            found[datetime.fromisoformat(f"{text}:00").replace(tzinfo=UTC)] = count
        except ValueError:
            continue  # a 31st of February that somebody wrote
    return found


def _days_of(since: datetime | None, until: datetime, began: Mapping[datetime, int]) -> list[date]:
    """Every day of the period; of one without a beginning, or a very long one, from the first with a session on."""
    end = until - timedelta(microseconds=1)
    last = (end if since is None else max(since, end)).date()
    first = min((hour.date() for hour in began), default=last)
    if since is not None and (last - since.date()).days < DAYS_SHOWN:
        first = since.date()
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _by_day(hours: Mapping[datetime, int], days: list[date]) -> dict[date, int]:
    counts = dict.fromkeys(days, 0)
    for hour, count in hours.items():
        counts[hour.date()] = counts.get(hour.date(), 0) + count
    return dict(sorted(counts.items()))


def _by_hour(hours: Mapping[datetime, int]) -> list[int]:
    counts = [0] * 24
    for hour, count in hours.items():
        counts[hour.hour] += count
    return counts


def _by_weekday_and_hour(hours: Mapping[datetime, int]) -> list[list[int]]:
    counts = [[0] * 24 for _ in range(7)]
    for hour, count in hours.items():
        counts[hour.weekday()][hour.hour] += count
    return counts
