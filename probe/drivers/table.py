"""The one table of what can be spoken. A new protocol is one file and one row here; other distributions add rows through the
entry-point groups `stream_probe.sessions` (a SessionRow) and `stream_probe.steps` (name = kind, value = a StepDriver).

Our own rows name their driver as an entry point does, and it is loaded by whoever makes runs: `spoken` answers what can be said
of a protocol without it. An agent runs for months beside its workers, and codecs, numpy and aiortc are 25 MiB it never calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import Any

from probe.drivers.base import SessionRow, StepDriver
from probe.drivers.spoken import Spoken
from probe.model.clock import NS
from probe.model.observation import Role
from probe.model.stage import Phase, Stage

_WEBRTC = (Stage.SIGNAL, Stage.ICE, Stage.DTLS)
_RTMP = (Stage.HANDSHAKE, Stage.SIGNAL, Stage.JOIN)
_PICTURE = (Stage.KEYFRAME, Stage.FIRST_FRAME)
_STREAM_STALL = 3 * NS  # TCP mends a gap by itself, and sooner than a new connection would
_FLOWING = (("http-flv", "http_flv:HttpFlvViewer"), ("ws-flv", "ws_flv:WsFlvViewer"), ("http-ts", "http_ts:HttpTsViewer"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ours(Spoken):
    """`driver` is file:class in this folder; `scout` file:function, or `own` where it is a method of the driver."""

    driver: str
    scout: str = ""

    def loaded(self) -> SessionRow:
        driver = _load(self.driver)()
        scout = driver.scout if self.scout == "own" else _load(self.scout) if self.scout else None
        facts = {field.name: getattr(self, field.name) for field in fields(Spoken)}
        return SessionRow(**facts, driver=driver, scout=scout)


def _load(name: str) -> Any:
    return resolve_name(f"probe.drivers.{name}")


_SESSIONS: tuple[_Ours, ...] = (
    _Ours(
        role=Role.PUBLISHER,
        protocol="whip",
        driver="whip:WhipPublisher",
        stages=(*_WEBRTC, Stage.ACK),
        start=5 * NS,
        stall=4 * NS,
    ),
    _Ours(
        role=Role.VIEWER,
        protocol="whep",
        driver="whep:WhepViewer",
        stages=(*_WEBRTC, Stage.FIRST_PACKET, *_PICTURE),
        start=5 * NS,
        max_age=2 * NS,
    ),
    _Ours(
        role=Role.VIEWER,
        protocol="hls",
        driver="hls:HlsViewer",
        stages=(Stage.PLAYLIST, Stage.INIT, Stage.SEGMENT, *_PICTURE),
        start=10 * NS,
        max_age=30 * NS,
        stall=10 * NS,
        buffered=True,
        scout="hls:scout",
    ),
    _Ours(
        role=Role.VIEWER,
        protocol="ll-hls",
        driver="ll_hls:LlHlsViewer",
        stages=(Stage.PLAYLIST, Stage.INIT, Stage.SEGMENT, Stage.PART, *_PICTURE),
        start=5 * NS,
        max_age=6 * NS,
        stall=6 * NS,
        buffered=True,
        scout="hls:scout",
    ),
    _Ours(
        role=Role.PUBLISHER,
        protocol="rtmp",
        driver="rtmp_publisher:RtmpPublisher",
        stages=(*_RTMP, Stage.ACK),
        start=5 * NS,
        stall=4 * NS,
    ),
    _Ours(
        role=Role.VIEWER,
        protocol="rtmp",
        driver="rtmp_viewer:RtmpViewer",
        stages=(*_RTMP, Stage.FIRST_PACKET, *_PICTURE),
        start=5 * NS,
        max_age=2 * NS,
        stall=_STREAM_STALL,
        scout="own",
    ),
    *(
        _Ours(
            role=Role.VIEWER,
            protocol=protocol,
            driver=driver,
            stages=(Stage.JOIN, Stage.FIRST_PACKET, *_PICTURE),
            start=5 * NS,
            max_age=6 * NS,
            stall=_STREAM_STALL,
            scout="own",
        )
        for protocol, driver in _FLOWING
    ),
    _Ours(
        role=Role.PUBLISHER,
        protocol="srt",
        driver="srt_publisher:SrtPublisher",
        stages=(Stage.HANDSHAKE, Stage.ACK),
        start=5 * NS,
        stall=4 * NS,
    ),
    _Ours(
        role=Role.VIEWER,
        protocol="srt",
        driver="srt_viewer:SrtViewer",
        stages=(Stage.HANDSHAKE, Stage.FIRST_PACKET, *_PICTURE),
        start=5 * NS,
        max_age=4 * NS,
        stall=_STREAM_STALL,
    ),
    _Ours(
        role=Role.VIEWER,
        protocol="dash",
        driver="dash:DashViewer",
        stages=(Stage.PLAYLIST, Stage.INIT, Stage.SEGMENT, *_PICTURE),
        start=10 * NS,
        max_age=30 * NS,
        stall=10 * NS,
        buffered=True,
        scout="dash:scout",
    ),
)
_SESSION_GROUP, _STEP_GROUP = "stream_probe.sessions", "stream_probe.steps"
_STEPS = {
    "http": "http:HttpDriver",
    "websocket": "websocket:WebsocketDriver",
    "wait": "wait:WaitDriver",
    "fake": "fake:FakeDriver",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Sessions by (role, protocol), steps by kind."""

    sessions: Mapping[tuple[Role, str], SessionRow]
    steps: Mapping[str, StepDriver]


def all_ours() -> bool:
    """Whether nobody else adds rows: then the table loads nobody else's code."""
    return not any(entry_points(group=group) for group in (_SESSION_GROUP, _STEP_GROUP))


@cache
def spoken() -> Mapping[tuple[Role, str], Spoken]:
    """What there is, by (role, protocol); ours without their drivers."""
    rows: list[Spoken] = [*_SESSIONS, *_others()]
    return {(row.role, row.protocol): row for row in rows}


def phases() -> dict[tuple[Role, str], tuple[Phase, ...]]:
    """Where sessions of each protocol can fail: what has to exist at 0."""
    return {key: row.phases for key, row in spoken().items()}


def protocols(role: Role) -> list[str]:
    return sorted(protocol for row_role, protocol in spoken() if row_role is role)


@cache
def table() -> Table:
    """Ours and what is installed beside us, each with its driver."""
    rows = [*(row.loaded() for row in _SESSIONS), *_others()]
    steps = {kind: _load(name)() for kind, name in _STEPS.items()}
    steps |= {point.name: point.load() for point in entry_points(group=_STEP_GROUP)}
    return Table({(row.role, row.protocol): row for row in rows}, steps)


@cache
def _others() -> tuple[SessionRow, ...]:
    return tuple(point.load() for point in entry_points(group=_SESSION_GROUP))
