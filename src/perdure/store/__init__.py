"""The store and what its verbs answer."""

from perdure.backends import DUE_COUNTED, BackendHealth, SchemaAdmin, default_path
from perdure.store.backing import schema_of, schemas_of
from perdure.store.maintenance import Progress
from perdure.store.reports import ActivePlugin, CleanupReport, ImportReport, RetentionReport, StoreHealth, TrackedQuery
from perdure.store.scoped import UserSessions
from perdure.store.session_store import SessionStore
from perdure.store.shared import close_session_store, get_session_store
from perdure.store.tracking import Tracking

__all__ = [
    "DUE_COUNTED",
    "ActivePlugin",
    "BackendHealth",
    "CleanupReport",
    "ImportReport",
    "Progress",
    "RetentionReport",
    "SchemaAdmin",
    "SessionStore",
    "StoreHealth",
    "TrackedQuery",
    "Tracking",
    "UserSessions",
    "close_session_store",
    "default_path",
    "get_session_store",
    "schema_of",
    "schemas_of",
]
