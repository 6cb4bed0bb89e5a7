"""The keyed maps of a session, and the history beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from perdure.errors import InvalidInputError, InvalidValueError
from perdure.models.history import AnalysisHistory
from perdure.values import ValueEncoder, decode, encode

__all__ = ["SECTIONS", "Section", "SectionName", "SessionState"]

SectionName: TypeAlias = Literal["context", "preferences", "intermediate_results", "metadata"]
SECTIONS: tuple[SectionName, ...] = get_args(SectionName)


class Section(MutableMapping[str, Any]):
    """One keyed map of a session's state: a dict that knows what it looked like when it was loaded.

    A stored value is decoded when its key is first looked at, and only keys that were looked at can have changed, so
    that finding the difference costs what was touched and not what is there.
    """

    __slots__ = ("_live", "_stored", "_unset")

    def __init__(self, values: Mapping[str, Any] | None = None, *, stored: Mapping[str, str] | None = None) -> None:
        self._stored: dict[str, str] = dict(stored) if stored else {}
        self._live: dict[str, Any] = dict(values) if values else {}
        self._unset: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        if key in self._live:
            return self._live[key]
        if key in self._unset or key not in self._stored:
            raise KeyError(key)
        try:
            value = decode(self._stored[key])
        except ValueError:
            raise InvalidValueError(f"[{key!r}]", "what is stored under this key cannot be read") from None
        self._live[key] = value
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise InvalidValueError(f"[{key!r}]", f"keys must be text, not {type(key).__name__}")
        self._live[key] = value
        self._unset.discard(key)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._live.pop(key, None)
        if key in self._stored:
            self._unset.add(key)

    def __contains__(self, key: object) -> bool:
        return key in self._live or (key in self._stored and key not in self._unset)

    def __iter__(self) -> Iterator[str]:
        yield from (key for key in list(self._stored) if key not in self._unset)
        yield from (key for key in list(self._live) if key not in self._stored)

    def __len__(self) -> int:
        return len(self._stored) - len(self._unset) + sum(key not in self._stored for key in self._live)

    def replace(self, values: Mapping[str, Any]) -> None:
        """Have these values and no others."""
        for key in self.keys() - values.keys():
            del self[key]
        self.update(values)

    def __eq__(self, other: object) -> bool:
        return dict(self) == dict(other) if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(dict(self))

    def difference(self, *, name: str, encoder: ValueEncoder, limit: int) -> tuple[dict[str, str], tuple[str, ...]]:
        """The texts of the keys that were set or changed since loading, and the keys that were removed.

        Raises:
            InvalidValueError, ValueTooLargeError: a value that cannot be kept; names its key.
        """
        changed: dict[str, str] = {}
        for key, value in self._live.items():
            text = encode(value, name=f"{name}[{key!r}]", encoder=encoder, limit=limit)
            if self._stored.get(key) != text:
                changed[key] = text
        return changed, tuple(key for key in self._stored if key in self._unset)

    def settle(self, changed: Mapping[str, str], removed: tuple[str, ...]) -> None:
        """The difference was stored: from now on it is what this section looked like when loaded."""
        self._stored.update(changed)
        self._unset.update(changed.keys() - self._live.keys())  # deleted while the difference was on its way
        for key in removed:
            self._stored.pop(key, None)
            self._unset.discard(key)

    def rebase(self, stored: Mapping[str, str], *, encoder: ValueEncoder) -> None:
        """Take what is stored now as the new beginning, and keep on top of it what the caller has not saved yet."""
        for key in list(self._live):
            if self._stored.get(key) != stored.get(key) and not self._is_changed(key, encoder):
                del self._live[key]
        self._stored = dict(stored)
        self._unset &= self._stored.keys()

    def _is_changed(self, key: str, encoder: ValueEncoder) -> bool:
        """Whether the caller set or changed the value; one that cannot be kept is not the one that was stored."""
        try:
            return encode(self._live[key], name=key, encoder=encoder) != self._stored.get(key)
        except InvalidValueError:
            return True

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        values = core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema())
        return core_schema.union_schema(
            [core_schema.is_instance_schema(cls), core_schema.no_info_after_validator_function(cls, values)],
            mode="left_to_right",
            serialization=core_schema.plain_serializer_function_ser_schema(dict, return_schema=values),
        )


class SessionState(BaseModel):
    """What a session has gathered: four sections, and the history of its queries.

    `state.context = {…}` replaces what is in the section.
    """

    model_config = ConfigDict(extra="forbid")

    context: Section = Field(default_factory=Section)
    preferences: Section = Field(default_factory=Section)
    intermediate_results: Section = Field(default_factory=Section)
    metadata: Section = Field(default_factory=Section)
    history: AnalysisHistory = Field(default_factory=AnalysisHistory, frozen=True)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in SECTIONS:
            super().__setattr__(name, value)
        elif isinstance(value, Mapping):
            self.section(name).replace(value)
        else:
            raise InvalidInputError(f"{name} must be a map, not {type(value).__name__}")

    def section(self, name: SectionName) -> Section:
        """The section of that name."""
        found = getattr(self, name)
        assert isinstance(found, Section)
        return found

    def update_context(self, key: str, value: Any) -> None:
        """Set one key of the context."""
        self.context[key] = value

    def get_context(self, key: str, default: Any = None) -> Any:
        """One value of the context, or `default` where the key is absent."""
        return self.context.get(key, default)

    def store_intermediate_result(self, key: str, value: Any) -> None:
        """Keep a result that later queries build on."""
        self.intermediate_results[key] = value

    def get_intermediate_result(self, key: str, default: Any = None) -> Any:
        """A result kept before, or `default` where the key is absent."""
        return self.intermediate_results.get(key, default)
