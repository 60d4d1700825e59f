"""`probe backtest FLEET`: who would have been woken, over simulated or recorded months, by our rules and by others'.

The work is numpy's, in a thread, one history at a time: the loop stays free to be interrupted. It reads files, records and (for
shadow alerts, if asked) a Prometheus; it changes nothing but its own files in --out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from probe.cli.backtest_table import closing, of_history, title
from probe.cli.fleets import fleet_at
from probe.cli.recorded_runs import incidents_at, read_lines, read_stores, since
from probe.cli.shadowed import Shadowed, over_history, over_prometheus, shadow_table
from probe.cli.signals import cancelling
from probe.errors import ConfigError, Located
from probe.rules.alerts import alerts
from probe.rules.backtest import Budget, Panel, Question, Result
from probe.rules.backtest_page import backtest_html
from probe.rules.backtest_report import Report, document
from probe.rules.fleet import Fleet
from probe.rules.history import History
from probe.rules.patterns import DAY, PATTERNS, Chosen, parse_pattern
from probe.rules.replay import INTERVAL
from probe.rules.rivals import RIVALS
from probe.rules.simulate import simulate
from probe.scenario.units import parse_duration, parse_ratio

MOST_DAYS = 366
FILES = ("backtest.html", "backtest.json")
Make = Callable[[], History]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The question, as the command line has it."""

    pattern: tuple[str, ...] = ()
    days: float = 30
    target: tuple[str, ...] = ()
    against: tuple[str, ...] = tuple(RIVALS)
    every: str | None = None
    region: tuple[str, ...] = ()
    from_store: tuple[str, ...] = ()
    from_json: Path | None = None
    incidents: Path | None = None
    shadow: bool = False
    prometheus: str | None = None
    seed: int = 1
    out: Path = Path("out")


async def backtest(file: Path, asked: Asked, console: Console, *, as_json: bool, quiet: bool) -> int:
    """Print and write what came out; the exit code. Raises ConfigError, StoreError, ProbeError."""
    chosen, targets, every = _checked(asked)
    fleet = fleet_at(file, every=every, regions=asked.region)
    with cancelling():
        if asked.prometheus is not None:
            found = await over_prometheus(asked.prometheus, asked.days)
            return _show_shadow(found, f"Prometheus, the last {asked.days:g} days", console, as_json)
        panel = Panel(Question(fleet=fleet, rules=alerts, targets=targets, against=asked.against))
        recorded = await _recorded(fleet, asked)
        makes: dict[str, Make] = {recorded.name: lambda: recorded} if recorded is not None else {}
        makes |= {one.text: _simulated(fleet, one, asked) for one in chosen}
        report = Report(
            fleet=fleet.name, days=asked.days, seed=asked.seed, interval=INTERVAL, targets=targets,
            spoken={name: ruleset.spoken for (name, _), ruleset in panel.rulesets.items()}, unreplayed=panel.unreplayed,
        )  # fmt: skip
        if recorded is not None and not chosen:
            report = replace(report, seed=None, days=round((recorded.ended - recorded.began) / DAY, 1))
        report = await _filled(report, panel, makes, console, quiet=quiet or as_json or asked.shadow)
    if asked.shadow:
        return _show_shadow(over_history(report), "history", console, as_json)
    await asyncio.to_thread(_write, asked.out, report)
    if as_json:
        print(json.dumps(document(report), indent=2, ensure_ascii=False))
        return 0
    if not quiet:
        for gate, why in report.unreplayed.items():
            console.print(f"\ngate {gate} is left out: {why}", markup=False, soft_wrap=True)
        console.print("\nall together", style="bold")
    for line in closing(report):
        console.print(line, soft_wrap=True)
    console.print(f"picture: {asked.out / FILES[0]}", markup=False, soft_wrap=True)
    return 0


