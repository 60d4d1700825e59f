"""A scenario file → a Scenario, or every mistake in it at once, each with its place.

Nothing is opened but the file itself and, where asked, the files of its secrets, to see that they are there; their
contents stay unread here.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

from probe.errors import ConfigError, Located
from probe.scenario.check import Entry, findings
from probe.scenario.devices import PRESET, Device, known_device, resolved
from probe.scenario.fields import DEFAULT_VOCABULARY, Vocabulary
from probe.scenario.located import UNSET, M, dotted, read, validated, with_env
from probe.scenario.promised import promise_findings
from probe.scenario.schema import DEFAULT_VIEWS, Scenario
from probe.scenario.srt import srt_findings
from probe.scenario.steps import MODELS, Wait, shape
from probe.scenario.text import Document, Path, override, parse
from probe.scenario.units import describe

_SECTIONS = ("journey", "finally")
PRESETS = FilePath(__file__).resolve().parent.parent / "_scenarios" / "devices.yaml"


@functools.cache
def presets() -> Mapping[str, Device]:
    """The devices that come with the product."""
    document = parse(PRESETS.read_text("utf-8"), str(PRESETS))
    if document.mistakes:
        raise ConfigError(document.mistakes)
    return {name: Device.model_validate(body, context={PRESET: True}) for name, body in document.data.items()}


def load(
    path: str | FilePath,
    *,
    env: Mapping[str, str] | None = None,
    sets: Mapping[str, str] | None = None,
    words: Vocabulary = DEFAULT_VOCABULARY,
    secrets: bool = False,
) -> Scenario:
    """Read a scenario file. `env` is the process's environment unless given; `sets` are `--set a.b=c`; `words` is what the
    caller's drivers can do; `secrets` also asks that every secret is there. Raises ConfigError with all mistakes."""
    return loads(read(path), str(path), env=env, sets=sets, words=words, secrets=secrets)


def loads(
    text: str,
    file: str = "scenario.yaml",
    *,
    env: Mapping[str, str] | None = None,
    sets: Mapping[str, str] | None = None,
    words: Vocabulary = DEFAULT_VOCABULARY,
    secrets: bool = False,
) -> Scenario:
    """`load` of a text; `file` is what messages call it."""
    return _Loader(parse(text, file), os.environ if env is None else env, words, secrets).load(sets or {})


