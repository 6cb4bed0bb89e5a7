"""Durable sessions of multi-query analysis: what was acknowledged is kept."""

from perdure.hookspecs import hookimpl
from perdure.models import (
    AnalysisHistory,
    Page,
    QueryRecord,
    Session,
    SessionFilter,
    SessionMetrics,
    SessionState,
    SessionSummary,
    SessionTotals,
    SessionType,
    StatsFilter,
)
from perdure.settings import Settings
from perdure.store import SessionStore, close_session_store, get_session_store

__all__ = [
    "AnalysisHistory",
    "Page",
    "QueryRecord",
    "Session",
    "SessionFilter",
    "SessionMetrics",
    "SessionState",
    "SessionStore",
    "SessionSummary",
    "SessionTotals",
    "SessionType",
    "Settings",
    "StatsFilter",
    "close_session_store",
    "get_session_store",
    "hookimpl",
]
