"""Which processes a fault hits: by id, pid file, systemd unit, name, command line or pattern; and how many of those that match.

Never hit, whatever matches: pid 1, this drill and what started it, the kernel's own threads, whoever keeps a drill safe
(watchdog, recovery, another runner). A pattern passes over them, as pgrep passes over itself; asked for by name they are refused.
Where several match, the drill says how many of them it means: the oldest are taken, so that the same drill hits the same ones.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from probe.drill.faults import pins, systemd
from probe.drill.faults.base import Params, Refused
from probe.drill.faults.pins import Pin, Seen
from probe.scenario.units import Ratio

Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
WAYS = ("pid", "pid_file", "unit", "name", "command", "matching")


def absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError("write an absolute path: a drill is put back from another directory")
    return path


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    return text


def _unit(name: str) -> str:
    name = name if "." in name else f"{name}.service"
    if not systemd.UNIT.fullmatch(name):
        raise ValueError("is not the name of a service unit; write for example nginx.service")
    return name


AbsolutePath = Annotated[Text, AfterValidator(absolute)]
UnitName = Annotated[Text, AfterValidator(_unit)]


class Selection(Params):
    """One way to find them; `most` and `share` where several may match."""

    pid: int | None = Field(None, gt=0, description="A process id, as it is when the drill begins.")
    pid_file: AbsolutePath | None = Field(None, description="The file a server writes its id to.", examples=["/run/nginx.pid"])
    unit: UnitName | None = Field(None, description="A systemd service: its main process.", examples=["nginx.service"])
    name: Text | None = Field(None, description="The program's name, exactly.", examples=["nginx"])
    command: Text | None = Field(None, description="The whole command line, words joined by one space.")
    matching: Annotated[Text, AfterValidator(_pattern)] | None = Field(
        None, description="A regular expression, found anywhere in the command line.", examples=["srs .*edge-b"]
    )
    most: int | None = Field(None, gt=0, le=64, description="At most so many of those that match, the oldest first.")
    share: Ratio | None = Field(None, gt=0, description="At most this share of those that match.", examples=["34%"])

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(getattr(self, way) is not None for way in WAYS) != 1:
            raise ValueError(f"say which processes in one way; give one of {', '.join(WAYS)}")
        if self.single and (self.most is not None or self.share is not None):
            raise ValueError("most and share are for name, command and matching; pid, pid_file and unit name one process")
        return self

    @property
    def single(self) -> bool:
        return self.pid is not None or self.pid_file is not None or self.unit is not None


@dataclass(frozen=True, slots=True)
class Found:
    """Those to hit, and the `others` that match too; `like`: a digest of the first one's command line, for who looks for its
    successor."""

    chosen: tuple[Pin, ...]
    others: tuple[Pin, ...]
    like: str

    @property
    def of(self) -> int:
        return len(self.chosen) + len(self.others)


async def find(selection: Selection, where: str = "target") -> Found:
    """Those to hit. Raises Refused, which says what there is instead."""
    if selection.single:
        matching = [await _named(selection, where)]
    else:
        matching = sorted(_matching(selection), key=lambda one: (one.pin.start, one.pin.pid))
    if not matching:
        raise Refused(f"no process {_words(selection)} runs here", where)
    count = _how_many(selection, len(matching), where)
    chosen, others = matching[:count], matching[count:]
    for one in chosen:
        if one.state in "Tt":
            by = "a debugger holds it" if one.state == "t" else "it is stopped already, and not by us"
            raise Refused(f"{one.pin}: {by}; what we did not stop we would continue", where)
    like = _digest(pins.arguments(chosen[0].pin.pid))
    return Found(tuple(one.pin for one in chosen), tuple(one.pin for one in others), like)


async def standing(selection: Selection, like: str) -> list[Pin]:
    """Those that match now: the selection itself, and where it names one id, whoever has that command line. Empty where there are
    none, or none that can be told."""
    if selection.pid is not None:
        return [one.pin for one in _those(_any, lambda words: _digest(words) == like)]
    if not selection.single:
        return [one.pin for one in _matching(selection)]
    try:
        return [(await _named(selection, "target")).pin]
    except Refused:
        return []


def _digest(words: Sequence[str]) -> str:
    """Of a command line, which may hold what a ledger must not."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def untouchable(one: Seen, ours: set[int]) -> str:
    """Why this process is never hit; empty where it may be. `ours`: this process and those above it."""
    if one.pin.pid == 1:
        return "it is the first process of this machine"
    if one.pin.pid in ours:
        return "it is this drill, or what started it"
    if one.kernel:
        return "it is a thread of the kernel"
    words = pins.arguments(one.pin.pid)
    if any(word.startswith(("probe.drill.", "--sp-token=")) for word in words) or _drills(words):
        return "it keeps a drill safe, or runs one"
    return ""


