"""YAML text → plain data that knows where each value stands.

Built from ruamel's event stream instead of its constructor: every duplicate key is seen (not the first alone), every
key and value keeps its line and column, and the bounds (size, depth, values, aliases expanded) hold while reading, so
that a bomb is refused before it is memory. Scalars follow the YAML 1.2 core schema without octals: no dates, no `yes`.
Tags, several documents and merge keys are refused: nobody reading a scenario should need to know them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from probe.errors import Located

MAX_BYTES = 1 << 20
MAX_VALUES = 20_000
MAX_DEPTH = 32
Path = tuple[str | int, ...]

_INT = re.compile(r"[-+]?\d{1,18}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column, from 1. `quote` is how far a quoted scalar's text starts behind its place; None: not on one line."""

    line: int
    column: int
    quote: int | None = 0


@dataclass(slots=True)
class Document:
    """Plain data, the place of every value by path, and of every key."""

    file: str
    data: Any = None
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    mistakes: list[Located] = field(default_factory=list)
    overridden: dict[Path, str] = field(default_factory=dict)  # path → the `--set …` that put a value there

    def real(self, path: Path) -> Path:
        """`path` without the indices of lists that stand in the file as one thing alone."""
        out: Path = ()
        for part in path:
            if not isinstance(part, int) or (*out, part) in self.values:
                out = (*out, part)
        return out

    def mistake(self, path: Path, message: str, where: str = "", *, key: bool = False, offset: int | None = None) -> None:
        """Add a mistake about what stands at `path` (or the nearest thing that exists above it).

        `key` points at the key rather than the value; `offset` counts characters into a scalar's text."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.overridden:
                self.mistakes.append(Located(self.overridden[path[:length]], 0, 0, where, message))
                return
        while path and path not in self.values:
            path = path[:-1]
        place = (self.keys.get(path) if key else None) or self.values.get(path) or Place(0, 0)
        column = place.column
        if offset is not None and place.quote is not None:
            column += place.quote + offset
        self.mistakes.append(Located(self.file, place.line, column, where, message))


class _Refused(Exception):
    def __init__(self, mark: Any, message: str) -> None:
        self.mark = mark
        super().__init__(message)


def parse(text: str, file: str) -> Document:
    """Read one YAML document. What is wrong with the YAML itself ends up in `mistakes`, with `data` None."""
    document = Document(file)
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        document.mistakes.append(Located(file, 0, 0, "", "is larger than 1 MiB; a scenario is a page of text"))
        return document
    try:
        _Builder(document, YAML(typ="safe", pure=True).parse(text)).build()
    except _Refused as refused:
        document.mistakes.append(Located(file, refused.mark.line + 1, refused.mark.column + 1, "", str(refused)))
        document.data = None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (-1, -1)
        document.mistakes.append(Located(file, line + 1, column + 1, "", _explain(error, text, line, column)))
        document.data = None
    except ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        document.mistakes.append(Located(file, line, column, "", "is not YAML: a character that text does not have"))
        document.data = None
    except (YAMLError, ValueError, OverflowError):  # ruamel hands on what chr() says of an escape
        document.mistakes.append(Located(file, 0, 0, "", "is not YAML: it has an escape or directive that means nothing"))
        document.data = None
    return document


def _explain(error: MarkedYAMLError, text: str, line: int, column: int) -> str:
    lines = text.splitlines()
    near = lines[line] if 0 <= line < len(lines) else ""
    if near[max(0, column - 1) : column + 1] == "${":
        return 'a variable inside { } or [ ] must be quoted: write "${…}"'
    if "\t" in near[: column + 1]:
        return "is indented with a tab; YAML wants spaces"
    return f"is not YAML: {error.problem or error.context}"


class _Builder:
    def __init__(self, document: Document, events: Iterator[Event]) -> None:
        self._document = document
        self._events = events
        self._anchors: dict[str, tuple[Any, Path]] = {}
        self._count = 0

    def build(self) -> None:
        documents = 0
        for event in self._events:
            if isinstance(event, ScalarEvent | MappingStartEvent | SequenceStartEvent):
                documents += 1
                if documents > 1:
                    raise _Refused(event.start_mark, "a second document begins here; one file holds one scenario")
                self._document.data = self._value(event, ())

    def _value(self, event: Any, path: Path) -> Any:
        mark = event.start_mark
        self._counted(mark)
        if len(path) > MAX_DEPTH:
            raise _Refused(mark, f"is nested deeper than {MAX_DEPTH} levels")
        quoted = isinstance(event, ScalarEvent) and event.style in ("'", '"')
        one_line = event.end_mark.line == mark.line and getattr(event, "style", None) not in ("|", ">")
        self._document.values[path] = Place(mark.line + 1, mark.column + 1, int(quoted) if one_line else None)
        if isinstance(event, AliasEvent):
            return self._alias(event, path)
        if isinstance(event, ScalarEvent) and any("\ud800" <= c <= "\udfff" for c in event.value):
            raise _Refused(mark, "half a character (a lone surrogate) is not text")
        if event.tag is not None:
            raise _Refused(mark, "tags (!…) are not used in a scenario")
        value: Any
        if isinstance(event, ScalarEvent):
            value = scalar(event.value) if event.implicit[0] else event.value
        elif isinstance(event, SequenceStartEvent):
            value = self._sequence(path)
        else:
            value = self._mapping(path)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, path)
        return value

    def _sequence(self, path: Path) -> list[Any]:
        out: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            out.append(self._value(event, (*path, len(out))))
        return out

    def _mapping(self, path: Path) -> dict[str, Any]:
        out: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            mark = event.start_mark
            if not isinstance(event, ScalarEvent):
                raise _Refused(mark, 'a key must be plain text; a variable inside { } must be quoted: write "${…}"')
            if event.value == "<<" and event.implicit[0]:
                raise _Refused(mark, "merge keys (<<) are not used in a scenario; write the fields out")
            key = event.value
            if key in out:
                first = self._document.keys[(*path, key)]
                message = f"duplicate key {key!r}; the first is on line {first.line}"
                self._document.mistakes.append(Located(self._document.file, mark.line + 1, mark.column + 1, "", message))
                self._value(next(self._events), (*path, f"{key} (again)"))
                continue
            self._document.keys[(*path, key)] = Place(mark.line + 1, mark.column + 1)
            out[key] = self._value(next(self._events), (*path, key))
        return out

    def _alias(self, event: AliasEvent, path: Path) -> Any:
        if event.anchor not in self._anchors:
            raise _Refused(event.start_mark, f"alias *{event.anchor} refers to nothing before it")
        value, _ = self._anchors[event.anchor]
        return self._copy(value, event.start_mark, path)

    def _copy(self, value: Any, mark: Any, path: Path) -> Any:
        """Aliases are expanded, so that an expansion costs what it says and is counted."""
        self._counted(mark)
        if isinstance(value, dict):
            return {k: self._copy(v, mark, (*path, k)) for k, v in value.items()}
        if isinstance(value, list):
            return [self._copy(v, mark, (*path, i)) for i, v in enumerate(value)]
        return value

    def _counted(self, mark: Any) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _Refused(mark, f"holds more than {MAX_VALUES} values, aliases expanded")


def scalar(text: str) -> Any:
    """A plain scalar by the YAML 1.2 core schema: null, true, false, integers, decimals, else text."""
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def override(document: Document, key: str, text: str) -> None:
    """Put a value where `--set key=text` says. Keys are joined by dots; a list takes an index, or a step's name.

    `text` is YAML: `3`, `5s`, `[eu, us]`. What is wrong ends up in `mistakes`, under the name of the option."""
    name = f"--set {key}"
    value = parse(text, name)
    if value.mistakes:
        document.mistakes.extend(value.mistakes)
        return
    parts = key.split(".")
    target: Any = document.data
    path: Path = ()
    for depth, part in enumerate(parts):
        place = _child(target, part)
        if place is None or (depth + 1 < len(parts) and place[1] is None and not isinstance(target, dict)):
            document.mistakes.append(Located(name, 0, 0, ".".join(parts[: depth + 1]), "there is no such place in the scenario"))
            return
        steps, inner = place
        path = (*path, *steps)
        for step in steps[:-1]:
            target = target[step]
        if depth + 1 == len(parts):
            target[steps[-1]] = value.data
        elif inner is None:
            target[steps[-1]] = {}
            document.overridden[path] = name
        target = target[steps[-1]]
    document.overridden[path] = name


def _child(target: Any, part: str) -> tuple[Path, Any] | None:
    """The way from `target` to its child called `part`, and what is there (None: nothing yet)."""
    if isinstance(target, dict):
        return (part,), target.get(part)
    if isinstance(target, list):
        if part.isdecimal() and int(part) < len(target):
            return (int(part),), target[int(part)]
        for index, item in enumerate(target):
            if isinstance(item, dict) and list(item) == [part]:
                return (index, part), item[part]
    return None
