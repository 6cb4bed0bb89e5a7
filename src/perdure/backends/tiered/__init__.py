"""Two backends as one: a fast one and a durable one, which together obey the contract of either."""

from perdure.backends.tiered.backend import TieredBackend
from perdure.backends.tiered.tier import TierTimes, TierWatcher

__all__ = ["TierTimes", "TierWatcher", "TieredBackend"]
