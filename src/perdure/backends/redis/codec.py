"""Between `StoredSession` and what a hash and a list in Redis hold.

A hash has the field `F` (facts that every change touches, one line), `L` (what the session is found by, each part
ended by NUL), `W` (the writers remembered beside the last one), and an entry for each key of the state: one letter for
the section, then the key. The scripts read and write the same; see `scripts/part_facts.lua` and `part_labels.lua`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from perdure.models import SECTIONS, SectionName, StoredSession
from perdure.models.names import checked_type
from perdure.models.times import to_micros

__all__ = [
    "Stored",
    "encoded",
    "field_of",
    "instant_of",
    "names_text",
    "pairs_of",
    "read_head",
    "read_session",
    "read_summary",
    "score_of",
    "stored_form",
    "text_of",
    "texts_of",
    "written",
]

_YEAR_ONE = datetime(1, 1, 1, tzinfo=UTC)
"""From where instants count: each is a number of 18 digits then, and text that sorts as time."""

_MICROSECOND = timedelta(microseconds=1)
_NONE = b"-" * 18
"""What stands in the place of an instant that is none."""

_EXACT = 2**53
"""Numbers that Lua counts with are exact below this."""

_REMEMBERED = struct.Struct(">16sQQQ")
_LETTERS: dict[SectionName, bytes] = dict(zip(SECTIONS, (b"c", b"p", b"i", b"m"), strict=True))
_SECTIONS = {letter[0]: name for name, letter in _LETTERS.items()}
_FACTS, _LABELS, _WRITERS = b"F", b"L", b"W"


# Small things ---------------------------------------------------------------------------------------


def written(instant: datetime) -> str:
    """An instant as 18 digits."""
    return f"{(instant - _YEAR_ONE) // _MICROSECOND:018d}"


def score_of(instant: datetime) -> int:
    """An instant as the score of a sorted set: microseconds since 1970, exact until the year 2255."""
    return to_micros(instant)


def instant_of(digits: bytes) -> datetime:
    """The inverse of `written`."""
    return _YEAR_ONE + timedelta(microseconds=int(digits))


def _instant_or_none(digits: bytes) -> datetime | None:
    return None if digits == _NONE else _YEAR_ONE + timedelta(microseconds=int(digits))


def _written_or_none(instant: datetime | None) -> str:
    return _NONE.decode() if instant is None else written(instant)


def field_of(section: SectionName, key: str) -> bytes:
    """The field of an entry."""
    return _LETTERS[section] + key.encode()


def text_of(raw: bytes) -> str:
    r"""Stored text. Damaged text that is no UTF-8 has `\x…` for its bad bytes, which no reader takes for JSON."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "backslashreplace")


def texts_of(raws: Sequence[bytes]) -> list[str]:
    """Stored texts, each as `text_of` gives it."""
    try:
        return [raw.decode() for raw in raws]
    except UnicodeDecodeError:
        return [text_of(raw) for raw in raws]


def names_text(names: Sequence[str]) -> str:
    """Names, each ended by NUL.

    Raises:
        ValueError, TypeError: one is no text, or has NUL in it.
    """
    if not names:
        return ""
    text = "\0".join(names) + "\0"
    if text.count("\0") != len(names):
        raise ValueError("a name with NUL in it")
    return text


# Writing --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stored:
    """A whole session as the script `store` takes it."""

    version: int
    head: str
    is_archived: bool
    facts: bytes
    labels: bytes
    writers: bytes
    entries: list[bytes]
    bodies: list[bytes]

    @property
    def size_bytes(self) -> int:
        """Roughly what it weighs on the way."""
        return sum(map(len, self.entries)) + sum(map(len, self.bodies)) + 500


def stored_form(session: StoredSession) -> Stored:
    """What is kept of a session.

    Raises:
        ValueError, TypeError, AttributeError, OverflowError: something in it is not of its type, or out of bounds.
    """
    if session.first_position != 1 or session.total_queries != len(session.queries):
        raise ValueError(f"a part of a session: {len(session.queries)} of {session.total_queries} queries")
    return encoded(session)


