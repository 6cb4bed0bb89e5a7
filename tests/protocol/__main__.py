"""`python -m tests.protocol [mutant]`: explore every cast, or show the shortest way to what a mutant breaks."""

from __future__ import annotations

import sys
import time

from tests.protocol.test_mutants import EVERY_MUTANT, rejected
from tests.protocol.test_protocol import EVERY_CAST, explored


def main(names: list[str]) -> int:
    """Print what is asked for."""
    for name in names:
        if name not in EVERY_MUTANT:
            print(f"no such mutant; there are: {', '.join(EVERY_MUTANT)}")
            return 2
        print(f"{name}: {rejected(name)}")
    if not names:
        for cast in EVERY_CAST:
            began = time.perf_counter()
            print(f"{cast}: {explored(cast)} ({time.perf_counter() - began:.1f} s)")
    return 0


sys.exit(main(sys.argv[1:]))
