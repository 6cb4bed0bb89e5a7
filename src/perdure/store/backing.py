"""What a store stands on: one backend, or two tiers."""

from __future__ import annotations

from datetime import timedelta

from perdure.backends import SchemaAdmin, SessionBackend, backend_for
from perdure.errors import ConfigurationError
from perdure.settings import Settings
from perdure.store.hooks import HookRelay
from perdure.store.watching import watched_tier

__all__ = ["ONLY_TIER", "backend_of", "schema_of", "schemas_of"]

ONLY_TIER = "store"
"""What the tier of a store is called that has but one."""


def backend_of(settings: Settings, hooks: HookRelay) -> SessionBackend:
    """The backend that the settings name, not opened yet.

    Raises:
        ConfigurationError: a URL that names none, or two that cannot be tiers of one store.
    """
    more = hooks.register_backends()
    hot = backend_for(settings.url, more=more)
    if settings.archive is None:
        return watched_tier(hot, hooks, tier=ONLY_TIER)
    _refuse_what_are_no_tiers(settings)
    from perdure.backends.tiered import TieredBackend, TierTimes

    times = TierTimes(
        hot_timeout=timedelta(seconds=settings.hot_timeout_seconds),
        archive_timeout=timedelta(seconds=settings.archive_timeout_seconds),
        retry_after=timedelta(seconds=settings.tier_retry_seconds),
        cache_ttl=timedelta(seconds=settings.cache_ttl_seconds),
    )

    async def watcher(tier: str, reason: str | None) -> None:
        if reason is None:
            await hooks.notify("tier_recovered", tier=tier)
        else:
            await hooks.notify("tier_degraded", tier=tier, reason=reason)

    archive = backend_for(settings.archive, more=more)
    hot, archive = watched_tier(hot, hooks, tier="hot"), watched_tier(archive, hooks, tier="archive")
    return TieredBackend(hot, archive, acknowledge=settings.acknowledge, times=times, watcher=watcher)


def _refuse_what_are_no_tiers(settings: Settings) -> None:
    if settings.url is None:
        raise ConfigurationError("an archive needs a hot tier in front of it: give url, for instance redis://localhost")
    if settings.url == settings.archive:
        raise ConfigurationError("url and archive are the same place; one backend keeps active and archived sessions")


def schemas_of(settings: Settings) -> dict[str | None, SchemaAdmin]:
    """What is to be made, upgraded, verified or dropped, by its URL: the only backend, or the tiers that have a schema.

    Raises:
        ConfigurationError: there is nothing like a schema, or two URLs that cannot be tiers of one store.
    """
    if settings.archive is None:
        return {settings.url: schema_of(settings.url)}
    _refuse_what_are_no_tiers(settings)
    hot = backend_for(settings.url).schema
    tiers: dict[str | None, SchemaAdmin] = {} if hot is None else {settings.url: hot}
    return tiers | {settings.archive: schema_of(settings.archive)}


def schema_of(url: str | None = None) -> SchemaAdmin:
    """What makes, upgrades, verifies and drops the schema of a URL (default: of the archive that the settings name,
    else of their url).

    Raises:
        ConfigurationError: there is nothing like a schema there.
    """
    settings = Settings()
    backend = backend_for(url if url is not None else settings.archive or settings.url)
    if backend.schema is None:
        raise ConfigurationError(f"{backend.name} has no schema: nothing to create, upgrade, verify or drop")
    return backend.schema
