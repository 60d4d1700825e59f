"""What people who run live streaming know, by what is broken: the text of a runbook before anybody has added to it.

The text stands in texts/*.yaml. It names no product: what stands there is true of WebRTC, RTMP, SRT and HTTP-borne streaming
whoever runs it; what is true of one platform belongs into runbooks.yaml, where the people who run it write.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.model.stage import Phase
from probe.rules.conditions import Kind
from probe.scenario.text import parse

_FOLDER = Path(__file__).parent / "texts"
_PEER = (Phase.SIGNAL, Phase.ICE, Phase.DTLS)
_FETCHED = (Phase.PLAYLIST, Phase.INIT, Phase.SEGMENT)
_LINK = (Phase.HANDSHAKE, Phase.JOIN)
_OF = {
    "whip": _PEER,
    "whep": _PEER,
    "hls": _FETCHED,
    "ll-hls": (*_FETCHED, Phase.PART),
    "dash": _FETCHED,
    "rtmp": _LINK,
    "srt": (Phase.HANDSHAKE,),
}
_REACH = (Phase.RESOLVE, Phase.CONNECT, Phase.TLS, Phase.AUTH)
_PICTURE = (Phase.FIRST_PACKET, Phase.KEYFRAME, Phase.FIRST_FRAME)
_STARTING = frozenset({"room_start", "start", "publisher_start", "first_frame"})
_STAYING = frozenset({"reconnect", "reconnect_seconds", "outage_seconds", "crash_free"})
_PUBLISHING = frozenset({"room_start", "publisher_start"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """How it shows itself, what it then is, what to do about it."""

    seen: str
    suspect: str
    do: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Markdown. `means`: what people live through, and how the figures tell where. `look`: the third look, after dashboard and
    failing runs. `relief`: what stops the harm before its cause is known. `suspects`: whose release to roll back."""

    means: str
    look: str
    causes: tuple[Cause, ...]
    relief: tuple[str, ...]
    suspects: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseAdvice:
    """What did not work where a failure has this phase, and what to look at first."""

    failed: str
    first: str


def advice(kind: Kind, indicator: str) -> Advice:
    """About a promise: by its indicator; about the probe: by its kind. KeyError where nobody has written any."""
    table = _advice()
    if kind in (Kind.BURN, Kind.DIRECT):
        return table[indicator]
    return table["taint_ratio" if kind is Kind.TAINT else kind.value]


@functools.cache
def phases() -> Mapping[Phase, PhaseAdvice]:
    """In the order in which they come."""
    return {Phase(name): PhaseAdvice(**body) for name, body in _read("phases.yaml").items()}


def phases_of(indicator: str, protocols: Iterable[str]) -> tuple[Phase, ...]:
    """The phases that the failures behind an indicator can have on these protocols, in the order in which they come."""
    media = {phase for protocol in protocols for phase in _OF.get(protocol, (*_LINK, *_PEER, *_FETCHED))}
    chosen: set[Phase] = set()
    if indicator in _STARTING:
        chosen = {*_REACH, *_PICTURE, *media}
    elif indicator in _STAYING:
        chosen = {Phase.AUTH, Phase.PLAYING, Phase.RECONNECTING, *media}
    elif indicator in {phase.value for phase in Phase}:
        chosen = {*_REACH, Phase(indicator)}
    if indicator in _PUBLISHING:
        chosen.add(Phase.ACK)
    if indicator == "room_start":
        chosen.add(Phase.ROOM)
    return tuple(phase for phase in phases() if phase in chosen)


@functools.cache
def _advice() -> Mapping[str, Advice]:
    found: dict[str, Advice] = {}
    for file in ("start.yaml", "playing.yaml", "services.yaml", "probe.yaml"):
        for name, body in _read(file).items():
            causes = tuple(Cause(**cause) for cause in body["causes"])
            found[name] = Advice(**{**body, "causes": causes, "relief": tuple(body["relief"])})
    return found


def _read(name: str) -> dict[str, Any]:
    document = parse((_FOLDER / name).read_text("utf-8"), name)
    assert isinstance(document.data, dict) and not document.mistakes, document.mistakes
    return document.data
