"""The log that `docs/examples/replay_trace.py` replays, and the program as a module."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "docs" / "examples" / "replay_trace.py"
TRACE = EXAMPLE.parent / "analyst-trace" / "trace.jsonl"


@cache
def replay_trace() -> ModuleType:
    """The program."""
    spec = importlib.util.spec_from_file_location("replay_trace", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the module of a class
    spec.loader.exec_module(module)
    return module
