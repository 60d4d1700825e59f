"""Recorded runs for a backtest: agents' stores, or verdict.json documents a line each; and what is known to have been wrong.

What a store says of objectives stands in the verdicts it keeps (`keep_reports`), so a history reaches back as far as they do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from probe.cli.trace import records_url
from probe.clock import SystemClock
from probe.errors import ConfigError, Located
from probe.model.clock import NS
from probe.rules.fleet import Fleet
from probe.rules.history import About, History, Incident, Needs, Place
from probe.rules.recorded import Recorded, of_verdict, recorded
from probe.scenario.fields import Model
from probe.scenario.located import read, validated
from probe.scenario.text import parse
from probe.store.errors import StoreRefused
from probe.store.reader import Records

DAY = 86_400 * NS


def since(days: float) -> int:
    """Unix ns, so many days ago."""
    clock = SystemClock()
    return clock.wall(clock.now()).unix_ns - int(days * DAY)


async def read_stores(settings: Sequence[str], fleet: Fleet, began: int, known: Sequence[Incident] | None) -> History:
    """The scheduled runs that ended after Unix ns `began`, of all these stores: each a file, a URL, where one is (env:NAME), or
    an agent.yaml. Raises StoreError, ConfigError."""
    runs: dict[str, list[Recorded]] = {}  # by run: agents may share a store
    try:
        for setting in settings:
            async with Records.reading(_url(setting), SystemClock()) as records:
                before = ""
                while page := await records.verdicts(began, before):
                    before = page[-1].run_id
                    runs |= {
                        one.run_id: of_verdict(json.loads(one.verdict_json), one.ended_ns) for one in page if one.verdict_json
                    }
    except StoreRefused as error:
        raise ConfigError([Located("--from-store", 0, 0, "", str(error))]) from error
    found = [run for several in runs.values() for run in several]
    return _history("recorded", fleet, found, known, "--from-store", "no scheduled run has its verdict there; see keep_reports")


def _url(setting: str) -> str:
    """A store, or an agent.yaml that says where it is."""
    if setting.endswith((".yaml", ".yml")):
        return records_url(None, Path(setting), os.environ)
    return records_url(setting, None, os.environ)


def read_lines(file: Path, fleet: Fleet, known: Sequence[Incident] | None) -> History:
    """verdict.json documents, one a line. Raises ConfigError with the first line that is none."""
    runs: list[Recorded] = []
    for number, line in enumerate(read(file).splitlines(), 1):
        if line.strip():
            try:
                document = json.loads(line)
                runs += of_verdict(document, _instant(document["evaluated_at"]))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                message = "is not a verdict.json in one line; write `jq -c . verdict.json >> runs.jsonl`"
                raise ConfigError([Located(str(file), number, 1, "", message)]) from None
    return _history(file.stem, fleet, runs, known, str(file), "holds no scheduled run")


def _history(
    name: str, fleet: Fleet, runs: Sequence[Recorded], known: Sequence[Incident] | None, place: str, nothing: str
) -> History:
    if not any(run.outcomes for run in runs):
        raise ConfigError([Located(place, 0, 0, "", nothing)])
    times = [run.at for run in runs]
    made = recorded(name, fleet, runs, min(times) - 1, max(times) + 1)
    return made if known is None else replace(made, incidents=tuple(known))


def _time(value: Any) -> int:
    """From RFC 3339, or what YAML takes for a time."""
    if isinstance(value, datetime):
        value = value.isoformat()
    if not isinstance(value, str):
        raise ValueError("is not a time; write 2026-11-21T09:00:00Z")
    return _instant(value)


def _instant(text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a time; write 2026-11-21T09:00:00Z") from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return int(found.timestamp()) * NS + found.microsecond * 1000


class _Known(Model):
    """One thing that was wrong."""

    name: str = Field("incident", description="What it was.")
    began: Annotated[int, BeforeValidator(_time)] = Field(alias="from", description="Since when.")
    ended: Annotated[int, BeforeValidator(_time)] = Field(alias="to", description="Until when.")
    region: str = ""
    publish_region: str = ""
    protocol: str = ""
    scenario: str = ""
    needs: Needs = Needs.PAGE
    about: About = About.PLATFORM


class _KnownFile(Model):
    incidents: tuple[_Known, ...]


def incidents_at(file: Path) -> list[Incident]:
    """What is known to have been wrong, from a file. Raises ConfigError with its mistakes."""
    document = parse(read(file), str(file))
    data = document.data if isinstance(document.data, dict) else {"incidents": document.data}
    found = validated(document, _KnownFile, data)
    if found is None or document.mistakes:
        raise ConfigError(document.mistakes)
    return sorted((_incident(one) for one in found.incidents), key=lambda i: i.began)


def _incident(one: _Known) -> Incident:
    place = Place(publish_region=one.publish_region, region=one.region, protocol=one.protocol, scenario=one.scenario)
    return Incident(name=one.name, began=one.began, ended=one.ended, place=place, needs=one.needs, about=one.about)
