"""`perdure doctor`: the configuration in force, whether the store works, and what to do about what does not.

It changes nothing: it makes no database, upgrades none, and archives nothing.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from perdure import Settings
from perdure.cli.command import Run, command
from perdure.cli.errors import FAILURE, one_line
from perdure.cli.output import count_of, moment, relative, shown_url, table
from perdure.errors import (
    BackendUnavailableError,
    ConfigurationError,
    CorruptDataError,
    PerdureError,
    SchemaError,
    StorageFullError,
    StorageReadOnlyError,
)
from perdure.store import BackendHealth, default_path, schema_of

__all__ = ["register_doctor"]

OVERDUE_AFTER_INTERVALS = 2
"""Expired sessions may wait for the next sweep; after so many intervals without one, nobody is sweeping."""

_REMEDIES: dict[type[PerdureError], str] = {
    ConfigurationError: "correct the option or the PERDURE_… variable it names",
    SchemaError: "run `perdure db create` for a new database, or correct the URL",
    StorageFullError: "free some disk space",
    StorageReadOnlyError: "give this user the right to write the file and its folder",
    CorruptDataError: "save what can be read with `perdure export FILE`, and import that into a new database",
    BackendUnavailableError: "see that what the URL names is there, running, and allowed for this user",
}


_STYLES = {"problem": "bold red", "warning": "bold yellow", "note": "bold cyan"}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know (`note`), that works and should not stay so (`warning`), or to mend (`problem`), and how."""

    level: str
    what: str
    do: str


@dataclass(slots=True)
class Examination:
    """What was looked at, and what was found."""

    configuration: dict[str, dict[str, Any]] = field(default_factory=dict)
    tiers: dict[str, BackendHealth] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is nothing to mend."""
        return all(finding.level != "problem" for finding in self.findings)

    def problem(self, error: PerdureError) -> None:
        """Note an error, and what to do about it."""
        remedies = (remedy for kind, remedy in _REMEDIES.items() if isinstance(error, kind))
        self.findings.append(Finding("problem", str(error), next(remedies, "run it again with --debug")))

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON."""
        tiers = {
            name: {**asdict(tier), "last_swept_at": tier.last_swept_at and tier.last_swept_at.isoformat()}
            for name, tier in self.tiers.items()
        }
        findings = [asdict(finding) for finding in self.findings]
        return {"ok": self.ok, "configuration": self.configuration, "tiers": tiers, "findings": findings}


def register_doctor(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "doctor")(doctor)


async def doctor(run: Run) -> None:
    """Check configuration, reachability, schema and maintenance, and say what to do; 1 if something is wrong.

    It changes nothing.
    """
    seen = Examination()
    try:
        settings = run.settings()
    except ConfigurationError as error:
        seen.problem(error)
    else:
        seen.configuration = _configuration(run, settings)
        try:
            await _examine_store(run, settings, seen)
        except PerdureError as error:
            seen.problem(error)
    if not run.answer(seen.as_dict()):
        _show(run, seen)
    if not seen.ok:
        raise typer.Exit(FAILURE)


async def _examine_store(run: Run, settings: Settings, seen: Examination) -> None:
    if settings.url is None and not default_path().exists():
        what = f"there are no sessions yet; {default_path()} will be made when the first one is"
        seen.findings.append(Finding("note", what, "run `perdure demo`"))
        return
    store = run.open_store(sweeping=False)
    if await _schema_is_sound(settings.archive or settings.url, seen):
        async with store:
            seen.tiers = dict((await store.health()).tiers)
        for name, tier in seen.tiers.items():
            _examine_tier(name, tier, settings, seen)


async def _schema_is_sound(url: str | None, seen: Examination) -> bool:
    """Whether the store can be opened without changing it."""
    try:
        schema = schema_of(url)
    except ConfigurationError:
        return True  # there is a store, as we know, so that it is one without a schema
    try:
        differences = await schema.verify()
    except BackendUnavailableError:
        return True  # nobody can change it; opening it says so, or its health, where the other tier goes on without
    for difference in differences:
        remedy = "see above" if "run `" in difference else "restore the database from a backup, or export and import it"
        seen.findings.append(Finding("problem", f"the database is not as expected: {difference}", remedy))
    return not differences


