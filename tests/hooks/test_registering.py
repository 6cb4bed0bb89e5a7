"""How plugins are found, named and refused."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from tests.hooks.observers import Leaves, Observer, opened
from tests.installed import install

from perdure import Session, SessionStore, Settings, hookimpl
from perdure.backends import MemoryBackend
from perdure.errors import PluginError


class Misspelt:
    @hookimpl
    def sesion_created(self, session: Session) -> None:
        """There is no such hook."""


class WrongArguments:
    @hookimpl
    def session_created(self, sesion: Session) -> None:
        """There is no such argument."""


@pytest.mark.parametrize(
    ("plugin", "message"), [(Misspelt(), "sesion_created"), (WrongArguments(), "sesion")], ids=["name", "argument"]
)
def test_a_misspelt_hook_is_an_error_before_anything_is_opened(plugin: object, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        _ = opened(plugin)


def test_a_plugin_cannot_be_given_twice() -> None:
    plugin = Leaves()

    with pytest.raises(PluginError):
        _ = opened(plugin, plugin)


async def test_each_store_has_plugins_of_its_own(observer: Observer) -> None:
    async with opened(observer), opened() as other:
        await other.create_session(["A"], "equity")

    assert observer.seen == []


async def test_a_plugin_may_bring_a_backend() -> None:
    urls = []

    class Brings:
        @hookimpl
        def register_backends(self, backends: dict[str, Any]) -> None:
            def factory(url: str) -> MemoryBackend:
                urls.append(url)
                return MemoryBackend()

            backends["mine"] = factory

    async with SessionStore.open("mine://somewhere/x?y=1", plugins=[Brings()]) as store:
        session = await store.create_session(["A"], "equity")
        assert await store.get_session(session.id) == session

    assert urls == ["mine://somewhere/x?y=1"]


def test_a_plugin_that_fails_to_bring_backends_is_named() -> None:
    class BringsNone:
        @hookimpl
        def register_backends(self) -> None:
            raise RuntimeError("no licence")

    with pytest.raises(PluginError, match="BringsNone brings no backends: no licence"):
        _ = opened(BringsNone())


async def test_an_installed_plugin_is_found_and_called_after_those_given(
    monkeypatch: pytest.MonkeyPatch, observer: Observer
) -> None:
    install(monkeypatch, group="perdure.plugins", name="extra", value=f"{__name__}:INSTALLED")
    INSTALLED.seen.clear()
    order: list[str] = []
    monkeypatch.setattr(INSTALLED, "note", lambda hook, **facts: order.append("installed"))
    monkeypatch.setattr(observer, "note", lambda hook, **facts: order.append("given"))

    async with opened(observer) as store:
        await store.create_session(["A"], "equity")

    assert order == ["given", "installed"]


@pytest.mark.parametrize("source", ["argument", "environment"])
async def test_plugins_that_the_settings_name_are_called_after_those_given_and_before_installed_ones(
    source: str, monkeypatch: pytest.MonkeyPatch, observer: Observer
) -> None:
    install(monkeypatch, group="perdure.plugins", name="extra", value=f"{__name__}:INSTALLED")
    order: list[str] = []
    monkeypatch.setattr(INSTALLED, "note", lambda hook, **facts: order.append("installed"))
    monkeypatch.setattr(NAMED, "note", lambda hook, **facts: order.append("named"))
    monkeypatch.setattr(observer, "note", lambda hook, **facts: order.append("given"))
    names = [f"{__name__}:NAMED", f"{__name__}:Leaves"]
    given: dict[str, Any] = {"plugins": names} if source == "argument" else {}
    if source == "environment":
        monkeypatch.setenv("PERDURE_PLUGINS", ", ".join(names))

    async with opened(observer, **given) as store:
        await store.create_session(["A"], "equity")

        assert [plugin.name for plugin in store.plugins][2:] == ["Leaves", "extra"]
    assert order == ["given", "named", "installed"]


async def test_a_module_can_be_named_and_a_store_on_a_backend_in_hand_calls_it(
    monkeypatch: pytest.MonkeyPatch, observer: Observer
) -> None:
    module = ModuleType("auditing")
    module.session_created = observer.session_created  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "auditing", module)

    async with SessionStore(MemoryBackend(), settings=Settings(plugins=["auditing"])) as store:
        await store.create_session(["A"], "equity")

    assert observer.names() == ["session_created"]


@pytest.mark.parametrize(
    "name",
    ["no.such.module", f"{__name__}:nothing", "no identifier", "builtins:range"],
)
def test_a_plugin_that_the_settings_name_and_that_cannot_be_had_is_named(name: str) -> None:
    with pytest.raises(PluginError, match=name):
        _ = opened(plugins=[name])


@pytest.mark.parametrize("value", ["no.such.module:plugin", f"{__name__}:nothing", f"{__name__}:MISSPELT"])
def test_an_installed_plugin_that_cannot_be_loaded_is_an_error_at_start(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, group="perdure.plugins", name="extra", value=value)

    with pytest.raises(PluginError):
        _ = opened()


INSTALLED = Observer()
NAMED = Observer()
MISSPELT = Misspelt()