def encoded(session: StoredSession) -> Stored:
    """The same for a session that may have the newest part of its history only."""
    front, others = _remembered_text(session.writers)
    head = str.encode(session.head).decode()
    counters = (session.version, session.total_queries, session.cache_hits, session.history_bytes, session.state_bytes)
    for number in counters:
        if not 0 <= number < _EXACT:
            raise OverflowError(f"a number out of bounds: {number}")
    facts = " ".join(
        [
            *[f"{number:016d}" for number in counters],
            written(session.last_accessed_at),
            written(session.expires_at),
            _written_or_none(session.archived_at),
            _written_or_none(session.first_query_at),
            _written_or_none(session.last_query_at),
            front,
            f"~{head}",
        ]
    )
    user = "" if session.user_id is None else "=" + session.user_id
    labels = names_text(
        (written(session.created_at), str(len(session.assets)), session.type, user, *session.assets, *session.tags)
    )
    entries = [
        part
        for name, texts in session.sections.items()
        for key, text in texts.items()
        for part in (field_of(name, key), str.encode(text))
    ]
    bodies = [str.encode(body) for body in session.queries]
    is_archived = session.archived_at is not None
    return Stored(session.version, head, is_archived, facts.encode(), labels.encode(), others.encode(), entries, bodies)


def _remembered_text(memory: bytes) -> tuple[str, str]:
    """The writer that wrote last, and the others, each ended by a semicolon."""
    entries = [
        f"{writer.hex()}:{change}:{version}:{total}"
        for writer, change, version, total in _REMEMBERED.iter_unpack(memory)
    ]
    return (entries[0] if entries else "-"), "".join([f"{entry};" for entry in entries[1:]])


# Reading --------------------------------------------------------------------------------------------


def read_summary(session_id: UUID, facts: bytes | None, labels: bytes | None) -> StoredSession:
    """The facts of a session, without sections and queries.

    Raises:
        ValueError, OverflowError: they are not what this module can have written.
    """
    if facts is None or labels is None:
        raise ValueError("it has no facts" if facts is None else "it has no labels")
    row = facts.split(b" ", 11)
    about = labels.decode().split("\0")
    if len(row) != 12 or len(about) < 5 or len(about) <= (names := 4 + int(about[1])) or about[-1]:
        raise ValueError("its facts or labels cannot be read")
    user, front = about[3], row[10]
    return StoredSession(
        session_id,
        user[1:] if user else None,
        str(checked_type(about[2])),
        tuple(about[4:names]),
        tuple(about[names:-1]),
        _YEAR_ONE + timedelta(microseconds=int(about[0])),
        instant_of(row[6]),
        instant_of(row[5]),
        _instant_or_none(row[7]),
        int(row[0]),
        read_head(row[11], front),
        int(row[1]),
        int(row[2]),
        _instant_or_none(row[8]),
        _instant_or_none(row[9]),
        int(row[4]),
        int(row[3]),
        b"" if front == b"-" else _remembered(front),
    )


def read_head(head: bytes, front: bytes) -> str:
    """The head: as it is written, or made of the writer that wrote last."""
    if head[:1] == b"=":
        writer, change, _, _ = front.split(b":")
        return (writer + b"." + change + head[1:]).decode()
    if head[:1] != b"~":
        raise ValueError("its head cannot be read")
    return head[1:].decode()


def pairs_of(reply: Sequence[bytes] | Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """What a hash holds, however the protocol puts it."""
    if isinstance(reply, Mapping):
        return dict(reply)
    return dict(zip(reply[::2], reply[1::2], strict=True))


def read_session(
    session_id: UUID, fields: dict[bytes, bytes], bodies: Sequence[bytes], *, history: int | None = None
) -> StoredSession:
    """The session in what a hash holds, which is used up, and the newest `history` of its queries (None: all).

    Raises:
        ValueError, OverflowError: its facts cannot be read, there is an entry in a section that does not exist, or a
            part of the history is missing.
    """
    session = read_summary(session_id, fields.pop(_FACTS, None), fields.pop(_LABELS, None))
    if others := fields.pop(_WRITERS, None):
        session.writers += b"".join([_remembered(entry) for entry in others[:-1].split(b";")])
    sections = session.sections
    for name, raw in fields.items():
        section = _SECTIONS.get(name[0]) if name else None
        if section is None:
            raise ValueError(f"it has an entry in no section: {name[:40]!r}")
        sections[section][text_of(name[1:])] = text_of(raw)
    expected = session.total_queries if history is None else min(history, session.total_queries)
    if len(bodies) != expected:
        raise ValueError(f"{len(bodies)} of {expected} queries are there")
    session.queries = texts_of(bodies)
    session.first_position = session.total_queries - len(session.queries) + 1
    return session


def _remembered(entry: bytes) -> bytes:
    writer, change, version, total = entry.split(b":")
    return _REMEMBERED.pack(bytes.fromhex(writer.decode()), int(change), int(version), int(total))