def _drills(words: Sequence[str]) -> bool:
    return any(os.path.basename(word) == "probe" and after == "drill" for word, after in itertools.pairwise(words[:4]))


def _those(are: Callable[[Seen], bool], such: Callable[[list[str]], bool] = lambda _: True) -> list[Seen]:
    """Those that may be hit, are what is meant, and have `such` a command line."""
    ours = pins.ancestors(os.getpid())
    return [one for one in pins.everyone(such) if one.alive and are(one) and not untouchable(one, ours)]


def _matching(selection: Selection) -> list[Seen]:
    if selection.name is not None:
        return _those(lambda one: selection.name in (one.pin.name, _program(one.pin.pid)))
    if selection.matching is not None:
        pattern = re.compile(selection.matching)
        return _those(_any, lambda words: pattern.search(" ".join(words)) is not None)
    return _those(_any, lambda words: " ".join(words) == selection.command)


def _any(_: Seen) -> bool:
    return True


def _program(pid: int) -> str:
    words = pins.arguments(pid)
    return os.path.basename(words[0]) if words else ""


async def _named(selection: Selection, where: str) -> Seen:
    if selection.unit is not None:
        if not systemd.runs():
            raise Refused("systemd does not run here; give pid_file, name or command", where)
        try:
            pid = (await systemd.unit(selection.unit)).main
        except systemd.NoUnit as why:
            raise Refused(str(why), where) from None
        if not pid:
            raise Refused(f"{selection.unit} has no main process: it does not run", where)
    else:
        pid = selection.pid if selection.pid is not None else _pid_of(selection.pid_file or "", where)
    one = pins.look(pid)
    if one is None:
        raise Refused(f"there is no process {pid} ({_words(selection)})", where)
    if pins.status(pid).get("Tgid", str(pid)) != str(pid):
        raise Refused(f"{pid} is a thread, not a process", where)
    if not one.alive:
        raise Refused(f"{one.pin} has ended and waits to be collected", where)
    if reason := untouchable(one, pins.ancestors(os.getpid())):
        raise Refused(f"{one.pin} is never touched: {reason}", where)
    return one


def _pid_of(path: str, where: str) -> int:
    try:
        with open(path, "rb") as file:
            text = file.read(64).strip()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}", where) from None
    if not (text.isdigit() and 0 < int(text) < 2**22 + 1):
        raise Refused(f"{path} holds no process id", where)
    return int(text)


def _how_many(selection: Selection, of: int, where: str) -> int:
    if selection.most is None and selection.share is None:
        if of > 1:
            raise Refused(f"{of} processes {_words(selection)}; say how many are meant: most: 1, or share: 34%", where)
        return 1
    most = of if selection.most is None else min(selection.most, of)
    if selection.share is not None:
        most = min(most, int(selection.share * of + 1e-9))
    if most < 1:
        raise Refused(f"of {of} processes {_words(selection)}, that share is none", where)
    return most


def _words(selection: Selection) -> str:
    way = next(way for way in WAYS if getattr(selection, way) is not None)
    said = getattr(selection, way)
    return {"pid": f"{said}", "pid_file": f"of {said}", "unit": f"of {said}", "name": f"named {said}"}.get(
        way, f"with the command line {said!r}" if way == "command" else f"matching {said!r}"
    )
