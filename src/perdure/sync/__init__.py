"""The store without `await`, for programs of threads: `with perdure.sync.SessionStore.open() as store: …`"""

from perdure.store.tracking import Tracking
from perdure.sync.session_store import SessionStore, UserSessions

__all__ = ["SessionStore", "Tracking", "UserSessions"]
