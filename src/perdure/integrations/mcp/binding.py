"""Which session a call belongs to: the one it names, else that of the host's conversation, else none.

Binding by conversation is attribution, never authorisation: it looks only among the sessions that the caller could
list anyway, and what it finds is a session to note the call in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, TypeAlias
from uuid import UUID

from perdure import SessionFilter, SessionStore
from perdure.errors import ConfigurationError, InvalidIdError
from perdure.store import UserSessions

__all__ = ["CONVERSATION_KEYS", "Bind", "Binder", "Bound", "BoundBy", "checked_text", "is_label", "own_tags"]

CONVERSATION_KEYS = ("vscode.conversationId", "openai/session", "sessionID", "threadId")
"""Where hosts put the id of a conversation in a call's `_meta`: VS Code, ChatGPT, OpenCode, Codex."""

Bind: TypeAlias = Literal["meta", "argument"]

_LABEL = ".mcp-conversation:"  # a tag that statistics leave out
_PAGE = 20


class BoundBy(StrEnum):
    """How a call came to its session."""

    ARGUMENT = "argument"
    CONVERSATION = "conversation"


@dataclass(frozen=True, slots=True)
class Bound:
    """The session of a call, and the verbs as its caller may use them."""

    sessions: UserSessions
    session_id: UUID
    by: BoundBy


class Binder:
    """Finds the session of a call in one store."""

    def __init__(self, store: SessionStore, *, bind: Bind, keys: Iterable[str], clock: Callable[[], datetime]) -> None:
        if bind not in ("meta", "argument"):
            raise ConfigurationError(f"bind must be 'meta' or 'argument', not {bind!r}")
        if isinstance(keys, str):
            raise ConfigurationError(f"conversation_keys must be several, for instance [{keys!r}], not {keys!r}")
        self._store = store
        self._keys = tuple(keys) if bind == "meta" else ()
        self._clock = clock

    def sessions_of(self, principal: str | None) -> UserSessions:
        """The verbs, seeing only what is the principal's; all of it where nobody is authenticated."""
        return self._store if principal is None else self._store.for_user(principal)

    def label(self, principal: str | None, meta: Mapping[str, Any]) -> str | None:
        """The tag that stands for the conversation of a call; None where the call carries no id of one.

        It tells nothing of the id, and differs from that of another principal in the same conversation.
        """
        for key in self._keys:
            conversation = meta.get(key)
            if isinstance(conversation, str) and conversation.strip():
                known = json.dumps([principal, key, conversation]).encode()
                return _LABEL + hashlib.sha256(known).hexdigest()[:32]
        return None

    def is_reference(self, text: str) -> bool:
        """Whether a text may be what `label` gave; never where only the argument binds."""
        return bool(self._keys) and is_label(text)

    async def named(self, given: str, principal: str | None) -> Bound:
        """The session that the call names, ready to take a query.

        Raises:
            InvalidIdError, SessionNotFoundError: there is none; another principal's is as if it did not exist.
            SessionExpiredError, SessionArchivedError, QueryLimitExceededError: it takes none.
        """
        sessions = self.sessions_of(principal)
        await sessions.ensure_active(given)
        return Bound(sessions, UUID(given), BoundBy.ARGUMENT)

    async def of_conversation(self, label: str, principal: str | None) -> Bound | None:
        """The newest active session that was created in the conversation; None where there is none."""
        sessions = self.sessions_of(principal)
        wanted, cursor = SessionFilter(tags=(label,), archived=False), None
        while True:
            page = await sessions.list_sessions(wanted, limit=_PAGE, cursor=cursor)
            now = self._clock()
            for summary in page:
                if not summary.is_expired(now):
                    return Bound(sessions, summary.id, BoundBy.CONVERSATION)
            if page.next_cursor is None:
                return None
            cursor = page.next_cursor


def is_label(text: str) -> bool:
    """Whether a text is the tag of a conversation."""
    return text.startswith(_LABEL)


def own_tags(tags: Iterable[str]) -> list[str]:
    """The tags that people gave: without those that stand for conversations."""
    return [tag for tag in tags if not is_label(tag)]


def checked_text(given: Any) -> str:
    """A session id as the call gave it; empty where it gave none.

    Raises:
        InvalidIdError: something that is no text.
    """
    if given is None:
        return ""
    if not isinstance(given, str):
        raise InvalidIdError(given)
    return given.strip()
