"""The functions that Postgres runs, one file each, under the revision that made them so."""

from __future__ import annotations

from importlib import resources

__all__ = ["CURRENT", "functions_of"]

CURRENT = "0002"
"""The revision whose functions are those of this perdure. One that changes some of them brings all, under its name."""


def functions_of(revision: str, *, schema: str, schema_text: str) -> dict[str, str]:
    """The statements that make the functions of a revision, by name.

    `schema` and `schema_text` are the name of the schema as the server quotes it: as an identifier, and as text.
    """
    folder = resources.files(__name__) / revision
    texts = {file.name.removesuffix(".sql"): file.read_text(encoding="utf-8") for file in folder.iterdir()}
    return {
        name: text.replace("{schema}", schema).replace("{schema_text}", schema_text)
        for name, text in sorted(texts.items())
    }
