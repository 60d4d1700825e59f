"""A drill file, or a Chaos Toolkit experiment, → a Drill, or every mistake in it at once, each with its place; those of its
scenario and of its faults' parameters among them.

Nothing is opened but the drill and its scenario. What a fault asks for under `with:` is its own to say (`faults/base.Params`);
its mistakes stand where they were written. The scenario is looked for beside the drill, in the folder above it, and among those
that come along.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from probe.drill.core.check import Uses, findings, gate_condition, objective_condition, scenario_findings, unknown_kind
from probe.drill.core.file import NEEDED, Drill, FaultUse, Steady, Traffic
from probe.drill.faults.base import Params
from probe.drill.faults.table import fault, known
from probe.drill.toolkit.experiment import NAME, drill_data, is_experiment
from probe.drivers.vocabulary import vocabulary
from probe.errors import ConfigError, Located
from probe.scenario.gates import Expression
from probe.scenario.load import load
from probe.scenario.located import UNSET, dotted, read, validated, with_env
from probe.scenario.schema import Scenario
from probe.scenario.text import Document, Path, parse
from probe.scenario.units import describe

PACKAGED = FilePath(__file__).resolve().parent.parent / "_scenarios"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A drill that can be prepared: with its scenario, the parameters of each fault by its name, and where things stand."""

    drill: Drill
    scenario: Scenario
    params: Mapping[str, Params]
    file: FilePath
    scenario_file: FilePath
    document: Document

    def mistake(self, path: Path, message: str, *, key: bool = False) -> Located:
        """Of what stands at `path`, for people."""
        document = Document(self.document.file, self.document.data, self.document.values, self.document.keys)
        document.mistake(path, message, _where(path), key=key)
        return document.mistakes[0]

    def of(self, name: str, *inside: str) -> Path:
        """The place of a fault in the file, or of something within it."""
        index = next(index for index, use in enumerate(self.drill.method) if use.name == name)
        return ("method", index, name, *inside)


def load_drill(path: str | FilePath, *, env: Mapping[str, str] | None = None) -> Drill:
    """Read a drill file, its scenario's regions filled in. Raises ConfigError with all mistakes."""
    return load_whole(path, env=env).drill


def load_whole(
    path: str | FilePath,
    *,
    env: Mapping[str, str] | None = None,
    sets: Mapping[str, str] | None = None,
    kinds: Sequence[str] = (),
    kind: Callable[[str], Any] = fault,
) -> Loaded:
    """`load_drill` with all that was read. `env`: the process's environment unless given; `sets`: `--set a.b=c` of the scenario;
    `kinds`: faults there are, all unless given; `kind`: from a name to one. Raises ConfigError with all mistakes, those of the
    scenario last."""
    return _Loader(FilePath(path), os.environ if env is None else env, kinds or known(), kind).load(sets or {})


def find_scenario(drill: FilePath, name: str) -> FilePath | None:
    """The scenario that a drill names; None where it is nowhere."""
    written = FilePath(name)
    above = drill.parent.parent if drill.parent.name not in ("", "..") else drill.parent / ".."
    beside = (drill.parent, above)
    places = [folder / (name + end) for folder in beside for end in ("", ".yaml")]
    if len(written.parts) == 1:
        places += [PACKAGED / (name + end) for end in ("", ".yaml")]
    return next((place for place in places if place != drill and os.path.isfile(place)), None)


