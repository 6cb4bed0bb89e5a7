"""Statistics over many sessions, and their export; definitions are on the page on analytics."""

from perdure.analytics.report import html_report
from perdure.analytics.session_analytics import SessionAnalytics
from perdure.analytics.statistics import Durations, SessionStats, UserSessionSummary

__all__ = ["Durations", "SessionAnalytics", "SessionStats", "UserSessionSummary", "html_report"]
