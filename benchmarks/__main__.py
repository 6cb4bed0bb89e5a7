"""Run the benchmarks and write `results.md`: `python -m benchmarks [--large N] [--out FILE]`."""

from __future__ import annotations

import argparse
import asyncio
import platform
import sqlite3
import tempfile
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from benchmarks import hooks, postgres, reading, redis, sharing, statistics, sweeping, tiers, tracking
from benchmarks.measuring import Row

HEADING = """# Results

Written by `nox -s bench`. Ratios are to the bare driver in the same run, both warm, medians of alternating blocks; they
are what counts, since the numbers are those of one machine. Misses are listed like everything else.

{machine}

| work | compared with | perdure | ratio | target | met |
| --- | --- | --- | --- | --- | --- |
"""


def main() -> None:
    """Measure every row, print it, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=1_000_000, help="sessions in the large listing and statistics")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.md"))
    options = parser.parse_args()
    rows: list[Row] = []

    def note(found: list[Row]) -> None:
        rows.extend(found)
        for row in found:
            print(f"{_met(row):>6}  {row.work}: {row.perdure}  {row.ratio}  (target {row.target})", flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        note(asyncio.run(tracking.one_caller(folder)))
        note(asyncio.run(tracking.many_callers(folder)))
        note(sharing.worst_stall(folder))
        note(hooks.unheard())
        if find_spec("fastmcp") is not None:
            from benchmarks import mcp

            note(asyncio.run(mcp.tracked_calls(folder)))
            note(asyncio.run(mcp.listed_tools()))
        note(asyncio.run(reading.whole_sessions(folder)))
        note(asyncio.run(sweeping.sweeps(folder)))
        note(asyncio.run(reading.listings(folder, large=options.large)))
        note(redis.rows(large=options.large))
        note(postgres.run(folder, large=options.large))
        note(tiers.rows())
        note(statistics.rows(folder, sessions=options.large))
    options.out.write_text(HEADING.format(machine=_machine()) + "".join(map(_line, rows)), encoding="utf-8")


def _machine() -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.system()} {platform.machine()}. Queries of about 500 bytes."
    )


def _line(row: Row) -> str:
    return f"| {row.work} | {row.raw} | {row.perdure} | {row.ratio} | {row.target} | {_met(row)} |\n"


def _met(row: Row) -> str:
    return {True: "yes", False: "**no**", None: "–"}[row.met]


if __name__ == "__main__":
    main()
