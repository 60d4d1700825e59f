"""`probe rules`: from one source everything that decides, as files; or what each alert will do, in a table.

What is made stands in `PRODUCERS`, a row each. All of it is made before the first file is written: a mistake in one objective
leaves the folder as it was.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from probe.cli.files import find
from probe.cli.fleets import fleet_file_at
from probe.cli.folder import Differences, differences, write
from probe.cli.oncall import now, read
from probe.errors import ConfigError, Located
from probe.rules.alerts import alerts
from probe.rules.conditions import Alert
from probe.rules.dashboards import dashboards
from probe.rules.escalated import escalation
from probe.rules.explain import Explained, Noticed, explained
from probe.rules.fleet import Fleet, Severity
from probe.rules.groups import rule_files, series
from probe.rules.openslo import openslo
from probe.rules.rollouts import rollouts
from probe.rules.routing import alertmanager
from probe.rules.runbooks import FOLDER, edited, runbooks
from probe.rules.units import unit_files
from probe.rules.walltime import year
from probe.scenario.oncall import OnCall
from probe.scenario.runbooks import NotesFile, load_runbooks
from probe.scenario.units import format_duration, format_ratio, parse_duration

DIFFERENT = 1
_BESIDE = "oncall.yaml", "runbooks.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What everything is made from. `at`: now, Unix seconds."""

    fleet: Fleet
    alerts: tuple[Alert, ...]
    oncall: OnCall | None
    notes: NotesFile | None
    at: int


def _routing(made: Made) -> Mapping[str, str]:
    if made.oncall is None:
        return {}
    found = alertmanager(made.fleet, made.alerts, made.oncall, year(made.at))
    return {f"alertmanager/{path}": text for path, text in found.items()}


def _runbooks(made: Made) -> Mapping[str, str]:
    return runbooks(made.fleet, made.alerts, made.notes, escalation(made.oncall) if made.oncall else None)