def _checked(asked: Asked) -> tuple[list[Chosen], tuple[float | None, ...], int | None]:
    """Patterns, targets and cadence, or every mistake in them."""
    mistakes: list[Located] = []
    recorded = bool(asked.from_store) or asked.from_json is not None
    chosen: list[Chosen] = []
    targets: list[float | None] = []
    every = None
    for text in asked.pattern or (() if recorded else tuple(PATTERNS)):
        try:
            chosen.append(parse_pattern(text))
        except ValueError as error:
            mistakes.append(Located("--pattern", 0, 0, "", str(error)))
    for text in asked.target:
        try:
            targets.append(_target(text))
        except ValueError as error:
            mistakes.append(Located("--target", 0, 0, "", str(error)))
    for name in asked.against:
        if name not in RIVALS:
            mistakes.append(Located("--against", 0, 0, "", f"{name!r} is not one of {', '.join(RIVALS)}"))
    if not 0 < asked.days <= MOST_DAYS:
        mistakes.append(Located("--days", 0, 0, "", f"{asked.days:g} is not a number of days from 1 to {MOST_DAYS}"))
    if asked.seed < 0:
        mistakes.append(Located("--seed", 0, 0, "", f"{asked.seed} is below 0"))
    if asked.every is not None:
        try:
            every = parse_duration(asked.every)
        except ValueError as error:
            mistakes.append(Located("--every", 0, 0, "", str(error)))
    if asked.incidents is not None and not recorded:
        mistakes.append(Located("--incidents", 0, 0, "", "is about recorded runs; give --from-store or --from-json too"))
    if mistakes:
        raise ConfigError(mistakes)
    return chosen, tuple(dict.fromkeys(targets)) or (None,), every


def _target(text: str) -> float:
    value = parse_ratio(text)
    if not 0 < value < 1:
        raise ValueError(f"a target of {text} leaves nothing to spend or nothing to keep; write for example 99.5%")
    return value


def _simulated(fleet: Fleet, chosen: Chosen, asked: Asked) -> Make:
    return lambda: simulate(fleet, chosen, days=asked.days, seed=asked.seed)


async def _recorded(fleet: Fleet, asked: Asked) -> History | None:
    if not asked.from_store and asked.from_json is None:
        return None
    known = None if asked.incidents is None else incidents_at(asked.incidents)
    if asked.from_json is not None:
        return await asyncio.to_thread(read_lines, asked.from_json, fleet, known)
    return await read_stores(asked.from_store, fleet, since(asked.days), known)


async def _filled(report: Report, panel: Panel, makes: Mapping[str, Make], console: Console, *, quiet: bool) -> Report:
    """With the results of every history, each told as soon as it is known."""
    if not quiet:
        console.print(title(report), soft_wrap=True)
    with _progress(console, len(makes), quiet) as told:
        for name, make in makes.items():
            told(name)
            results, budgets = await asyncio.to_thread(_over, panel, make)
            report = replace(report, results=(*report.results, *results), budgets=(*report.budgets, *budgets))
            if not quiet:
                words, table = of_history(report, results[0].history)
                console.print(words, soft_wrap=True)
                console.print(table)
    return report


def _over(panel: Panel, make: Make) -> tuple[list[Result], list[Budget]]:
    return panel.over(make())


@contextmanager
def _progress(console: Console, count: int, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Told the name of each history as its turn comes: a bar on a terminal, below what came out already."""
    if quiet or not console.is_terminal:
        yield lambda name: None
        return
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=count, completed=-1)
        yield lambda name: progress.update(task, description=name, advance=1)


def _write(folder: Path, report: Report) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILES[0]).write_text(backtest_html(report), encoding="utf-8")
        (folder / FILES[1]).write_text(json.dumps(document(report), ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError([Located("--out", 0, 0, "", f"{folder}: {error.strerror}")]) from error


def _show_shadow(found: Sequence[Shadowed], where: str, console: Console, as_json: bool) -> int:
    if as_json:
        print(json.dumps([one.document() for one in found], indent=2, ensure_ascii=False))
    else:
        console.print(shadow_table(found, where))
    return 0
