"""Two processes that write to one file: how long the slower one ever waits."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measuring import Row
from benchmarks.work import a_query, a_session, open_store

SECONDS = 4.0
PROCESSES = 2
LIMIT_MS = 50.0


def worst_stall(folder: Path) -> list[Row]:
    """The longest single call of two processes that track without a pause."""
    path = folder / "shared.db"
    asyncio.run(_prepare(path))
    command = [sys.executable, "-m", "benchmarks.sharing", str(path)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    found = [json.loads(child.communicate(timeout=60)[0]) for child in children]
    worst = max(child["worst_ms"] for child in found)
    counts = [child["calls"] for child in found]
    fair = min(counts) / max(counts)
    return [
        Row(
            "worst stall, two processes on one file",
            "–",
            f"{worst:.0f} ms in {sum(counts):,} calls",
            f"the slower process did {fair:.0%} of the other's",
            f"≤ {LIMIT_MS:g} ms",
            worst <= LIMIT_MS,
        )
    ]


async def _prepare(path: Path) -> None:
    async with open_store(path):
        pass


async def _track_for_a_while(path: Path) -> None:
    async with open_store(path) as store:
        session, worst, calls = await a_session(store), 0.0, 0
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            began = time.perf_counter()
            await store.track_query(session, a_query())
            worst, calls = max(worst, time.perf_counter() - began), calls + 1
    print(json.dumps({"worst_ms": worst * 1000, "calls": calls}))


if __name__ == "__main__":
    asyncio.run(_track_for_a_while(Path(sys.argv[1])))