def _examine_tier(name: str, tier: BackendHealth, settings: Settings, seen: Examination) -> None:
    if not tier.ok:
        what = f"{name} does not answer: {tier.error or 'no reason given'}"
        seen.findings.append(Finding("problem", what, _REMEDIES[BackendUnavailableError]))
    for warning in tier.warnings:
        do = "see the runbook on the page on two tiers, and the page on the backend: which of it matters to you"
        seen.findings.append(Finding("warning", f"{name}: {warning}", do))
    if not tier.due:
        return
    now = datetime.now(UTC)
    latest = OVERDUE_AFTER_INTERVALS * settings.cleanup_interval
    many = f"{count_of(tier.due, 'session')} {'has' if tier.due == 1 else 'have'}"
    if tier.last_swept_at is None or now - tier.last_swept_at > latest:
        last = "never" if tier.last_swept_at is None else relative(tier.last_swept_at, now=now)
        what = f"{many} expired and not been archived; the last sweep was {last}"
        do = "run `perdure maintain --once` now, and `perdure maintain` as a service (or --once from cron)"
        seen.findings.append(Finding("problem", what, do))
    else:
        do = "nothing: the next sweep will archive it; `perdure maintain --once` does so now"
        seen.findings.append(Finding("note", f"{many} expired since the last sweep", do))


def _configuration(run: Run, settings: Settings) -> dict[str, dict[str, Any]]:
    """Every setting, with its value and where that came from: option, environment or default."""
    variables = {name.upper() for name, value in os.environ.items() if value}
    options = {"url": run.url, "archive": run.archive}
    found = {}
    for name, value in settings.model_dump(mode="json").items():
        variable = f"PERDURE_{name.upper()}"
        source = "environment" if variable in variables else "default"
        if options.get(name) is not None:
            source = "option"
        shown = shown_url(value) if isinstance(value, str) and name in options else value
        found[name] = {"value": shown, "source": source}
    return found


def _show(run: Run, seen: Examination) -> None:
    if seen.configuration:
        run.out.print(_configuration_table(seen.configuration))
    for name, tier in seen.tiers.items():
        run.out.print()
        run.out.print(_tier_table(name, tier))
    run.out.print()
    for finding in seen.findings:
        style = _STYLES[finding.level]
        run.out.print(Text.assemble((f"{finding.level}: ", style), one_line(finding.what)))
        run.out.print(Text(f"  → {finding.do}"))
    if seen.ok:
        run.out.print("all is well", style="bold green")


def _configuration_table(configuration: dict[str, dict[str, Any]]) -> Table:
    made = table("setting", "value", "from", title="configuration", kept=("setting", "from"))
    for name, entry in configuration.items():
        value = "–" if entry["value"] is None else str(entry["value"])
        if name == "url" and entry["value"] is None:
            value = str(default_path())
        made.add_row(name, one_line(value), entry["source"], style="dim" if entry["source"] == "default" else "")
    return made


def _tier_table(name: str, tier: BackendHealth) -> Table:
    made = table("", "", title=f"{name}: {tier.backend}")
    made.show_header = False
    now = datetime.now(UTC)
    swept = tier.last_swept_at
    made.add_row("answers", f"in {tier.latency_ms:.1f} ms" if tier.ok else Text("no", style="bold red"))
    made.add_row("last sweep", "never" if swept is None else f"{moment(swept)} ({relative(swept, now=now)})")
    made.add_row("expired, to be archived", f"{tier.due:,}")
    for fact, value in tier.details.items():
        made.add_row(fact.replace("_", " "), one_line(f"{value:,}" if isinstance(value, int) else str(value)))
    return made
