"""`probe drill people FILE`: a rehearsal to be read from, and its record once it was held."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from probe.cli.drill_records import Kept
from probe.clock import SystemClock
from probe.drill.core.people import Rehearsal
from probe.drill.history import rehearsed
from probe.drill.load import PACKAGED
from probe.drill.people_file import load_rehearsal
from probe.errors import ConfigError, Located
from probe.export.spool import SpoolInUse
from probe.export.words import printable
from probe.model.clock import NS
from probe.scenario.units import format_duration
from probe.store.errors import StoreRefused
from probe.store.records import Event
from probe.store.store import Store

_OUTBOX = "rehearsals"  # beside the agent's own, which is the agent's


@dataclass(frozen=True, slots=True)
class Asked:
    """The command line: `took_part` and `learned` are words of those who were there; `on` a day or a moment, empty: now."""

    file: Path
    took_part: tuple[str, ...] = ()
    learned: tuple[str, ...] = ()
    on: str | None = None
    kept: Kept = field(default_factory=Kept)
    as_json: bool = False


async def drill_people(asked: Asked, console: Console) -> int:
    """Print the sheet, or record that it was held; the exit code. Raises ConfigError, StoreError."""
    rehearsal = load_rehearsal(_find(asked.file), env=os.environ)
    if not asked.took_part and not asked.learned:
        if asked.as_json:
            print(json.dumps(_document(rehearsal), indent=2, ensure_ascii=False))
        else:
            _show(rehearsal, console)
        return 0
    event = _event(rehearsal, asked)
    if not await _put(event, asked):
        console.print(f"{rehearsal.name}: the records are not to be had now; it is kept and goes there next time", markup=False)
        return 0
    if asked.as_json:
        print(json.dumps({"rehearsal": rehearsal.name, **event.data}, indent=2, ensure_ascii=False))
    else:
        console.print(f"{rehearsal.name}: recorded, with {event.who}", markup=False, soft_wrap=True)
    return 0


def _find(file: Path) -> Path:
    along = PACKAGED / "rehearsals" / f"{file.name}.yaml"
    return along if not file.exists() and len(file.parts) == 1 and along.exists() else file


def _event(rehearsal: Rehearsal, asked: Asked) -> Event:
    mistakes = []
    if not asked.took_part:
        mistakes.append(Located("--took-part", 0, 0, "", "say who was there: --took-part anna=on-call --took-part ben"))
    if not asked.learned:
        mistakes.append(Located("--learned", 0, 0, "", 'say what was learned, were it only --learned "nothing new"'))
    for one in asked.took_part:
        name, _, role = one.partition("=")
        if not name.strip() or (role and role not in rehearsal.roles):
            known = ", ".join(rehearsal.roles)
            mistakes.append(Located("--took-part", 0, 0, "", f"{one!r}: write name or name=role, with a role of {known}"))
    clock = SystemClock()
    now = clock.wall().unix_ns
    at = now if asked.on is None else _moment(asked.on, mistakes)
    if at > now:
        mistakes.append(Located("--on", 0, 0, "", f"{asked.on} is yet to come; a rehearsal is recorded once it was held"))
    if mistakes:
        raise ConfigError(mistakes)
    return rehearsed(rehearsal, took_part=asked.took_part, learned=asked.learned, at=at)


def _moment(text: str, mistakes: list[Located]) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        mistakes.append(Located("--on", 0, 0, "", f"{text!r} is not a day or a moment; write 2026-11-20 or 2026-11-20T14:00"))
        return 0
    return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()) * NS


async def _put(event: Event, asked: Asked) -> bool:
    """Whether it is in the records; else it waits on disk."""
    try:
        async with Store.opened(asked.kept.url(), SystemClock(), asked.kept.directory / _OUTBOX) as store:
            store.put(event)
        return store.behind == 0
    except StoreRefused as error:
        raise asked.kept.refused(error) from error
    except SpoolInUse as error:
        raise ConfigError(
            [Located(str(asked.file), 0, 0, "", f"somebody records a rehearsal just now, try again: {error}")]
        ) from error


def _document(rehearsal: Rehearsal) -> dict[str, Any]:
    """As it stands in the file."""
    document = rehearsal.model_dump(mode="json", by_alias=True)
    for timed, key in ((document, "lasts"), *((inject, "at") for inject in document["injects"])):
        timed[key] = format_duration(timed[key])
    return document


def _show(rehearsal: Rehearsal, console: Console) -> None:
    _line(console, f"{rehearsal.name}: {format_duration(rehearsal.lasts)}, led by {rehearsal.owner}", "bold")
    _line(console, rehearsal.description)
    _section(console, "what is so when it begins", [rehearsal.scene.strip()])
    _section(console, "who plays a part", [f"{role}: {words}" for role, words in rehearsal.roles.items()])
    console.print()
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for name in ("at", "to", "is told", "good"):
        table.add_column(name, overflow="fold")
    for one in rehearsal.injects:
        cells = (format_duration(one.at), one.to, one.tell, one.good)
        table.add_row(*(Text(printable(cell, 2_000)) for cell in cells))
    console.print(table)
    _section(console, "what good looks like, by the end", rehearsal.good)
    console.print()
    _line(console, "afterwards: probe drill people FILE --took-part anna=ROLE … --learned …")


def _section(console: Console, title: str, lines: Sequence[str]) -> None:
    console.print()
    _line(console, title, "bold")
    for line in lines:
        _line(console, f"  {line}")


def _line(console: Console, text: str, style: str = "") -> None:
    if text:
        console.print(Text(printable(text, 2_000), style=style), soft_wrap=True)
