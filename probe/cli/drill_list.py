"""`probe drill list`: which drills and rehearsals there are, what each did last, and what is due.

It opens the records read only, and asks neither a platform nor a fault. Where there are no records nothing was ever done; where
they cannot be read nothing is known of it, and that is said in place of a date.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from probe.cli.drill_records import Kept
from probe.clock import SystemClock
from probe.drill.campaigns_file import load_campaigns
from probe.drill.core.calendar import Done, Due, Known, State, day, dues, review_lines
from probe.drill.core.campaigns import Campaigns
from probe.drill.history import history
from probe.drill.load import PACKAGED
from probe.drill.shelf import shelf
from probe.errors import ConfigError, Located
from probe.export.figures import rfc3339
from probe.export.words import printable
from probe.model.clock import NS
from probe.scenario.units import format_duration, parse_duration
from probe.store.database import Database
from probe.store.errors import StoreError, StoreRefused
from probe.store.reader import Records

OVERDUE = 1  # exit code of --due
COME_ALONG = (PACKAGED / "drills", PACKAGED / "rehearsals")
_STYLES = {State.OVERDUE: "red", State.DUE: "yellow"}


@dataclass(frozen=True, slots=True)
class Asked:
    """The question, as the command line has it."""

    files: tuple[Path, ...] = ()
    due: bool = False
    campaigns: Path | None = None
    since: str | None = None
    kept: Kept = field(default_factory=Kept)
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is known: drills and rehearsals, what became of them (None: that is not known), and the dates."""

    known: tuple[Known, ...]
    done: tuple[Done, ...] | None
    dates: tuple[Due, ...]
    unread: str = ""

    def last(self, one: Known) -> Done | None:
        return next((done for done in self.done or () if (done.name, done.kind) == (one.name, one.kind)), None)

    def next(self, one: Known) -> Due | None:
        """The most urgent of its dates."""
        return next((due for due in self.dates if (due.name, due.kind) == (one.name, one.kind)), None)


async def drill_list(asked: Asked, console: Console) -> int:
    """Print it; the exit code. Raises ConfigError."""
    now = SystemClock().wall().unix_ns
    since = None if asked.since is None else now - _span(asked.since)
    found = await _shelf(asked, now)
    if asked.as_json:
        print(json.dumps(_document(found, since, now), indent=2, ensure_ascii=False))
    elif since is not None:
        lines = review_lines(found.dates, found.done or (), since, now)
        console.print(
            Text("\n".join(printable(line) for line in lines) or "nothing is overdue, and nothing was done"), soft_wrap=True
        )
    elif asked.due:
        _print_due(found, console)
    else:
        _print_all(found, console)
    if found.unread and not asked.as_json:
        console.print(Text(f"what was done is not known: {found.unread}", style="yellow"), soft_wrap=True)
    if not asked.due:
        return 0
    if found.done is None:
        return 3
    return OVERDUE if any(one.state is State.OVERDUE for one in found.dates) else 0


async def _shelf(asked: Asked, now: int) -> Shelf:
    campaigns, known = _calendar(asked)
    done, unread = await _history(asked)
    dates = () if done is None else dues(campaigns, known, done, now)
    return Shelf(known, done, dates, unread)


def _calendar(asked: Asked) -> tuple[Campaigns, tuple[Known, ...]]:
    """What is due by, and of what: the drills that were named, else those of campaigns.yaml, else those that come along."""
    campaigns = Campaigns(name="default")
    known: tuple[Known, ...] = ()
    beside = Path("campaigns.yaml")
    file = asked.campaigns or (beside if beside.exists() and not asked.files else None)
    if file is not None:
        loaded = load_campaigns(file, env=os.environ)
        campaigns, known = loaded.campaigns, loaded.known
    return campaigns, _known(asked.files or (() if known else COME_ALONG), known)


def _known(files: Sequence[Path], already: tuple[Known, ...]) -> tuple[Known, ...]:
    found = list(already)
    for file in files:
        try:
            found += [one for one in shelf([file]) if one.file not in {other.file for other in already}]
        except OSError as error:
            raise ConfigError([Located(str(file), 0, 0, "", f"cannot be read: {error.strerror}")]) from error
    return tuple(found)


