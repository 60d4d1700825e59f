"""The drills and rehearsals that stand in folders, as a list: what each is called, who owns it, what it does.

Read lightly: neither their scenarios nor the environment that they are run in are asked, so that a calendar, an agent or a person
choosing gets an answer anywhere. What is wrong with one is its `problem`; `probe check` tells all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from probe.drill.core.calendar import Known
from probe.drill.core.file import Drill, FaultUse
from probe.drill.core.people import Rehearsal
from probe.drill.toolkit.experiment import drill_data, is_experiment
from probe.errors import ConfigError
from probe.scenario.located import read
from probe.scenario.text import parse
from probe.scenario.units import describe

ENDINGS = (".yaml", ".yml", ".json")
_MOST = 1_000  # files of a folder


def shelf(places: Iterable[Path]) -> tuple[Known, ...]:
    """Those in each folder, not below it, or in each file; other kinds of files are passed over. Raises OSError where a place is
    not there."""
    return tuple(known for file in _files(places) if (known := glance(file)) is not None)


def glance(file: Path) -> Known | None:
    """What a file is; None where it is neither drill nor rehearsal."""
    try:
        document = parse(read(file), str(file))
    except ConfigError as error:
        return _broken(file, str(error))
    data = document.data
    if document.mistakes:
        return _broken(file, str(document.mistakes[0]))
    if is_experiment(data):
        data = drill_data(data)
    if isinstance(data, dict) and "rehearsal" in data:
        return _rehearsal(file, data)
    return _drill(file, data) if isinstance(data, dict) and "drill" in data else None


def _files(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        if place.is_dir():
            yield from sorted(file for file in place.iterdir() if file.suffix in ENDINGS and file.is_file())[:_MOST]
        else:
            place.stat()
            yield place


def _broken(file: Path, problem: str) -> Known:
    return Known(name=file.stem, kind="drill", owner="", file=str(file), problem=problem.splitlines()[0])


def _rehearsal(file: Path, data: Mapping[str, Any]) -> Known:
    about = _about(file, data, "rehearsal")
    try:
        return Known(kind="people", length=Rehearsal.model_validate(data).lasts, **about)
    except ValidationError as error:
        return Known(kind="people", problem=_problem(error), **about)


def _drill(file: Path, data: Mapping[str, Any]) -> Known:
    method = data.get("method")
    items = [item for item in method if isinstance(item, dict) and len(item) == 1] if isinstance(method, list) else []
    bodies = [(name, body) for item in items for name, body in item.items() if isinstance(body, dict)]
    about = _about(file, data, "drill")
    about["faults"] = tuple(_words(body) for _, body in bodies)
    try:
        uses = [FaultUse.model_validate({**body, "name": name}) for name, body in bodies]
        return Known(kind="drill", length=Drill.model_validate({**data, "method": uses}).length, **about)
    except ValidationError as error:
        return Known(kind="drill", problem=_problem(error), **about)


def _about(file: Path, data: Mapping[str, Any], key: str) -> dict[str, Any]:
    tags = data.get("tags")
    listed = tags if isinstance(tags, list) else [tags]
    owner = data.get("owner")
    return {
        "name": str(data[key]),
        "owner": owner if isinstance(owner, str) else "",
        "tags": tuple(tag for tag in listed if isinstance(tag, str)),
        "file": str(file),
    }


def _words(body: Mapping[str, Any]) -> str:
    """A fault and what it is told, in a line."""
    told = body.get("with")
    shown = [f"{key}={_value(value)}" for key, value in told.items()] if isinstance(told, dict) else []
    return " ".join([str(body.get("fault")), *shown])


def _value(value: Any) -> str:
    if isinstance(value, dict):
        value = "{" + ", ".join(f"{key}: {_value(one)}" for key, one in value.items()) + "}"
    return value if isinstance(value, str) and len(value) <= 60 else describe(value)


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
