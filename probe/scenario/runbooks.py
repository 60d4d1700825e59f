"""runbooks.yaml: what people add to the runbooks that are made, by alert, objective or kind of alert.

The made text is the same for everybody who runs live streaming; what is true of one platform, one region or one evening stands
here, beside fleet.yaml and under version control. A made file is never written into by hand: that would be lost. When a runbook
is due for review is a metric. Whether what is named here exists is for the generator to say, which knows the alerts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from pydantic import Field

from probe.errors import ConfigError, Located
from probe.scenario.fields import Model
from probe.scenario.jsonschema import schema_of
from probe.scenario.located import read, validated
from probe.scenario.oncall import Day
from probe.scenario.text import Path, parse
from probe.scenario.units import PositiveDuration, describe

FILE = "runbooks.yaml"
EVERY = 90 * 86_400 * 10**9
AFTER = 7 * 86_400 * 10**9


class Incident(Model):
    """A major incident in which the runbook was used, or was missed."""

    on: Day = Field(description="The day it ended.", examples=["2026-10-03"])
    what: str = Field(min_length=1, description="In a line.", examples=["apac ingest full: 40 minutes without new rooms"])
    link: str = Field("", pattern=r"^(https?://\S+)?$", description="Its post-mortem.", examples=["https://wiki.example/pm/17"])


class Note(Model):
    """What people add to the runbooks of one alert, objective or kind of alert."""

    text: str = Field("", description="Markdown, for all regions.", examples=["Packagers are drained by `ops drain`."])
    regions: dict[str, str] = Field({}, description="Markdown, by region.", examples=[{"apac": "Ingest is leased: call them."}])
    rollback: str = Field("", description="A further criterion for rolling back.", examples=["Always, in the first hour."])
    owner: str = Field(
        "", description="Who keeps the text right; default: above, else the alert's owner.", examples=["media-sre"]
    )
    reviewed: Day | None = Field(None, description="When somebody last read it through.", examples=["2026-11-02"])
    every: PositiveDuration | None = Field(None, description="How often it is read through.", examples=["90d"])
    incidents: tuple[Incident, ...] = Field(
        (), description="After each it is reviewed.", examples=[[{"on": "2026-10-03", "what": "apac: ingest full"}]]
    )


class Runbooks(Model):
    """The whole file."""

    owner: str = Field("", description="Who keeps texts right that say no other.", examples=["media-sre"])
    reviewed: Day | None = Field(
        None, description="When those that say no other were last read through.", examples=["2026-11-02"]
    )
    every: PositiveDuration = Field(EVERY, description="How often a text is read through.", examples=["90d"])
    after_incident: PositiveDuration = Field(AFTER, description="How soon after a major incident.", examples=["7d"])
    runbooks: dict[str, Note] = Field(
        {},
        description="By an alert's name, an objective's, a kind (burn, direct, silence, stale, taint, drill, watchdog) or `all`.",
        examples=[{"room-start": {"text": "The war room is #live-war-room.", "reviewed": "2026-11-02"}}],
    )


@dataclass(frozen=True, slots=True)
class NotesFile:
    """The file as read, and where in it things stand."""

    runbooks: Runbooks = field(default_factory=Runbooks)
    file: str = ""
    places: Mapping[Path, tuple[int, int]] = field(default_factory=dict)

    def mistake(self, path: Path, message: str) -> Located:
        """Of what stands at `path`, for people."""
        line, column = self.places.get(path, (0, 0))
        return Located(self.file, line, column, ".".join(map(str, path)), message)


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of runbooks.yaml, for editors."""
    return schema_of(Runbooks, "stream-probe runbooks")


def load_beside(fleet: str | FilePath) -> NotesFile:
    """The `FILE` beside a fleet.yaml; none is as good as an empty one. Raises ConfigError with all mistakes."""
    path = FilePath(fleet).parent / FILE
    return load_runbooks(path) if path.exists() else NotesFile()


def load_runbooks(path: str | FilePath) -> NotesFile:
    """Read the file. Raises ConfigError with all mistakes."""
    document = parse(read(path), str(path))
    found = None
    if isinstance(document.data, dict):
        found = validated(document, Runbooks, document.data)
    elif not document.mistakes:
        what = "is empty" if document.data is None else f"is {describe(document.data)}, not a mapping with runbooks:"
        document.mistakes.append(Located(document.file, 0, 0, "", what))
    if found is None or document.mistakes:
        raise ConfigError(sorted(dict.fromkeys(document.mistakes), key=lambda mistake: (mistake.line, mistake.column)))
    return NotesFile(found, document.file, {path: (place.line, place.column) for path, place in document.keys.items()})
