"""What the tools are called: in kebab case or snake case, with a prefix or without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from perdure.errors import ConfigurationError

__all__ = ["Naming", "ToolNames"]

Naming: TypeAlias = Literal["kebab", "snake"]


@dataclass(frozen=True, slots=True)
class ToolNames:
    """The names of the session tools, as messages to a model must say them."""

    create: str
    info: str
    list: str
    extend: str
    analytics: str
    by_symbol: str
    by_coin: str
    resume: str
    """The prompt."""

    @classmethod
    def of(cls, naming: Naming = "kebab", prefix: str = "") -> ToolNames:
        """The names in that style.

        Raises:
            ConfigurationError: no such style.
        """
        if naming not in ("kebab", "snake"):
            raise ConfigurationError(f"naming must be 'kebab' or 'snake', not {naming!r}")

        def name(words: str) -> str:
            return prefix + (words if naming == "kebab" else words.replace("-", "_"))

        return cls(
            create=name("create-analysis-session"),
            info=name("get-session-info"),
            list=name("list-sessions"),
            extend=name("extend-session"),
            analytics=name("get-session-analytics"),
            by_symbol=name("search-by-symbol"),
            by_coin=name("search-by-coin"),
            resume=f"{prefix}resume_analysis",
        )