class _Loader:
    def __init__(self, file: FilePath, env: Mapping[str, str], kinds: Sequence[str], kind: Callable[[str], Any]) -> None:
        self._file = file
        self._env = env
        self._kinds = kinds
        self._kind = kind
        self._document = parse(read(file), str(file))
        self._params: dict[str, Params] = {}

    def load(self, sets: Mapping[str, str]) -> Loaded:
        document = self._document
        others: list[Located] = []
        loaded = None
        if isinstance(document.data, dict) and "rehearsal" in document.data:
            message = f"a rehearsal of people has no fault: probe drill people {document.file}"
            document.mistake(("rehearsal",), message, "rehearsal", key=True)
        elif isinstance(document.data, dict):
            document.data = with_env(document, document.data, self._env, _where)
            if is_experiment(document.data):
                _as_drill(document)
            loaded = self._whole(document.data, sets, others)
        elif not document.mistakes:
            what = "is empty" if document.data is None else f"is {describe(document.data)}, not a mapping that begins with drill:"
            document.mistakes.append(Located(document.file, 0, 0, "", what))
        if loaded is None or document.mistakes or others:
            own = sorted(dict.fromkeys(document.mistakes), key=lambda mistake: (mistake.line, mistake.column))
            raise ConfigError([*own, *dict.fromkeys(others)])
        return loaded

    def _whole(self, data: dict[str, Any], sets: Mapping[str, str], others: list[Located]) -> Loaded | None:
        uses = self._uses(data.get("method"))
        present = {field: value for field, value in data.items() if field not in NEEDED or value}
        rest = {**present, "method": [use for _, use in uses.values() if use is not None]}
        placeholder = {} if "steady" in present else {"steady": _STEADY}
        drill = validated(self._document, Drill, {**rest, **placeholder}, where=_where)
        self._tell(*findings(data, uses))
        scenario, file = self._scenario(data.get("scenario"), sets, others)
        if scenario is None or file is None:
            return None
        traffic = drill.traffic if drill is not None else self._traffic(data.get("traffic"))
        self._tell(*scenario_findings(data, traffic, scenario))
        if drill is None or self._document.mistakes:
            return None
        return Loaded(completed(drill, scenario), scenario, self._params, self._file, file, self._document)

    def _uses(self, method: Any) -> Uses:
        uses: dict[int, tuple[str, FaultUse | None]] = {}
        if method is not None and not isinstance(method, list):
            message = f"expected a list of faults, got {describe(method)}"
            self._document.mistake(("method",), message, "method")
        for index, item in enumerate(method if isinstance(method, list) else ()):
            path: Path = ("method", index)
            if not isinstance(item, dict) or len(item) != 1:
                message = f"expected a fault such as `origin-killed: {{fault: process, for: 8s}}`, got {describe(item)}"
                if isinstance(item, dict):
                    message = f"a fault is one name and its body, but here are {len(item)} keys; indent the body deeper"
                self._document.mistake(path, message, _where(path))
                continue
            ((name, body),) = item.items()
            path = (*path, name)
            if not isinstance(body, dict):
                self._document.mistake(
                    path, f"expected a mapping such as {{fault: process, for: 8s}}, got {describe(body)}", _where(path)
                )
                continue
            use = validated(self._document, FaultUse, {**body, "name": name}, prefix=path, where=_where)
            uses[index] = name, use
            if "name" in body:
                place = (*path, "name")
                self._document.mistake(place, "unknown field; a fault's key is its name", _where(place), key=True)
            self._ask(name, body, (*path, "with"))
        return uses

    def _ask(self, name: str, body: Mapping[str, Any], path: Path) -> None:
        """The parameters, by the fault's own word; also where the rest of it is wrong."""
        named = body.get("fault")
        if not isinstance(named, str) or UNSET in named:
            return
        place = (*path[:-1], "fault")
        try:
            message = "" if named in self._kinds else unknown_kind(named, self._kinds)
            model = Params if message else self._kind(named).params
        except ImportError as error:
            message = f"{named} cannot be used here: {error}"
        if message:
            self._document.mistake(place, message, _where(place))
            return
        params = validated(self._document, model, body.get("with") or {}, prefix=path, where=_where)
        if params is not None:
            self._params[name] = params

    def _scenario(self, named: Any, sets: Mapping[str, str], others: list[Located]) -> tuple[Scenario | None, FilePath | None]:
        if not isinstance(named, str) or not named or UNSET in named:
            return None, None
        file = find_scenario(self._file, named)
        if file is None:
            message = f"{describe(named)} is no scenario here; name a file beside this one, or one that comes along (room-start)"
            self._document.mistake(("scenario",), message, "scenario")
            return None, None
        try:
            return load(file, env=self._env, sets=sets, words=vocabulary()), file
        except ConfigError as error:
            others += error.mistakes
            return None, None

    def _traffic(self, value: Any) -> Traffic:
        """As written where that is right, so that what follows from it is told in the same breath."""
        try:
            return Traffic.model_validate(value or {})
        except ValueError:
            return Traffic()

    def _tell(self, *found: Any) -> None:
        for finding in found:
            if UNSET not in finding.message:
                self._document.mistake(
                    finding.path, finding.message, _where(finding.path), key=finding.key, offset=finding.offset
                )


def _as_drill(document: Document) -> None:
    """A Chaos Toolkit experiment as what a drill file would say; what stands in its extension of ours keeps its place."""
    extensions = document.data.get("extensions")
    for index, extension in enumerate(extensions if isinstance(extensions, list) else ()):
        own: Path = ("extensions", index, "drill")
        if isinstance(extension, dict) and extension.get("name") == NAME:
            for places in (document.values, document.keys):
                places |= {path[len(own) :]: place for path, place in places.items() if path[: len(own)] == own}
    document.data = drill_data(document.data)


_STEADY = Steady(objectives=("placeholder",))  # stands where none was written


def completed(drill: Drill, scenario: Scenario) -> Drill:
    """With the scenario's regions where it names none, and with what the objectives and gates that it names ask for."""
    objectives = {one.name: one for one in scenario.objectives}
    gates = {one.name: one for one in scenario.gates}
    asked = [objective_condition(objectives[name]) for name in drill.steady.objectives]
    asked += [gate_condition(gates[name]) for name in drill.steady.gates]
    said: list[Expression] = [one for one in asked if one is not None]
    steady = drill.steady.model_copy(update={"of": (*drill.steady.of, *said)})
    return drill.model_copy(update={"steady": steady, "regions": drill.regions or scenario.regions})


def _where(path: Path) -> str:
    """A path for people: faults by their names."""
    return dotted(path[2:] if path[:1] == ("method",) and len(path) > 2 else path)