PRODUCERS: Mapping[str, Callable[[Made], Mapping[str, str]]] = {
    "rules": lambda made: rule_files(made.fleet, made.alerts),
    "tests": lambda made: unit_files(made.fleet, made.alerts),
    "alertmanager": _routing,
    "dashboards": lambda made: dashboards(made.fleet, made.alerts),
    "runbooks": _runbooks,
    "openslo": lambda made: {"openslo.yaml": openslo(made.fleet, made.alerts)},
    "rollouts": lambda made: rollouts(made.fleet),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The question, as the command line has it."""

    oncall: Path | None = None
    runbooks: Path | None = None
    every: str | None = None
    only: tuple[str, ...] = ()
    out: Path | None = None
    check: Path | None = None
    explain: bool = False
    openslo: bool = False
    as_json: bool = False


async def rules(file: Path, asked: Asked, console: Console) -> int:
    """Make, compare or explain; the exit code. Raises ConfigError with every mistake."""
    with console.status(f"reading {file}"):
        made, notes = _made(file, asked)
    for note in notes:
        print(note, file=sys.stderr)
    if asked.openslo:
        print(openslo(made.fleet, made.alerts), end="")
        return 0
    if asked.explain:
        _explain(made, console, as_json=asked.as_json)
        return 0
    target = asked.out or asked.check
    if target is None:
        _summary(made, console, {}, as_json=asked.as_json)
        return 0
    files = produced(made, asked.only)
    if asked.check is None:
        _none_written_into(target, files)
    found = write(target, files) if asked.check is None else differences(target, files)
    if asked.check is not None:
        _compared(target, found, console)
        return DIFFERENT if found else 0
    _summary(made, console, files, as_json=asked.as_json)
    for path in found.kept:
        print(f"{target / path} is no longer made; somebody has changed it, so it stays", file=sys.stderr)
    if not asked.as_json:
        console.print(f"{len(files)} files in {target}: {_changes(found)}")
    return 0


def produced(made: Made, only: Sequence[str] = ()) -> dict[str, str]:
    """Path → text of all that is made, or of these producers only. Raises ConfigError."""
    if unknown := [name for name in only if name not in PRODUCERS]:
        raise ConfigError([Located("--only", 0, 0, "", f"{unknown[0]!r} is not one of {', '.join(PRODUCERS)}")])
    files: dict[str, str] = {}
    for name, produce in PRODUCERS.items():
        if not only or name in only:
            files.update(produce(made))
    return files


def _made(file: Path, asked: Asked) -> tuple[Made, tuple[str, ...]]:
    """Everything read, the mistakes of all files at once."""
    at = now()
    read_file = fleet_file_at(file, every=_every(asked.every))
    fleet = read_file.fleet
    beside = [find(file).parent / name for name in _BESIDE]
    shifts = asked.oncall or read_file.oncall or (beside[0] if beside[0].exists() else None)
    texts = asked.runbooks or (beside[1] if beside[1].exists() else None)
    oncall = read(shifts, at) if shifts else None
    if oncall is not None and not fleet.sla:
        fleet = replace(fleet, sla={Severity(name): within for name, within in oncall.escalation.sla.items()})
    made = Made(fleet=fleet, alerts=alerts(fleet), oncall=oncall, notes=load_runbooks(texts) if texts else None, at=at)
    return made, read_file.notes


def _none_written_into(folder: Path, files: Mapping[str, str]) -> None:
    """Runbooks are where people write at night. Raises ConfigError where one would lose what they did."""
    made = [folder / path for path in files if path.startswith(f"{FOLDER}/")]
    ours = [path for path in made if path.is_file() and edited(path.read_text("utf-8", "replace"))]
    if ours:
        words = "was written into; move what was added to runbooks.yaml, and delete this file"
        raise ConfigError([Located(str(path), 0, 0, "", words) for path in ours])


def _every(text: str | None) -> int | None:
    try:
        found = None if text is None else parse_duration(text)
    except ValueError as error:
        raise ConfigError([Located("--every", 0, 0, "", str(error))]) from None
    if found == 0:
        raise ConfigError([Located("--every", 0, 0, "", "is longer than nothing; write for example 2m")])
    return found


# -- told


def _summary(made: Made, console: Console, files: Mapping[str, str], *, as_json: bool) -> None:
    count = series(made.fleet, made.alerts)
    if as_json:
        told = [{"alert": a.name, "kind": a.kind, "shadow": a.shadow, "labels": a.labels, "by": a.by} for a in made.alerts]
        document = {"fleet": made.fleet.name, "alerts": told, "series": count, "files": sorted(files)}
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    table = Table(box=box.SIMPLE_HEAD, title=f"alerts of {made.fleet.name}", title_justify="left")
    table.add_column("alert", no_wrap=True)
    for heading in ("", "objective", "owner"):
        table.add_column(heading)
    for alert in made.alerts:
        promise = f"{format_ratio(alert.slo.target)} over {format_duration(alert.slo.window)}" if alert.slo else "of the probe"
        shadow = " (shadow)" if alert.shadow else ""
        table.add_row(alert.name + shadow, alert.severity.value, promise, alert.labels["owner"])
    console.print(table)
    pages = sum(alert.severity is Severity.P1 for alert in made.alerts)
    console.print(
        f"{pages} can page, {len(made.alerts) - pages} are triaged; P3 is a line of the report and never an alert."
        f" {count:,} series in Prometheus. `--explain` says what each does"
    )


def _explain(made: Made, console: Console, *, as_json: bool) -> None:
    every = explained(made.fleet, made.alerts)
    if as_json:
        print(json.dumps([one.document() for one in every], indent=2, ensure_ascii=False))
        return
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
        show_edge=False,
        title=f"what the alerts of {made.fleet.name} do",
        title_justify="left",
    )
    table.add_column("alert", no_wrap=True)
    for heading in ("", "runs/\nhour", "total\nloss", "bad\nruns", "2 %\nloss", "over\nin", "by\nchance"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in every:
        for first, (total, slight) in enumerate(_paired(one)):
            table.add_row(
                "" if first else one.alert,
                "" if first else one.severity.value,
                f"{total.runs_per_hour:g}" if total else "–",
                _seconds(total.after) if total else "–",
                str(total.failures) if total and total.failures is not None else "–",
                _seconds(slight.after) if slight else "–",
                _seconds(total.reset) if total else "–",
                "" if one.chance is None or first else f"≤ {max(one.chance, 0.01):.2g}",
            )
    console.print(table)
    console.print(
        "Losses are known so long after they began, at worst: right after a good run, runs evenly spaced, in a cell of so many"
        " runs an hour. By chance: pages in 30 days of an objective whose runs fail apart and exactly as often as they may.\n"
    )
    for one in every:
        console.print(f"[bold]{one.alert}[/bold] {'pages' if one.severity is Severity.P1 else 'is triaged'} on")
        for condition in one.fires:
            console.print(f"  {condition}", markup=False)
        for sentence in one.why:
            console.print(f"    {sentence}", style="dim", markup=False)


def _paired(one: Explained) -> list[tuple[Noticed | None, Noticed | None]]:
    """By cadence: what it does about a total loss, and about a slight one."""
    rates = list(dict.fromkeys(noticed.runs_per_hour for noticed in one.noticed))
    found: dict[tuple[float, bool], Noticed] = {(n.runs_per_hour, n.loss == 1): n for n in one.noticed}
    return [(found.get((rate, True)), found.get((rate, False))) for rate in rates] or [(None, None)]


def _seconds(value: float | None) -> str:
    """As exact as anybody needs: 12m, 3.7h, 1.5d."""
    if value is None:
        return "never"
    minutes = value / 60
    return f"{minutes:.0f}m" if minutes < 120 else f"{minutes / 60:.1f}h" if minutes < 2880 else f"{minutes / 1440:.1f}d"


def _compared(folder: Path, found: Differences, console: Console) -> None:
    for word, paths in (("missing", found.missing), ("different", found.changed), ("no longer made", found.stale)):
        for path in paths:
            console.print(f"{word}: {folder / path}", markup=False, soft_wrap=True)
    if not found:
        console.print(f"{folder} is what `probe rules` makes", markup=False)


def _changes(found: Differences) -> str:
    counts: dict[str, Any] = {"new": found.missing, "changed": found.changed, "removed": found.stale}
    return ", ".join(f"{len(paths)} {word}" for word, paths in counts.items() if paths) or "nothing has changed"
