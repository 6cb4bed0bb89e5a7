"""A section is a dict that knows what it looked like when it was loaded."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.strategies import few, values

from perdure import SessionState
from perdure.errors import InvalidInputError, InvalidValueError, ValueTooLargeError
from perdure.models import Section
from perdure.values import decode, encode, encode_default


def loaded(**content: Any) -> Section:
    return Section(stored=texts_of(content))


def texts_of(content: dict[str, Any]) -> dict[str, str]:
    return {key: encode(value, name=key, encoder=encode_default) for key, value in content.items()}


def difference(section: Section, limit: int = 10_000) -> tuple[dict[str, Any], tuple[str, ...]]:
    changed, removed = section.difference(name="context", encoder=encode_default, limit=limit)
    return {key: decode(text) for key, text in changed.items()}, removed


keys = st.sampled_from(["a", "b", "c", "d"])
steps = st.one_of(
    st.tuples(st.just("set"), keys, values),
    st.tuples(st.just("delete"), keys, st.none()),
    st.tuples(st.just("deepen"), keys, values),
    st.tuples(st.just("look"), keys, st.none()),
    st.tuples(st.just("pop"), keys, st.none()),
    st.tuples(st.just("setdefault"), keys, values),
    st.tuples(st.just("clear"), keys, st.none()),
    st.tuples(st.just("replace"), keys, values),
    st.tuples(st.just("save"), keys, st.none()),
)


def take(step: str, key: str, value: Any, content: Any) -> Any:
    """One step on a dict or a section; what it gives, or raises."""
    try:
        match step:
            case "set":
                content[key] = value
            case "delete":
                del content[key]
            case "deepen":
                content[key] = {"deep": [0]}
                content[key]["deep"].append(value)
            case "look":
                return content[key], content.get("missing", 1), key in content, list(content.items())[:0]
            case "pop":
                return content.pop(key)
            case "setdefault":
                return content.setdefault(key, value)
            case "clear":
                content.clear()
            case "replace" if isinstance(content, Section):
                content.replace({key: value})
            case "replace":
                content.clear()
                content[key] = value
    except KeyError as error:
        return repr(error)
    return None


@settings(few, max_examples=150)
@given(st.dictionaries(keys, values), st.lists(steps, max_size=12))
def test_a_section_behaves_as_a_dict_and_its_difference_makes_what_is_stored_the_same_dict(
    start: dict[str, Any], history: list[tuple[str, str, Any]]
) -> None:
    stored = texts_of(start)
    section, model = Section(stored=stored), copy.deepcopy(start)
    for step, key, value in history:
        if step == "save":
            changed, removed = section.difference(name="context", encoder=encode_default, limit=10**6)
            section.settle(changed, removed)
            stored = {key: text for key, text in {**stored, **changed}.items() if key not in removed}
            continue
        mine, its = take(step, key, copy.deepcopy(value), section), take(step, key, copy.deepcopy(value), model)
        assert mine == its
        assert section == model
        assert len(section) == len(model)
        assert sorted(section) == sorted(model)

    changed, removed = section.difference(name="context", encoder=encode_default, limit=10**6)
    assert {**{key: text for key, text in stored.items() if key not in removed}, **changed} == texts_of(model)
    assert not changed.keys() & set(removed)
    assert set(removed) <= stored.keys()


def test_what_was_only_looked_at_has_not_changed() -> None:
    section = loaded(a={"deep": [1]}, b=2)

    assert section["a"] == {"deep": [1]}
    assert difference(section) == ({}, ())


def test_a_change_deep_inside_a_value_is_found() -> None:
    section = loaded(a={"deep": [1, {"deeper": 2}]}, b=2)

    section["a"]["deep"][1]["deeper"] = 3

    assert difference(section) == ({"a": {"deep": [1, {"deeper": 3}]}}, ())


def test_a_value_set_to_what_it_was_has_not_changed() -> None:
    section = loaded(a=1)

    section["a"] = 2
    section["a"] = 1

    assert difference(section) == ({}, ())


def test_a_key_removed_and_set_again_is_not_removed() -> None:
    section = loaded(a=1)

    del section["a"]
    assert difference(section) == ({}, ("a",))
    section["a"] = 1

    assert difference(section) == ({}, ())


def test_a_key_that_never_was_stored_needs_no_removing() -> None:
    section = loaded()

    section["a"] = 1
    del section["a"]

    assert difference(section) == ({}, ())
    with pytest.raises(KeyError):
        del section["a"]


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False])
def test_an_empty_value_is_a_value(value: Any) -> None:
    section = loaded(a=1)

    section["a"] = value

    assert "a" in section
    assert section.get("a", "absent") == value
    assert difference(section) == ({"a": value}, ())


def test_only_values_that_are_looked_at_are_decoded() -> None:
    section = Section(stored={"good": "1", "bad": "{"})

    assert section["good"] == 1
    assert len(section) == 2
    assert "bad" in section
    with pytest.raises(InvalidValueError, match=r"\['bad'\]: what is stored under this key cannot be read"):
        section["bad"]


def test_an_unreadable_value_can_be_replaced_or_removed() -> None:
    section = Section(stored={"one": "{", "two": "{"})

    section["one"] = 1
    del section["two"]

    assert difference(section) == ({"one": 1}, ("two",))


def test_a_key_that_is_no_text_is_refused_and_named() -> None:
    section = loaded()

    with pytest.raises(InvalidValueError, match=r"\[1\]: keys must be text, not int"):
        section[1] = "one"  # type: ignore[index]
    assert len(section) == 0


def test_a_value_that_cannot_be_kept_is_named_with_section_and_key() -> None:
    section = loaded()
    section["k"] = {"deep": b""}

    with pytest.raises(InvalidValueError, match=r"context\['k'\]\['deep'\]: bytes"):
        difference(section)


def test_a_value_over_the_bound_is_named() -> None:
    section = loaded()
    section["k"] = "x" * 20

    assert difference(section, limit=22)[0]
    with pytest.raises(ValueTooLargeError, match=r"context\['k'\] has 22 bytes; at most 21"):
        difference(section, limit=21)


def test_what_was_changed_while_its_difference_was_saved_is_the_next_difference() -> None:
    section = loaded(kept=1, gone=1, back=1)
    section["new"], section["deep"] = 1, [1]
    del section["gone"], section["back"]
    changed, removed = section.difference(name="context", encoder=encode_default, limit=1_000)

    del section["new"]
    section["deep"].append(2)
    section["back"] = 2
    section.settle(changed, removed)

    assert section == {"kept": 1, "deep": [1, 2], "back": 2}
    assert difference(section) == ({"deep": [1, 2], "back": 2}, ("new",))


def test_rebasing_takes_what_others_wrote_and_keeps_what_is_not_saved() -> None:
    section = loaded(seen=1, unseen=1, mine=1, removed=1, theirs_gone=1, both_gone=1)
    assert (section["seen"], section["theirs_gone"]) == (1, 1)
    section["mine"], section["fresh"] = 2, 2
    del section["removed"], section["both_gone"]

    section.rebase(texts_of({"seen": 5, "unseen": 5, "mine": 5, "removed": 5, "other": 5}), encoder=encode_default)

    assert section == {"seen": 5, "unseen": 5, "mine": 2, "fresh": 2, "other": 5}
    assert difference(section) == ({"mine": 2, "fresh": 2}, ("removed",))


def test_rebasing_keeps_a_value_that_cannot_be_kept_for_the_next_save_to_name() -> None:
    section = loaded(k=1)
    section["k"] = b""

    section.rebase(texts_of({"k": 2}), encoder=encode_default)

    assert section["k"] == b""


def test_assigning_a_section_replaces_what_is_in_it() -> None:
    state = SessionState(context=loaded(a=1, b=2))
    section = state.context

    state.context = {"b": 3, "c": 4}  # type: ignore[assignment]

    assert state.context is section
    assert section == {"b": 3, "c": 4}
    assert difference(section) == ({"b": 3, "c": 4}, ("a",))
    state.context = section
    assert section == {"b": 3, "c": 4}


@pytest.mark.parametrize("bad", ["text", None, 5, [("a", 1)]])
def test_a_section_can_be_replaced_by_a_map_only(bad: Any) -> None:
    state = SessionState(context=loaded(a=1))

    with pytest.raises(InvalidInputError, match="context must be a map"):
        state.context = bad
    assert state.context == {"a": 1}


def test_a_section_is_shown_as_a_dict_and_compares_with_mappings_only() -> None:
    section = loaded(a=1)

    assert repr(section) == "{'a': 1}"
    assert section == {"a": 1}
    assert section == loaded(a=1)
    assert section != {"a": 2}
    assert section != [("a", 1)]


def test_the_words_of_the_state_reach_the_sections() -> None:
    state = SessionState()

    state.update_context("focus", "margins")
    state.store_intermediate_result("sum", [1, 2])

    assert state.context == {"focus": "margins"}
    assert state.intermediate_results == {"sum": [1, 2]}
    assert state.get_context("focus") == "margins"
    assert state.get_context("missing") is None
    assert state.get_context("missing", 0) == 0
    assert state.get_intermediate_result("sum") == [1, 2]
    assert state.get_intermediate_result("missing", "none") == "none"