async def _history(asked: Asked) -> tuple[tuple[Done, ...] | None, str]:
    url = asked.kept.url()
    try:
        if (file := Database(url).file) is not None and not file.exists():
            return (), ""
        async with Records.reading(url, SystemClock()) as records:
            return await history(records), ""
    except StoreRefused as error:
        raise asked.kept.refused(error) from error
    except StoreError as error:
        return None, str(error)


def _span(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigError([Located("--since", 0, 0, "", str(error))]) from error


def _print_all(found: Shelf, console: Console) -> None:
    if not found.known:
        console.print("there is no drill here", markup=False)
        return
    shown = sorted(found.known, key=lambda one: (one.kind, one.name))
    wide = max(len(one.name) for one in shown)
    for one in shown:
        due, last = found.next(one), found.last(one)
        head = Text(printable(one.name).ljust(wide + 2), style="bold")
        head.append(f"{'last: ' + _last(found, last):<29}  ", style="none")
        if due is not None:
            head.append(f"next: {_when(due)}", style=_STYLES.get(due.state, "none"))
        console.print(head, soft_wrap=True)
        length = "" if one.length is None else format_duration(one.length // NS * NS)
        what = "; ".join(one.faults) or "people, without a fault"
        console.print(
            Text(printable("  " + ", ".join(filter(None, (one.owner, length, what))), 400), style="dim"), soft_wrap=True
        )
        if one.problem:
            console.print(Text(printable(f"  {one.problem}: probe check {one.file}", 400), style="red"), soft_wrap=True)


def _print_due(found: Shelf, console: Console) -> None:
    urgent = [one for one in found.dates if one.state in (State.OVERDUE, State.DUE)]
    if not urgent:
        console.print("nothing is due" if found.done is not None else "nobody knows what is due", markup=False)
        return
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for name in ("drill", "owner", "due", "why"):
        table.add_column(name, overflow="fold")
    for one in urgent:
        when = Text(_when(one), style=_STYLES[one.state])
        table.add_row(Text(printable(one.name)), Text(printable(one.owner)), when, Text(printable(one.why)))
    console.print(table)


def _when(due: Due) -> str:
    if due.state is State.DONE and due.campaign:
        return f"done for {due.campaign}"
    if due.state is State.OVERDUE:
        return f"overdue since {day(due.due)}" if due.due else "overdue, never done"
    return day(due.due)


def _last(found: Shelf, last: Done | None) -> str:
    if found.done is None:
        return "?"
    return "never" if last is None else f"{day(last.at)} {last.verdict}"


def _document(found: Shelf, since: int | None, now: int) -> dict[str, Any]:
    """Absent is absent, times are RFC 3339."""
    drills = []
    for one in found.known:
        last, due = found.last(one), found.next(one)
        about = {
            "name": one.name, "kind": one.kind, "owner": one.owner, "tags": list(one.tags), "file": one.file,
            "faults": list(one.faults), "takes": None if one.length is None else one.length / NS, "problem": one.problem,
            "last": None if last is None else _done(last), "next": None if due is None else _due(due),
        }  # fmt: skip
        drills.append(_present(about))
    document: dict[str, Any] = {"drills": drills, "unread": found.unread or None}
    if found.done is not None:
        document["due"] = [_due(one) for one in found.dates]
        if since is not None:
            document["review"] = review_lines(found.dates, found.done, since, now)
    return {name: value for name, value in document.items() if value is not None}


def _due(one: Due) -> dict[str, Any]:
    return _present({
        "name": one.name, "kind": one.kind, "owner": one.owner, "why": one.why, "campaign": one.campaign, "state": str(one.state),
        "due": rfc3339(one.due) if one.due else None, "counts_from": rfc3339(one.counts_from) if one.counts_from else None,
        "by": None if one.by is None else _done(one.by),
    })  # fmt: skip


def _done(one: Done) -> dict[str, Any]:
    return _present({
        "at": rfc3339(one.at), "verdict": one.verdict, "reason": one.reason, "took_part": list(one.people),
        "learned": list(one.learned),
    })  # fmt: skip


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", [])}
