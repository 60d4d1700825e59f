"""Objectives in files of their own: for whoever promises something and does not write the scenario.

    scenario: room-start
    owner: media-sre            # of all that name no other
    objectives:
      - {name: room-start, indicator: room_start, target: 99.5%, window: 30d, action: …}

or OpenSLO v1 documents (`openslo`), several in one file. agent.yaml names them, whose agent judges its runs by them: an alert on
what no agent counts would never fire.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from pydantic import Field

from probe.errors import ConfigError, Located
from probe.scenario.fields import Model, Name
from probe.scenario.jsonschema import schema_of
from probe.scenario.located import dotted, read, validated, with_env
from probe.scenario.objective import Objective
from probe.scenario.openslo import is_openslo, take
from probe.scenario.promised import produced_by, unfit
from probe.scenario.schema import Scenario
from probe.scenario.text import Document, Path, parse
from probe.scenario.units import describe

_BREAK = re.compile(r"^---[ \t]*(#.*)?$", re.MULTILINE)


class ObjectivesFile(Model):
    """Promises on one scenario."""

    scenario: Name = Field(description="The scenario whose runs they judge.", examples=["room-start"])
    owner: str = Field("", description="Of those that name no other; default: the scenario's owner.", examples=["media-sre"])
    objectives: tuple[Objective, ...] = Field(description="Promises.")


@dataclass(frozen=True, slots=True)
class Placed:
    """An objective, the scenario it is of, and where each of its fields stands."""

    scenario: str
    objective: Objective
    document: Document
    path: Path
    fields: Mapping[str, Path] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """file:line, for whoever must mend it."""
        return f"{self.document.file}:{self.document.values[self.path].line}"

    def mistake(self, name: str, message: str) -> Located:
        """What is wrong with its field `name`."""
        path = self.fields.get(name, (*self.path, name))
        before = len(self.document.mistakes)
        self.document.mistake(path, message, dotted(path))
        return self.document.mistakes.pop(before)


@dataclass(frozen=True, slots=True)
class Objectives:
    """What a file promises; `notes`: what of it was passed over, a line each."""

    file: str
    placed: tuple[Placed, ...]
    notes: tuple[str, ...] = ()


def load_objectives(path: str | FilePath, *, env: Mapping[str, str]) -> Objectives:
    """Read one file. Raises ConfigError with all its mistakes."""
    text, file = read(path), str(path)
    placed: list[Placed] = []
    notes: list[str] = []
    mistakes: list[Located] = []
    for part in _documents(text):
        document = parse(part, file)
        if document.data is None and not document.mistakes:
            continue
        data = with_env(document, document.data, env)
        if is_openslo(data):
            found, passed = _openslo(document, data)
            placed += found
            notes += passed
        elif isinstance(data, dict):
            placed += _ours(document, data)
        elif not document.mistakes:
            message = f"is {describe(data)}, not a mapping that begins with scenario:, or an OpenSLO document"
            document.mistakes.append(Located(file, 0, 0, "", message))
        mistakes += document.mistakes
    if not placed and not mistakes:
        mistakes.append(Located(file, 0, 0, "", "promises nothing; begin with scenario:, or with apiVersion: openslo/v1"))
    seen: set[tuple[str, str]] = set()
    for one in placed:
        key = (one.scenario, one.objective.name)
        if key in seen:
            mistakes.append(one.mistake("name", f"another of the objectives is called {one.objective.name!r} already"))
        seen.add(key)
    if mistakes:
        raise ConfigError(sorted(dict.fromkeys(mistakes), key=lambda m: (m.line, m.column)))
    return Objectives(file, tuple(placed), tuple(notes))


def joined(scenario: Scenario, files: Iterable[Objectives]) -> Scenario:
    """The scenario with what files promise on it. Raises ConfigError where one cannot be measured, or stands there already."""
    own = [one for file in files for one in file.placed if one.scenario == scenario.name]
    produced = produced_by(scenario)
    mistakes: list[Located] = []
    names = {objective.name for objective in scenario.objectives}
    for one in own:
        if one.objective.name in names:
            message = f"another objective of {scenario.name} is called {one.objective.name!r} already"
            mistakes.append(one.mistake("name", message))
        names.add(one.objective.name)
        mistakes += (one.mistake(name, message) for name, message in unfit(one.objective, produced, scenario.regions))
    if mistakes:
        raise ConfigError(mistakes)
    return (
        scenario.model_copy(update={"objectives": (*scenario.objectives, *(one.objective for one in own))}) if own else scenario
    )


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of files of objectives, for editors."""
    return schema_of(ObjectivesFile, "stream-probe objectives")


def _documents(text: str) -> list[str]:
    """Each document of a stream, behind as many empty lines as stand before it: its places are the file's."""
    parts: list[str] = []
    at = 0
    for found in _BREAK.finditer(text):
        parts.append("\n" * text.count("\n", 0, at) + text[at : found.start()])
        at = found.end()
    return [*parts, "\n" * text.count("\n", 0, at) + text[at:]]


def _ours(document: Document, data: dict[str, Any]) -> list[Placed]:
    made = validated(document, ObjectivesFile, data)
    if made is None:
        return []
    return [
        Placed(made.scenario, one if one.owner else one.model_copy(update={"owner": made.owner}), document, ("objectives", i))
        for i, one in enumerate(made.objectives)
    ]


def _openslo(document: Document, data: dict[str, Any]) -> tuple[list[Placed], list[str]]:
    taken = take(data)
    name = str((data.get("metadata") or {}).get("name", "")) if isinstance(data.get("metadata"), dict) else ""
    line = document.values[()].line if () in document.values else 0
    about = f"{document.file}:{line} {data.get('kind')} {name}".rstrip()
    if taken is None:
        return [], [f"{about}: passed over, it promises nothing"]
    for path, message in taken.mistakes:
        document.mistake(path, message, dotted(path))

    def back(path: Path) -> Path:
        return (*taken.places.get(str(path[0]), ("metadata",)), *path[1:]) if path else ("metadata",)

    whole = {"name", "indicator", "target", "window"} <= taken.objective.keys()
    made = validated(document, Objective, taken.objective, back=back) if whole else None
    notes = [f"{about}: {note}" for note in taken.notes]
    return ([] if made is None or taken.mistakes else [Placed(taken.scenario, made, document, (), taken.places)]), notes
