"""Tables and pages that claim to name everything do."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import PROJECT, run_page, table_rows

from perdure import Settings, errors, hookspecs
from perdure.settings import PREFIX
from perdure.store.hooks import HookRelay


def code(cell: str) -> str:
    return cell.strip("`")


def written(value: Any) -> str:
    """A default as the table writes it."""
    match value:
        case None | ():
            return "–"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value:.12g}"
        case str():
            return value
    return str(value.__name__)


def settings_table() -> dict[str, tuple[str, str]]:
    """Variable and default of each setting, as the table writes them."""
    table = {}
    for setting, default, _ in table_rows("settings.md", heading="## Every setting"):
        name, _, variable = setting.partition("<br>")
        table[code(name)] = code(variable), code(default.split(" ")[0])
    return table


def test_the_table_of_settings_names_each_with_its_variable() -> None:
    variables = {name: variable for name, (variable, _) in settings_table().items()}

    expected = {name: PREFIX + name.upper() for name in Settings.model_fields}
    assert variables == expected | {"value_encoder": ""}  # a function is not to be had from the environment


def test_the_table_of_settings_gives_the_true_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)

    defaults = {name: default for name, (_, default) in settings_table().items()}

    settings = Settings()
    assert defaults == {name: written(getattr(settings, name)) for name in Settings.model_fields}


def test_every_error_has_its_line() -> None:
    documented = [code(row[0]) for row in table_rows("errors.md", heading="## What to do about each")]

    assert sorted(documented) == sorted(errors.__all__)


def test_the_tree_of_errors_is_the_one_in_the_code() -> None:
    page = (PROJECT / "docs" / "errors.md").read_text(encoding="utf-8")
    tree = (inspect.getdoc(errors) or "").partition("\n\n")[2]

    assert tree.startswith("PerdureError\n")
    assert tree in page


def test_every_hook_has_its_line() -> None:
    table = {code(row[0]): row[1] for row in table_rows("plugins.md", heading="## Every hook")}
    hooks = {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, "perdure_spec")}

    assert table.keys() == hooks.keys()
    for name, arguments in table.items():
        named = [code(argument.split(" ")[0]) for argument in arguments.split(", ")]
        assert named == list(inspect.signature(hooks[name]).parameters)


def hook_sections() -> dict[str, str]:
    """The text below the heading of each hook."""
    page = (PROJECT / "docs" / "hooks.md").read_text(encoding="utf-8")
    parts = re.split(r"^### (.+)$", page, flags=re.MULTILINE)
    return {name: text.partition("\n## ")[0] for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_hook_has_its_section_with_its_exact_signature_and_an_example() -> None:
    hooks = {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, "perdure_spec")}
    sections = hook_sections()

    assert sections.keys() == hooks.keys()
    for name, section in sections.items():
        signature, sentence = section.strip().split("\n\n")[0:2]
        assert code(signature.strip()) == name + str(inspect.signature(hooks[name])).replace("'", "")
        assert sentence.strip()
        assert "```python" in section


def test_every_hook_is_called_by_its_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = set[str]()
    implementations = HookRelay._implementations

    def noted(relay: HookRelay, hook: str) -> Any:
        found = implementations(relay, hook)
        called.update([hook] if found else [])
        return found

    monkeypatch.setattr(HookRelay, "_implementations", noted)

    run_page(PROJECT / "docs" / "hooks.md", folder=tmp_path)

    assert called == hook_sections().keys()


def logged_events() -> dict[str, tuple[str, set[str]]]:
    """Level and fields of every event that some module logs."""
    found: dict[str, tuple[str, set[str]]] = {}
    for module in (PROJECT / "src" / "perdure").rglob("*.py"):
        for call in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            match call:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log"), attr="info" | "warning" | "error" as level),
                    args=[ast.Constant(value=str(event))],
                    keywords=fields,
                ):
                    found[event] = level, found.get(event, ("", set()))[1] | {str(field.arg) for field in fields}
    return found


def test_every_event_that_is_logged_is_documented_with_its_level_and_fields() -> None:
    rows = table_rows("embedded.md", heading="## What it logs")
    documented = {
        code(event): (level, {code(field) for field in fields.split(", ")} - {"–"}) for event, level, fields, _ in rows
    }

    assert documented == logged_events()
    assert documented
