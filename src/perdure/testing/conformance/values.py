"""Texts that must come back character by character."""

# ruff: noqa: D102 (the names of tests are sentences)

from __future__ import annotations

from uuid import uuid4

import pytest

from perdure.backends import SessionBackend
from perdure.changes import entry_bytes
from perdure.models import SECTIONS, SessionFilter, StoredQuery
from perdure.testing.builders import START, ChangeMaker, stored_query, stored_session
from perdure.testing.conformance.steps import created, whole

__all__ = ["ValuePromises"]

TEXTS = {
    "empty text": '""',
    "null": "null",
    "false": "false",
    "empty map": "{}",
    "a float that looks whole": "1.0",
    "a float of many zeros": "1e16",
    "trailing zeros": "1.500",
    "negative zero": "-0.0",
    "a large integer": str(2**70),
    "a long float": "0.30000000000000004",
    "a small float": "5e-324",
    "a number as text": '"007"',
    "keys out of order": '{"b":1,"a":{"d":[],"c":null},"B":2}',
    "a key twice": '{"a":1,"a":2}',
    "deeply nested": "[" * 90 + "]" * 90,
    "spaces": ' { "a" : [ 1 ,\t2 ] }\n',
    "emoji": '"🚀👩‍👩‍👧"',
    "line separators": '"a\u2028b\u2029c\x85"',
    "escapes": '"\\u00e9\\ud83d\\ude80\\/\\n\\""',
    "composed and decomposed": '"\u00e9 e\u0301"',
    "characters beside the plane": '"\U0010ffff\ufeff\uffff"',
    "quotes and signs": '"\'; DROP TABLE sessions; -- % _ ? :a $1 {0}"',
    "200 KB": '"' + "größe " * 25_000 + '"',
}
every_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())

KEYS = ("", " ", "a", "A", "a ", "a.b", "a:b", "$", "%", "'", '"', "ü", "u\u0308", "🚀", "\u2028", "\n", "0", "x" * 256)


class ValuePromises:
    """What was stored comes back equal."""

    @every_text
    async def test_a_value_comes_back_exactly(self, backend: SessionBackend, text: str) -> None:
        session = await created(backend)
        await backend.apply(session.id, ChangeMaker().change(set_entries={"context": {"key": text}}))
        after = await whole(backend, session.id)
        assert after.sections["context"] == {"key": text}
        assert after.state_bytes == entry_bytes("key", text)

    @every_text
    async def test_a_session_is_carried_elsewhere_exactly(self, backend: SessionBackend, text: str) -> None:
        query = stored_query()
        session = stored_session(queries=(query,))
        session.sections["metadata"]["key"] = text
        session.queries = [text]
        session.history_bytes = len(text.encode())
        await backend.create(session)
        carried = await whole(backend, session.id)
        await backend.evict(session.id, version=carried.version, head=carried.head)
        await backend.absorb([carried])
        assert await whole(backend, session.id) == session

    @every_text
    async def test_a_query_comes_back_exactly(self, backend: SessionBackend, text: str) -> None:
        session = await created(backend)
        body = stored_query().body[:-1] + f',"metadata":{{"key":{text}}}}}'
        query = StoredQuery(uuid4(), START, False, body)
        await backend.apply(session.id, ChangeMaker().change(queries=(query,)))
        after = await whole(backend, session.id)
        page = await backend.queries(session.id, limit=1)
        assert page is not None
        assert after.queries == page.bodies == [body]
        assert after.history_bytes == len(body.encode())

    async def test_keys_are_told_apart_exactly(self, backend: SessionBackend) -> None:
        session = await created(backend)
        entries = {key: str(number) for number, key in enumerate(KEYS)}
        await backend.apply(session.id, ChangeMaker().change(set_entries=dict.fromkeys(SECTIONS, entries)))
        assert (await whole(backend, session.id)).sections == dict.fromkeys(SECTIONS, entries)
        await backend.apply(session.id, ChangeMaker().change(unset_entries={"context": KEYS[2:]}))
        assert (await whole(backend, session.id)).sections["context"] == {"": "0", " ": "1"}

    @pytest.mark.parametrize("name", ["a:b", "'", '"', "\\", "ü", "u\u0308", "🚀", "a,b", "[x]", "%", " a"])
    async def test_names_come_back_exactly(self, backend: SessionBackend, name: str) -> None:
        session = await created(backend, user_id=name, assets=(name, f"{name}2"), tags=(name,))
        assert await whole(backend, session.id) == session
        await backend.apply(session.id, ChangeMaker().change(add_tags=(f"{name}3",), owner=name))
        assert (await whole(backend, session.id)).tags == (name, f"{name}3")
        (summary,) = await backend.find(SessionFilter(tags=(name,)), limit=1)
        assert (summary.id, summary.user_id, summary.assets) == (session.id, name, (name, f"{name}2"))

    async def test_a_large_session_comes_back_exactly(self, backend: SessionBackend) -> None:
        queries = tuple(stored_query(f"query-{number}", result_summary="x" * 400) for number in range(1_000))
        sections = {name: {f"key-{number}": "v" * 200 for number in range(100)} for name in SECTIONS}
        session = stored_session(queries=queries, sections=sections)
        await backend.create(session)
        assert await whole(backend, session.id) == session
