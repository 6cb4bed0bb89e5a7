"""Archiving what has expired."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.measuring import Row
from benchmarks.reading import fill
from benchmarks.work import open_store

DUE = 8_000
ALREADY = 100_000
TARGET = 4_000


async def sweeps(folder: Path) -> list[Row]:
    """Sessions of 10 queries each, into an empty archive and into one of 100,000."""
    rows = []
    async with open_store(folder / "sweep.db") as store:
        for already in (0, ALREADY):
            if already:
                await fill(store, already, users=100, queries=1)
                await store.cleanup_expired_sessions()
            await fill(store, DUE, users=100, queries=10)
            began = time.perf_counter()
            report = await store.cleanup_expired_sessions()
            rate = DUE / (time.perf_counter() - began)
            assert report.archived == DUE, report
            where = f"into an archive of {already:,}" if already else "into an empty archive"
            rows.append(
                Row(
                    f"sweep and archive, 10 queries each, {where}",
                    "–",
                    f"{rate:,.0f} sessions/s",
                    "–",
                    f"≥ {TARGET:,}/s",
                    rate >= TARGET,
                )
            )
    return rows
