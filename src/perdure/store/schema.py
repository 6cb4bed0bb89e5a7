"""The schema behind a URL, for operators."""

from __future__ import annotations

from perdure.backends import SchemaAdmin, backend_for
from perdure.errors import ConfigurationError
from perdure.settings import Settings

__all__ = ["schema_of"]


def schema_of(url: str | None = None) -> SchemaAdmin:
    """What makes, upgrades, verifies and drops the schema of a URL (default: that of the settings).

    Raises:
        ConfigurationError: there is nothing like a schema there.
    """
    backend = backend_for(url if url is not None else Settings().url)
    if backend.schema is None:
        raise ConfigurationError(f"{backend.name} has no schema: nothing to create, upgrade, verify or drop")
    return backend.schema
