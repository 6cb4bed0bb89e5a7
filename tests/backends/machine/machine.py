"""Backends against a small model of the contract: random work of several writers, with lost answers and restarts.

More of it: `nox -s soak`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from tests.backends.machine.archiving import Archiving
from tests.backends.machine.reading import Reading
from tests.effort import LONG

STEPS = 40


class BackendMachine(Archiving, Reading):
    """All the steps: everything is asked of both, the backend and the model, and every answer compared."""


def effort(runs: int, *, in_soak: int = 3_000, steps: int = STEPS) -> settings:
    """So many runs, the same ones each time; in a soak more, and others."""
    return settings(
        max_examples=in_soak if LONG else runs,
        stateful_step_count=2 * steps if LONG else steps,
        derandomize=not LONG,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def case(machine: type[BackendMachine], runs: int) -> Any:
    """The machine as a test."""
    found = machine.TestCase
    found.settings = effort(runs)
    return found
