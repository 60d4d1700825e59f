"""agent.yaml with all it names, read: a configuration that can be run.

Every mistake at once, each with its line. It is taken whole or not at all: the scenarios are loaded and planned here, so that
what is wrong with one is found before it replaces what runs. Paths are relative to the file.

What each file was is noted before it is read: one that changes meanwhile is then seen as changed. Names are kept as they are
written, links and all, for it is the link that is moved where a whole folder is replaced (as Kubernetes does).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from probe.agent.config import Config, Scheduled
from probe.agent.schedule import Entry
from probe.agent.service.web_config import read_web_config
from probe.errors import ConfigError, Located
from probe.model.clock import NS
from probe.model.ids import new_run_ids
from probe.plan import Plan, PublishStep, ViewStep
from probe.planning import make_plan
from probe.rules.gate_queries import unfit
from probe.scenario.fields import Vocabulary
from probe.scenario.load import load
from probe.scenario.located import dotted, read, validated, with_env
from probe.scenario.objectives_file import Objectives, joined, load_objectives
from probe.scenario.schema import Scenario
from probe.scenario.text import Document, parse
from probe.scenario.units import describe

if TYPE_CHECKING:
    from probe.drill.campaigns_file import CampaignsFile

ENDING = 30 * NS  # what a run may take beyond its deadline: leaving, `finally` steps, undoing
_UNCODED = 2_500_000  # bit/s that a viewer of a room that is not ours is reckoned with


@dataclass(frozen=True, slots=True)
class Prepared:
    """A schedule with its scenario read, from `file`, and what is promised on it elsewhere. `bandwidth` in bit/s, reckoned from
    the scenario; `deadline` ns for all of a run."""

    settings: Scheduled
    file: Path
    scenario: Scenario
    entry: Entry
    bandwidth: int
    deadline: int
    protocols: tuple[str, ...] = ()  # that it views


class Unusable(ConfigError):
    """Mistakes, and the `files` that they were found in and beside, as Loaded has them: another digest may be without."""

    def __init__(self, mistakes: list[Located], files: Mapping[Path, str]) -> None:
        super().__init__(mistakes)
        self.files = files


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be run. `files` is what it was made of, by path, as digests: another digest, another one."""

    config: Config
    region: str
    state: Path
    web: Path | None
    schedules: Mapping[str, Prepared]
    files: Mapping[Path, str] = field(default_factory=dict)
    objectives: tuple[Objectives, ...] = ()
    drills: CampaignsFile | None = None

    def plan(self, name: str, unix_ns: int, rng: random.Random) -> Plan:
        """The next run of a schedule."""
        prepared = self.schedules[name]
        ids = new_run_ids(unix_ns // 1_000_000, rng)
        settings = prepared.settings
        return make_plan(
            prepared.scenario, self.region, rng.getrandbits(32), ids, mode=settings.mode, publish_region=settings.publish_region
        )


def load_config(
    path: Path, *, env: Mapping[str, str], words: Vocabulary, find: Callable[[Path], Path], here: bool = True
) -> Loaded:
    """Read agent.yaml and all it names. `words`: what the drivers can do; `find`: from a scenario's name to its file; `here`: on
    the machine it is for, whose own files and folders must be there. Raises Unusable with all mistakes of all files."""
    files: dict[Path, str] = {}
    try:
        return _load(path, files, env=env, words=words, find=find, here=here)
    except ConfigError as error:
        raise Unusable(error.mistakes, files) from error


def _load(
    path: Path, files: dict[Path, str], *, env: Mapping[str, str], words: Vocabulary, find: Callable[[Path], Path], here: bool
) -> Loaded:
    """Notes what it reads in `files`."""
    _note(files, path)
    document = parse(read(path), str(path))
    config = None
    if isinstance(document.data, dict):
        data = with_env(document, document.data, env)
        config = validated(document, Config, data)
    elif not document.mistakes:
        document.mistakes.append(Located(str(path), 0, 0, "", f"is {describe(document.data)}, not a mapping with schedules:"))
    if config is None or document.mistakes:
        raise ConfigError(sorted(dict.fromkeys(document.mistakes), key=lambda m: (m.line, m.column)))
    region = config.region or env.get("PROBE_REGION", "")
    if not region:
        document.mistake((), "say where this machine stands: region: …, or $PROBE_REGION", "region")
    schedules: dict[str, Prepared] = {}
    others: list[Located] = []
    promised = _promised(path, config, files, env, document, others)
    for name, settings in config.schedules.items():
        place: tuple[str | int, ...] = ("schedules", name, "scenario")
        beside = path.parent / settings.scenario
        file = beside if beside.exists() else find(Path(settings.scenario))
        _note(files, beside, file)
        try:
            scenario = load(file, env=env, sets={k: json.dumps(v) for k, v in settings.set.items()}, words=words)
            scenario = joined(scenario, promised)
            prepared = _prepared(config, name, settings, file, scenario, region)
            if config.budget.bandwidth is not None and prepared.bandwidth > config.budget.bandwidth:
                needs = f"needs {prepared.bandwidth / 1e6:.1f} Mbps, more than budget.bandwidth; it would never run"
                document.mistake(place, needs, dotted(place))
            schedules[name] = prepared
        except ConfigError as error:
            for mistake in error.mistakes:
                if mistake.line or mistake.file.startswith("--set"):
                    others.append(mistake)
                else:
                    document.mistake(place, f"{mistake.where}: {mistake.message}".lstrip(": "), dotted(place))
    known = {prepared.scenario.name for prepared in schedules.values()}
    for i, one in enumerate(promised if len(schedules) == len(config.schedules) else ()):
        if not known & {placed.scenario for placed in one.placed}:
            message = f"promises on {', '.join(sorted({p.scenario for p in one.placed}))}, of which no schedule makes runs"
            document.mistake(("objectives", i), f"{one.file} {message}", f"objectives[{i}]")
    if len(schedules) == len(config.schedules):
        _decided(config, schedules, document)
    drills = _drills(path, config, files, env, document, others)
    state = Path()
    try:
        state = state_directory(config.state, env, path.parent) if here else Path()
    except RuntimeError:  # a user without a home
        document.mistake((), "say where it is to keep what must survive it: state: /var/lib/…", "state")
    web = None if config.web is None else path.parent / config.web
    if web is not None and here:
        try:
            read_web_config(web)  # the service reads it for itself, now and when it changes
        except ConfigError as error:
            others += error.mistakes
    if document.mistakes or others:
        raise ConfigError([*sorted(dict.fromkeys(document.mistakes), key=lambda m: (m.line, m.column)), *dict.fromkeys(others)])
    return Loaded(config, region, state, web, schedules, files, tuple(promised), drills)


def _decided(config: Config, schedules: Mapping[str, Prepared], document: Document) -> None:
    """Gates that ask Prometheus can, and actions are of gates that there are."""
    gates = {gate.name for prepared in schedules.values() for gate in prepared.scenario.gates}
    for name, action in config.actions.items():
        for i, wanted in enumerate(action.gates):
            if wanted not in gates:
                known = f"there are {', '.join(sorted(gates))}" if gates else "no scenario here has one"
                place = ("actions", name, "gates", i)
                document.mistake(place, f"{describe(wanted)} is no gate of a scenario here; {known}", dotted(place))
    first: dict[str, tuple[str, Prepared]] = {}
    for name, prepared in schedules.items():
        other, before = first.setdefault(prepared.scenario.name, (name, prepared))
        if before.scenario.gates != prepared.scenario.gates:
            what = f"gates other things of {prepared.scenario.name!r} than {other} does; a gate is of all runs of its scenario"
            document.mistake(("schedules", name), what, f"schedules.{name}")
        for gate in prepared.scenario.gates:
            if gate.source == "prometheus":
                why = unfit(gate, prepared.scenario.objectives)
                if config.prometheus is None:
                    why = "it is from: prometheus, so say where that is: prometheus: {url: …}"
                if why:
                    document.mistake(("schedules", name, "scenario"), f"gate {gate.name}: {why}", f"schedules.{name}.scenario")


def _promised(
    path: Path,
    config: Config,
    files: dict[Path, str],
    env: Mapping[str, str],
    document: Document,
    others: list[Located],
) -> list[Objectives]:
    """The files of objectives; their mistakes into `others`, those of their names into the document."""
    found: list[Objectives] = []
    for i, name in enumerate(config.objectives):
        file = path.parent / name
        _note(files, file)
        place = ("objectives", i)
        try:
            found.append(load_objectives(file, env=env))
        except ConfigError as error:
            for mistake in error.mistakes:
                if mistake.line:
                    others.append(mistake)
                else:
                    document.mistake(place, f"{mistake.file} {mistake.message}", dotted(place))
    return found


def _drills(
    path: Path, config: Config, files: dict[Path, str], env: Mapping[str, str], document: Document, others: list[Located]
) -> CampaignsFile | None:
    """The calendar of drills, where it names one; its mistakes as `_promised` has them."""
    if config.drills is None:
        return None
    from probe.drill.campaigns_file import load_campaigns  # an agent without one does without the drills' modules

    file = path.parent / config.drills
    _note(files, file)
    try:
        found = load_campaigns(file, env=env)
    except ConfigError as error:
        others += [mistake for mistake in error.mistakes if mistake.line]
        for mistake in error.mistakes:
            if not mistake.line:
                document.mistake(("drills",), f"{mistake.file} {mistake.message}", "drills")
        return None
    _note(files, *(Path(known.file) for known in found.known))
    return found


def _note(files: dict[Path, str], *paths: Path) -> None:
    """As it is now, if it was not noted before."""
    for path in paths:
        if path.absolute() not in files:
            files |= fingerprint([path.absolute()])


def fingerprint(paths: Sequence[Path]) -> dict[Path, str]:
    """What stands in each file, as a digest; empty where it cannot be read."""
    digests = {}
    for path in paths:
        try:
            digests[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            digests[path] = ""
    return digests


def _prepared(config: Config, name: str, settings: Scheduled, file: Path, scenario: Scenario, region: str) -> Prepared:
    plan = make_plan(
        scenario, region, 0, new_run_ids(0, random.Random(0)), mode=settings.mode, publish_region=settings.publish_region
    )
    bandwidth = reckoned(plan)
    entry = Entry(
        name=name,
        scenario=scenario.name,
        when=settings.when,
        jitter=settings.jitter,
        bandwidth=bandwidth,
        only=tuple(times.window for times in settings.only),
        blackouts=tuple(times.window for times in config.blackouts),
        run_on_start=settings.run_on_start,
    )
    viewed = {view.protocol for step in plan.journey if isinstance(step, ViewStep) for view in step.views}
    return Prepared(settings, file, scenario, entry, bandwidth, plan.run_deadline + ENDING, tuple(sorted(viewed)))


def reckoned(plan: Plan) -> int:
    """The bit rate of everything a run publishes and views at once, as its scenario says it."""
    published = [step.bitrate for step in plan.journey if isinstance(step, PublishStep)]
    highest = max(published, default=_UNCODED)
    viewed = 0
    for step in plan.journey:
        for view in step.views if isinstance(step, ViewStep) else ():
            rate = highest if view.of else _UNCODED
            viewed += rate * view.count * (view.at_most if view.over else 1)
    return sum(published) + viewed


def state_directory(state: str | None, env: Mapping[str, str], beside: Path = Path()) -> Path:
    """Where an agent keeps what must survive it, given its own word on that in a file of the directory `beside`. Raises
    RuntimeError where nothing says it and there is no home."""
    if state is not None:
        return (beside / state).absolute()
    return Path(env.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()) / "stream-probe" / "agent"
