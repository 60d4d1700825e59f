"""The last good build: verdict.json files of earlier runs, read as what somebody may have garbled.

A path is such a file, an `--out` directory, or a directory of those (as a CI job keeps them); the more runs, the sooner a
difference shows. A file that cannot be used is an error before anything is opened: whoever names a last good build must not get a
comparison without it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from probe.errors import ConfigError, Located
from probe.judge.compare_figures import Document, RunFigures, figures_of
from probe.model.comparison import Place

_NAME = "verdict.json"
_MOST_BYTES = 64 << 20
_MOST_FILES = 500  # the latest
_MOST_MISTAKES = 3  # told of a file


@dataclass(frozen=True, slots=True)
class Former:
    """Runs of the build before, the addresses they were made at, the probes that made them, and what to bear in mind of them."""

    runs: tuple[RunFigures, ...]
    targets: frozenset[str]
    notes: tuple[str, ...]
    probes: frozenset[str] = frozenset()

    def require(self, places: Iterable[Place]) -> None:
        """Raises ConfigError where none of its runs can be compared with runs of these places."""
        wanted, there = set(places), {run.place for run in self.runs}
        if not wanted & there:
            words = f"has runs of {_listed(there)}; these are of {_listed(wanted)}: nothing can be compared"
            raise ConfigError([Located("--compare", 0, 0, "", words)])


def read_former(paths: Sequence[Path]) -> Former:
    """All runs of all these. Raises ConfigError, with every file that cannot be used."""
    runs: list[RunFigures] = []
    targets: set[str] = set()
    probes: set[str] = set()
    notes: list[str] = []
    mistakes: list[Located] = []
    for path in paths:
        try:
            for file in _files(path):
                document = _read(file)
                runs += figures_of(document)
                targets.add(document.target)
                probes.add(document.probe.version)
                if document.result in ("fail", "inconclusive"):
                    notes.append(f"{file} was no go itself ({document.result})")
        except ConfigError as error:
            mistakes += error.mistakes
    if not runs and not mistakes:
        mistakes.append(Located(str(paths[0]), 0, 0, "--compare", "holds no run"))
    if mistakes:
        raise ConfigError(mistakes)
    return Former(tuple(runs), frozenset(filter(None, targets)), tuple(notes), frozenset(filter(None, probes)))


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        _refuse(path, "is neither a verdict.json nor a directory with one")
    if (path / _NAME).is_file():
        yield path / _NAME
        return
    try:
        found = [file for pattern in (f"*/{_NAME}", f"*/*/{_NAME}") for file in path.glob(pattern) if file.is_file()]
        found.sort(key=lambda file: file.stat().st_mtime)
    except OSError as error:
        _refuse(path, f"cannot be read: {error.strerror}")
    if not found:
        _refuse(path, f"holds no {_NAME}, nor do its directories")
    yield from found[-_MOST_FILES:]


def _read(file: Path) -> Document:
    try:
        with file.open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        _refuse(file, f"cannot be read: {error.strerror}")
    if len(data) > _MOST_BYTES:
        _refuse(file, f"is larger than {_MOST_BYTES >> 20} MiB; no verdict.json is")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        _refuse(file, f"is no JSON: {error}")
    if not isinstance(found, dict) or "schema_version" not in found or "runs" not in found:
        _refuse(file, "is no verdict.json of `probe smoke` or `probe run`")
    if found["schema_version"] != 1:
        _refuse(file, f"is of schema_version {str(found['schema_version'])[:20]}; this program reads 1")
    try:
        return Document.model_validate(found)
    except ValidationError as error:
        told = error.errors(include_url=False, include_input=False)
        mistakes = [Located(str(file), 0, 0, ".".join(map(str, one["loc"])), one["msg"].lower()) for one in told[:_MOST_MISTAKES]]
        raise ConfigError(mistakes) from None


def _refuse(file: Path, why: str) -> NoReturn:
    raise ConfigError([Located(str(file), 0, 0, "--compare", why)])


def _listed(places: set[Place]) -> str:
    return ", ".join(f"{place.scenario} ({place.publish_region} → {place.region})" for place in sorted(places)[:5])