class _Loader:
    def __init__(self, document: Document, env: Mapping[str, str], words: Vocabulary, secrets: bool) -> None:
        self._document = document
        self._env = env
        self._words = words
        self._secrets = secrets
        self._devices: Mapping[str, Device] = {}
        self._views: tuple[str, ...] = ()

    def load(self, sets: Mapping[str, str]) -> Scenario:
        document = self._document
        if isinstance(document.data, dict):
            for key, value in sets.items():
                override(document, key, value)
            document.data = with_env(document, document.data, self._env, _where)
            scenario = self._validate(document.data)
        else:
            scenario = None
            if not document.mistakes:
                message = (
                    "is empty"
                    if document.data is None
                    else f"is {describe(document.data)}, not a mapping that begins with scenario:"
                )
                document.mistakes.append(Located(document.file, 0, 0, "", message))
        if scenario is None or document.mistakes:
            raise ConfigError(sorted(dict.fromkeys(document.mistakes), key=lambda m: (m.line, m.column)))
        return scenario

    def _validate(self, data: dict[str, Any]) -> Scenario | None:
        self._devices = self._known_devices(data)
        platform = data.get("platform")
        views = platform.get("views") if isinstance(platform, dict) else None
        self._views = tuple(views) if isinstance(views, dict) and views else tuple(DEFAULT_VIEWS)
        entries: list[Entry] = []
        for section in _SECTIONS:
            steps = data.get(section, [])
            if not isinstance(steps, list):
                message = f"expected a list of steps, got {describe(steps)}"
                self._document.mistake((section,), message, section)
                steps = []
            for index, item in enumerate(steps):
                if (entry := self._entry((section, index), item)) is not None:
                    entries.append(entry)
        rest: dict[str, Any] = {**data, "devices": self._devices}
        for section in _SECTIONS:
            if section in data and (data[section] or not isinstance(data[section], list)):
                models = [e.model for e in entries if e.path[0] == section and e.model is not None]
                rest[section] = models or [_PLACEHOLDER]
        scenario = self._model(Scenario, rest, (), lambda path: path)
        missing = self._missing(data)
        known = self._env if self._secrets else {}
        found = (*findings(data, entries, self._words, missing), *srt_findings(entries, data, known))
        for finding in (*found, *promise_findings(data, entries)):
            if UNSET not in finding.message:
                where = _where(finding.path)
                self._document.mistake(finding.path, finding.message, where, key=finding.key, offset=finding.offset)
        return None if scenario is None else _without(scenario, missing)

    def _entry(self, path: Path, item: Any) -> Entry | None:
        if not isinstance(item, dict) or len(item) != 1:
            message = f"expected a step such as `login: {{http: POST /auth/login}}`, got {describe(item)}"
            if isinstance(item, dict):
                message = f"a step is one name and its body, but here are {len(item)} keys; indent the body deeper"
            self._document.mistake(path, message, _where(path))
            return None
        ((name, body),) = item.items()
        path = (*path, name)
        try:
            shaped = shape(name, body)
        except ValueError as error:
            self._document.mistake(path, str(error), _where(path), key=True)
            return Entry(path, name, body, None)
        model = self._model(MODELS[shaped.kind], {**shaped.body, "name": name}, path, shaped.back)
        if "name" in shaped.body:
            place = (*path, "name")
            self._document.mistake(place, "unknown field; a step's key is its name", _where(place), key=True)
        return Entry(path, name, body, model)

    def _known_devices(self, data: dict[str, Any]) -> Mapping[str, Device]:
        """Presets and the scenario's own. One that is wrong stands as if it said nothing, so that it is one mistake."""
        own = data.get("devices", {})
        if not isinstance(own, dict):
            self._document.mistake(("devices",), f"expected a mapping, got {describe(own)}", "devices")
            own = {}
        devices: dict[str, Device] = {}
        for name, body in own.items():
            path: Path = ("devices", name)
            model = self._model(Device, body, path, lambda inside: inside)
            devices[name] = model or Device()
            if devices[name].like is not None:
                try:
                    known_device(devices[name].like or "", presets())
                except ValueError as error:
                    self._document.mistake((*path, "like"), str(error), _where((*path, "like")))
        return resolved(presets(), devices)

    def _model(self, model: type[M], data: Any, prefix: Path, back: Callable[[Path], Path]) -> M | None:
        context = {"vocabulary": self._words, "devices": self._devices, "views": self._views}
        return validated(self._document, model, data, prefix=prefix, back=back, where=_where, context=context)

    def _missing(self, data: dict[str, Any]) -> frozenset[str]:
        """Optional secrets that are not there; those that must be are mistakes, where asked for."""
        platform = data.get("platform")
        secrets = platform.get("secrets") if isinstance(platform, dict) else None
        missing = set()
        for name, secret in secrets.items() if isinstance(secrets, dict) else ():
            if not isinstance(secret, dict):
                continue
            variable, file = secret.get("env"), secret.get("file")
            if isinstance(variable, str) and not self._env.get(variable):
                field, message = "env", f"environment variable {variable} is not set"
            elif isinstance(file, str) and not os.access(file, os.R_OK):
                field, message = "file", f"{file} cannot be read"
            else:
                continue
            if secret.get("optional") is True:
                missing.add(name)
            elif self._secrets:
                path = ("platform", "secrets", name, field)
                self._document.mistake(path, message, _where(path))
        return frozenset(missing)


_PLACEHOLDER = Wait(name="placeholder", wait="1s")  # stands where every step was wrong


def _without(scenario: Scenario, missing: frozenset[str]) -> Scenario:
    """The scenario without its missing optional secrets, and without the accounts that would have used them."""
    if not missing:
        return scenario
    gone = {f"${{secret.{name}}}" for name in missing}
    platform = scenario.platform
    return scenario.model_copy(
        update={
            "platform": platform.model_copy(
                update={
                    "secrets": {k: v for k, v in platform.secrets.items() if k not in missing},
                    "accounts": {k: v for k, v in platform.accounts.items() if v.token not in gone},
                }
            )
        }
    )


def _where(path: Path) -> str:
    """A path for people: steps by their names."""
    return dotted(path[2:] if path[:1] and path[0] in _SECTIONS and len(path) > 2 else path)
