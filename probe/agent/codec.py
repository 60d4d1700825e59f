"""Facts as bytes and back: JSON lists, fields by place.

Not pickles: a worker decodes what strangers send, and what a trampled one writes must not make the agent call, build or reserve
anything but facts. Not `to_json`: it is made to be read in a year and by
others, and takes ten times as long. Here both ends are of one version, since one is forked from a child of the other.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from operator import attrgetter
from typing import Any, Union, get_args, get_origin

from probe.model.observation import Observation, Rung
from probe.model.outcome import Outcome

_OUTCOMES: tuple[type, ...] = get_args(Outcome)
_FACTS: tuple[type, ...] = get_args(Observation)
_TYPES: tuple[type, ...] = (*_FACTS, *_OUTCOMES, Rung)

_SCALARS = frozenset({str, int, float, bool, type(None)})


def encode(facts: typing.Sequence[Observation | Outcome]) -> bytes:
    return json.dumps([_SHAPES[type(fact)].taken(fact) for fact in facts], separators=(",", ":"), default=_plain).encode()


def decode_facts(data: bytes, parse_constant: Callable[[str], float] | None = None) -> list[Observation]:
    """Raises ValueError for anything but a list of facts. `parse_constant`: of NaN and the infinities, as json has it."""
    return [_built(one, _FACTS) for one in _loaded(data, parse_constant)]


def decode_outcome(data: bytes) -> Outcome:
    """Raises ValueError for anything but a list of one outcome."""
    (one,) = _loaded(data)
    return typing.cast(Outcome, _built(one, _OUTCOMES))


class _Shape:
    """How one class is taken apart and put together again."""

    def __init__(self, cls: type) -> None:
        hints = typing.get_type_hints(cls)
        self.cls = cls
        self.names = [field.name for field in fields(cls)]
        self._number = _TYPES.index(cls)
        self._get: Callable[[Any], Any] = attrgetter(*self.names) if self.names else lambda _: ()
        self._one = len(self.names) == 1
        self._nested = [place for place, name in enumerate(self.names) if _holds_ours(hints[name])]
        self._convert = [_converter(hints[name]) for name in self.names]

    def taken(self, value: Any) -> list[Any]:
        got = self._get(value)
        parts = [self._number, got] if self._one else [self._number, *got]
        for place in self._nested:
            parts[place + 1] = _apart(parts[place + 1])
        return parts

    def built(self, parts: list[Any]) -> Any:
        if len(parts) != len(self.names) + 1:
            raise ValueError(f"{self.cls.__name__} has {len(self.names)} fields")
        values = [
            convert(part) if convert is not None else part if type(part) in _SCALARS else _scalar(part)
            for convert, part in zip(self._convert, parts[1:], strict=True)
        ]
        return self.cls(**dict(zip(self.names, values, strict=True)))


def _loaded(data: bytes, parse_constant: Callable[[str], float] | None = None) -> list[Any]:
    try:
        loaded = json.loads(data, parse_constant=parse_constant)
    except RecursionError:
        raise ValueError("no facts are so deep") from None
    if not isinstance(loaded, list):
        raise ValueError("no list")
    return loaded


def _built(parts: Any, among: tuple[type, ...]) -> Any:
    if not isinstance(parts, list) or not parts or type(parts[0]) is not int or not 0 <= parts[0] < len(_TYPES):
        raise ValueError("no fact")
    cls = _TYPES[parts[0]]
    if cls not in among:
        raise ValueError(f"{cls.__name__} has no place there")
    return _SHAPES[cls].built(parts)


def _apart(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_apart(item) for item in value]
    return _SHAPES[type(value)].taken(value) if type(value) in _SHAPES else value


def _holds_ours(hint: Any) -> bool:
    return hint in _TYPES or any(_holds_ours(part) for part in get_args(hint))


def _converter(hint: Any) -> Callable[[Any], Any] | None:
    """From what JSON gives to what the field is declared as, or ValueError; None where that is any text or number."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    ours = tuple(part for part in parts if part in _TYPES)
    if ours:
        empty = type(None) in parts
        return lambda value: None if value is None and empty else _built(value, ours)
    if get_origin(hint) is tuple:
        each = _converter(get_args(hint)[0]) or _scalar
        return lambda value: tuple(map(each, _of(value, list)))
    if get_origin(hint) is dict:
        return lambda value: {key: _scalar(item) for key, item in _of(value, dict).items()}
    return hint if isinstance(hint, type) and issubclass(hint, Enum) else None


def _scalar(value: Any) -> Any:
    if type(value) not in _SCALARS:
        raise ValueError(f"a {type(value).__name__} where one value belongs")
    return value


def _of(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"no {kind.__name__}")
    return value


def _plain(value: Any) -> Any:
    """numpy's numbers are numbers."""
    return value.item()


_SHAPES: dict[type, _Shape] = {cls: _Shape(cls) for cls in _TYPES}
# Alike where both ends understand each other.
SHAPE = ";".join(f"{cls.__name__}:{','.join(shape.names)}" for cls, shape in _SHAPES.items())
