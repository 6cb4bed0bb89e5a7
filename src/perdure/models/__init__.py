"""What perdure keeps, as people see it (`Session` and its parts) and as backends do (`StoredSession`)."""

from perdure.models.filter import Page, SessionFilter, StatsFilter
from perdure.models.history import AnalysisHistory, QueryLog
from perdure.models.measures import Measured, Measures
from perdure.models.names import SessionType
from perdure.models.query import QueryRecord, StoredQuery, read_query, store_query
from perdure.models.session import Session
from perdure.models.state import SECTIONS, Section, SectionName, SessionState
from perdure.models.stored import StoredSession
from perdure.models.summary import SessionMetrics, SessionSummary, SessionTotals
from perdure.models.times import Clock, utc_now

__all__ = [
    "SECTIONS",
    "AnalysisHistory",
    "Clock",
    "Measured",
    "Measures",
    "Page",
    "QueryLog",
    "QueryRecord",
    "Section",
    "SectionName",
    "Session",
    "SessionFilter",
    "SessionMetrics",
    "SessionState",
    "SessionSummary",
    "SessionTotals",
    "SessionType",
    "StatsFilter",
    "StoredQuery",
    "StoredSession",
    "read_query",
    "store_query",
    "utc_now",
]
