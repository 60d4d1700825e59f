"""A scenario file → a Scenario, or every mistake in it at once, each with its place.

Nothing is opened but the file itself and, where asked, the files of its secrets, to see that they are there; their
contents stay unread here.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from probe.errors import ConfigError, Located
from probe.scenario.check import Entry, findings
from probe.scenario.devices import PRESET, Device, known_device, resolved
from probe.scenario.fields import DEFAULT_VOCABULARY, Vocabulary
from probe.scenario.schema import DEFAULT_VIEWS, Scenario
from probe.scenario.steps import MODELS, StepModel, Wait, shape
from probe.scenario.template import VARIABLE, fill_env
from probe.scenario.text import MAX_BYTES, Document, Path, override, parse
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
    file = str(path)
    try:
        with FilePath(path).open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([Located(file, 0, 0, "", f"cannot be read: {error.strerror or error}")]) from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        if len(raw) <= MAX_BYTES:
            raise ConfigError([Located(file, line, column, "", "is not UTF-8 text")]) from error
        text = raw.decode("utf-8", "replace")  # cut in the middle of a character: its size is the mistake
    return loads(text, file, env=env, sets=sets, words=words, secrets=secrets)


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
            document.data = self._with_env(document.data, ())
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

    def _with_env(self, value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return {k: self._with_env(v, (*path, k)) for k, v in value.items()}
        if isinstance(value, list):
            return [self._with_env(v, (*path, i)) for i, v in enumerate(value)]
        if not isinstance(value, str):
            return value
        text, unset = fill_env(value, self._env.get)
        for one in unset:
            self._document.mistake(path, one.message, _where(path), offset=one.at)
        # What cannot be filled would be found wrong a second time, as an address or a number.
        return _UNSET if unset else text

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
        for finding in findings(data, entries, self._words, missing):
            if _UNSET not in finding.message:
                where = _where(finding.path)
                self._document.mistake(finding.path, finding.message, where, key=finding.key, offset=finding.offset)
        return _without(scenario, missing) if isinstance(scenario, Scenario) else None

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
        return Entry(path, name, body, model if isinstance(model, StepModel) else None)

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
            devices[name] = model if isinstance(model, Device) else Device()
            if devices[name].like is not None:
                try:
                    known_device(devices[name].like or "", presets())
                except ValueError as error:
                    self._document.mistake((*path, "like"), str(error), _where((*path, "like")))
        return resolved(presets(), devices)

    def _model(self, model: type[BaseModel], data: Any, prefix: Path, back: Any) -> BaseModel | None:
        try:
            context = {"vocabulary": self._words, "devices": self._devices, "views": self._views}
            return model.model_validate(data, context=context)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                if detail.get("input") == _UNSET or (isinstance(detail.get("input"), str) and _UNSET in str(detail["input"])):
                    continue
                inside: Path = tuple(p for p in detail["loc"] if p != "[key]")
                named = inside == ("name",) and issubclass(model, StepModel)  # a step's name is its key
                path = prefix if named else self._document.real((*prefix, *back(inside)))
                key = named or detail["type"] == "extra_forbidden" or "[key]" in detail["loc"]
                cause = detail.get("ctx", {}).get("error")
                known = [(back((name,)) or (name,))[0] for name in _fields(_model_at(model, inside))] if key else []
                message = _explain(detail, [str(name) for name in known])
                self._document.mistake(path, message, _where(path), key=key, offset=getattr(cause, "at", None))
            return None

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


_UNSET = "\x00unset\x00"
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
    """A path for people: steps by their names, `view[0].via`."""
    if path[:1] and path[0] in _SECTIONS and len(path) > 2:
        path = path[2:]
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def _model_at(model: type[BaseModel], loc: Path) -> type[BaseModel] | None:
    """The model whose field the last part of `loc` is; None where that is not a model's."""
    current: type[BaseModel] | None = model
    for part in loc[:-1]:
        if current is None or isinstance(part, int):
            continue
        field = next((f for n, f in current.model_fields.items() if part in (n, f.alias)), None)
        if field is not None:
            current = _inner_model(field.annotation)
    return current


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        if (found := _inner_model(part)) is not None:
            return found
    return None


def _fields(model: type[BaseModel] | None) -> list[str]:
    if model is None:
        return []
    return [f.alias or n for n, f in model.model_fields.items() if n != "name" or not issubclass(model, StepModel)]


def _explain(detail: ErrorDetails, known: list[str]) -> str:
    """A pydantic error in our words: what is wrong and what would be right. `known`: fields there are."""
    value, context = detail.get("input"), detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            close = get_close_matches(str(detail["loc"][-1]), known, 1)
            return "unknown field; " + (f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}")
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return f"{describe(value)} is not one of {str(context['expected']).replace(chr(39), '').replace(' or ', ', ')}"
        case "string_type":
            hint = f'; quote it: "{value}"' if isinstance(value, int | float | bool) else ""
            return f"expected text, got {describe(value)}{hint}"
        case "string_pattern_mismatch":
            signs = "letters, digits and _" if context["pattern"] == VARIABLE else "letters, digits, _ and -"
            return f"{describe(value)} is not a name: {signs}, a letter first"
        case "string_too_short" | "too_short":
            return "is empty"
        case "tuple_type" | "list_type":
            return f"expected a list, got {describe(value)}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"expected a mapping, got {describe(value)}"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"expected a whole number, got {describe(value)}"
        case "bool_type" | "bool_parsing":
            return f"expected true or false, got {describe(value)}"
        case "greater_than_equal":
            return f"{describe(value)} is less than {context['ge']}"
        case "less_than_equal":
            return f"{describe(value)} is more than {context['le']}"
        case _:
            return detail["msg"][:1].lower() + detail["msg"][1:]
