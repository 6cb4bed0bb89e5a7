"""How much is tried: as much as a run of all tests can bear, and more in `nox -s soak`."""

from __future__ import annotations

import os

__all__ = ["LONG", "OUTAGE_S", "ROUNDS"]

LONG = os.environ.get("TEST_SOAK") == "1"

ROUNDS = 5 if LONG else 1
"""How often what is left to chance is tried."""

OUTAGE_S = 10.0 if LONG else 3.0
"""How long a server is gone."""
