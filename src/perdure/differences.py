"""Between a session in a caller's hands and what is stored of it: the difference, and bringing it up to date."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from perdure.changes import Applied, Draft, SessionChange, count_queries, entry_bytes, relabelled
from perdure.errors import InvalidInputError, InvalidTTLError, ValueTooLargeError
from perdure.models import SECTIONS, QueryLog, SectionName, Session, StoredQuery, StoredSession, store_query
from perdure.models.names import checked_key, checked_names
from perdure.models.times import to_utc
from perdure.settings import Settings
from perdure.values import encode

__all__ = ["difference", "encode_entries", "refresh", "settle", "settle_seen", "stored_form"]


def encode_entries(section: SectionName, values: Mapping[str, Any], settings: Settings) -> dict[str, str]:
    """The texts of some entries of a section.

    Raises:
        InvalidInputError: a key or value that cannot be kept, or is too large; names the key.
    """
    return {
        checked_key(key, section=section, limit=settings.max_key_length): encode(
            value, name=f"{section}[{key!r}]", encoder=settings.value_encoder, limit=settings.max_value_bytes
        )
        for key, value in values.items()
    }


def stored_form(session: Session, settings: Settings) -> StoredSession:
    """The whole session as a backend keeps it; every query has its place.

    Raises:
        InvalidInputError: something in it cannot be kept, or is too large; or a part of its history is not loaded.
    """
    history = session.state.history
    if len(history.queries) != history.total_queries:
        raise InvalidInputError(f"{len(history.queries)} of {history.total_queries} queries are loaded; load them all")
    sections = {name: encode_entries(name, session.state.section(name), settings) for name in SECTIONS}
    state_bytes = sum(entry_bytes(key, text) for entries in sections.values() for key, text in entries.items())
    if state_bytes > settings.max_state_bytes:
        raise ValueTooLargeError("the state of the session", size=state_bytes, limit=settings.max_state_bytes)
    stored = StoredSession(
        id=session.id,
        user_id=session.user_id,
        type=str(session.type),
        assets=tuple(checked_names(session.assets, what="assets")),
        tags=tuple(checked_names(session.tags, what="tags")),
        created_at=session.created_at,
        expires_at=to_utc(session.expires_at, name="expires_at"),
        last_accessed_at=to_utc(session.last_accessed_at, name="last_accessed_at"),
        archived_at=session.archived_at,
        version=max(session.version, 1),
        head=session.head,
        state_bytes=state_bytes,
        sections=sections,
    )
    queries = store_queries(history.queries, settings)
    count_queries(stored, queries)
    stored.queries = [query.body for query in queries]
    return stored


def store_queries(records: Iterable[Any], settings: Settings) -> tuple[StoredQuery, ...]:
    """The queries as they are stored."""
    return tuple(
        store_query(record, encoder=settings.value_encoder, limit=settings.max_value_bytes) for record in records
    )


def difference(session: Session, settings: Settings, *, now: datetime) -> Draft | None:
    """What the caller made of the session since it was loaded; None if nothing.

    Raises:
        InvalidInputError: the session was made into something that cannot be kept.
    """
    loaded = session._loaded
    assets, tags = checked_names(session.assets, what="assets"), checked_names(session.tags, what="tags")
    if not assets:
        raise InvalidInputError("assets must not be empty")
    draft = Draft(
        at=now,
        queries=store_queries(session.state.history.queries.new, settings),
        set_entries={},
        unset_entries={},
        add_assets=tuple(asset for asset in assets if asset not in loaded.assets),
        remove_assets=tuple(asset for asset in loaded.assets if asset not in assets),
        add_tags=tuple(tag for tag in tags if tag not in loaded.tags),
        remove_tags=tuple(tag for tag in loaded.tags if tag not in tags),
        expires_at=_later_expiry(session, settings, now),
    )
    sets: dict[SectionName, Mapping[str, str]] = {}
    unsets: dict[SectionName, tuple[str, ...]] = {}
    for name in SECTIONS:
        changed, removed = session.state.section(name).difference(
            name=name, encoder=settings.value_encoder, limit=settings.max_value_bytes
        )
        for key in changed:
            checked_key(key, section=name, limit=settings.max_key_length)
        if changed:
            sets[name] = changed
        if removed:
            unsets[name] = removed
    draft["set_entries"], draft["unset_entries"] = sets, unsets
    anything = any(value for key, value in draft.items() if key != "at")
    touched = loaded.last_accessed_at is None or session.last_accessed_at > loaded.last_accessed_at
    return draft if anything or touched else None


def _later_expiry(session: Session, settings: Settings, now: datetime) -> datetime | None:
    """The expiry to be written, or None where it was not moved."""
    present, before = to_utc(session.expires_at, name="expires_at"), session._loaded.expires_at
    if before is None or present == before:
        return None
    if present < before:
        raise InvalidInputError(
            f"an expiry can only be moved later: it is {before.isoformat()}, not {present.isoformat()}"
        )
    if present > now + settings.max_ttl:
        raise InvalidTTLError(present - now, maximum=settings.max_ttl)
    return present


def settle(session: Session, change: SessionChange, applied: Applied) -> bool:
    """Note in the session that `change`, its difference, was applied. False if others wrote too: then it is to be read.

    What the caller did to the session since the difference was taken stays unsaved, and is not lost.
    """
    loaded = session._loaded
    # Of a repeat nobody knows which attempt it was that was applied, and so not what the session is called.
    loaded.outdated = loaded.outdated or applied.version != session.version + 1 or change.attempt > 1
    _take_as_stored(session, change)
    session.state.history.queries.settle(change.queries, first=applied.total_queries - len(change.queries) + 1)
    if loaded.outdated:
        return False  # its version stays that of what it shows, until the rest has been read
    session.last_accessed_at = loaded.last_accessed_at = max(session.last_accessed_at, change.at)
    session.__dict__.update(
        assets=_rebased(session.assets, loaded.assets, loaded.assets),
        tags=_rebased(session.tags, loaded.tags, loaded.tags),
        archived_at=session.archived_at if change.expires_at is None else None,
        version=applied.version,
        head=change.head,
    )
    return True


def settle_seen(session: Session, change: SessionChange, stored: StoredSession) -> None:
    """Note what `stored`, the whole session, shows of a change of which nobody remembers whether it was applied.

    Its queries are there if and only if it was. Without any, what is stored as the change would have it counts as done.
    """
    queries = session.state.history.queries
    there = {query.id for query in QueryLog(stored.queries)}
    applied = any(query.id in there for query in change.queries)
    _take_as_stored(session, change if applied else _shown(change, stored))
    queries.forget(query.id for query in change.queries if query.id in there)


def _shown(change: SessionChange, stored: StoredSession) -> SessionChange:
    """The part of the change that could have been applied, by what is stored."""
    return replace(
        change,
        set_entries={
            name: {key: text for key, text in entries.items() if stored.sections[name].get(key) == text}
            for name, entries in change.set_entries.items()
        },
        unset_entries={
            name: [key for key in keys if key not in stored.sections[name]]
            for name, keys in change.unset_entries.items()
        },
        add_assets=tuple(asset for asset in change.add_assets if asset in stored.assets),
        remove_assets=tuple(asset for asset in change.remove_assets if asset not in stored.assets),
        add_tags=tuple(tag for tag in change.add_tags if tag in stored.tags),
        remove_tags=tuple(tag for tag in change.remove_tags if tag not in stored.tags),
        expires_at=change.expires_at if change.expires_at == stored.expires_at else None,
    )


def _take_as_stored(session: Session, change: SessionChange) -> None:
    """From now on the next difference is taken from what the change made, except for its queries."""
    loaded = session._loaded
    for name in SECTIONS:
        session.state.section(name).settle(change.set_entries.get(name, {}), tuple(change.unset_entries.get(name, ())))
    loaded.assets = relabelled(loaded.assets, change.add_assets, change.remove_assets)
    loaded.tags = relabelled(loaded.tags, change.add_tags, change.remove_tags)
    if change.expires_at is not None:
        loaded.expires_at = change.expires_at


def refresh(session: Session, stored: StoredSession, settings: Settings) -> None:
    """Bring the session up to date with what is stored, and keep on top of it what the caller has not saved yet."""
    loaded, history = session._loaded, session.state.history
    for name in SECTIONS:
        session.state.section(name).rebase(stored.sections[name], encoder=settings.value_encoder)
    unsaved = history.queries.new
    history.queries = QueryLog(stored.queries, first=stored.first_position, new=unsaved)
    history.total_queries, history.cache_hits = stored.total_queries, stored.cache_hits
    history.first_query_at, history.last_query_at = stored.first_query_at, stored.last_query_at
    for query in unsaved:
        history.count(query.timestamp, cache_hit=query.cache_hit)
    if session.expires_at == loaded.expires_at or session.expires_at < stored.expires_at:
        session.expires_at = stored.expires_at
    session.last_accessed_at = max(session.last_accessed_at, stored.last_accessed_at)
    session.__dict__.update(
        assets=_rebased(session.assets, loaded.assets, stored.assets),
        tags=_rebased(session.tags, loaded.tags, stored.tags),
        archived_at=stored.archived_at,
        version=stored.version,
        head=stored.head,
    )
    loaded.assets, loaded.tags, loaded.expires_at = stored.assets, stored.tags, stored.expires_at
    loaded.last_accessed_at = session.last_accessed_at
    loaded.outdated, loaded.stale = False, stored.stale


def _rebased(present: list[str], before: tuple[str, ...], stored: tuple[str, ...]) -> list[str]:
    added = tuple(label for label in present if label not in before)
    removed = tuple(label for label in before if label not in present)
    return list(relabelled(stored, added, removed))
