"""The one table of what can be spoken. A new protocol is one file and one row here; other distributions add rows through the
entry-point groups `stream_probe.sessions` (a SessionRow) and `stream_probe.steps` (name = kind, value = a StepDriver)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

from probe.drivers import dash
from probe.drivers.base import SessionRow, StepDriver
from probe.drivers.fake import FakeDriver
from probe.drivers.hls import HlsViewer, scout
from probe.drivers.http import HttpDriver
from probe.drivers.http_flv import HttpFlvViewer
from probe.drivers.http_ts import HttpTsViewer
from probe.drivers.ll_hls import LlHlsViewer
from probe.drivers.rtmp_publisher import RtmpPublisher
from probe.drivers.rtmp_viewer import RtmpViewer
from probe.drivers.srt_publisher import SrtPublisher
from probe.drivers.srt_viewer import SrtViewer
from probe.drivers.streamed import StreamViewer
from probe.drivers.wait import WaitDriver
from probe.drivers.websocket import WebsocketDriver
from probe.drivers.whep import WhepViewer
from probe.drivers.whip import WhipPublisher
from probe.drivers.ws_flv import WsFlvViewer
from probe.model.clock import NS
from probe.model.observation import Role
from probe.model.stage import Phase, Stage

_WEBRTC = (Stage.SIGNAL, Stage.ICE, Stage.DTLS)
_RTMP = (Stage.HANDSHAKE, Stage.SIGNAL, Stage.JOIN)
_PICTURE = (Stage.KEYFRAME, Stage.FIRST_FRAME)
_STREAM_STALL = 3 * NS  # TCP mends a gap by itself, and sooner than a new connection would
_RTMP_VIEWER = RtmpViewer()
_FLOWING: tuple[tuple[str, StreamViewer], ...] = (
    ("http-flv", HttpFlvViewer()),
    ("ws-flv", WsFlvViewer()),
    ("http-ts", HttpTsViewer()),
)
_SESSIONS = (
    SessionRow(
        role=Role.PUBLISHER, protocol="whip", driver=WhipPublisher(), stages=(*_WEBRTC, Stage.ACK), start=5 * NS, stall=4 * NS
    ),
    SessionRow(
        role=Role.VIEWER,
        protocol="whep",
        driver=WhepViewer(),
        stages=(*_WEBRTC, Stage.FIRST_PACKET, *_PICTURE),
        start=5 * NS,
        max_age=2 * NS,
    ),
    SessionRow(
        role=Role.VIEWER,
        protocol="hls",
        driver=HlsViewer(),
        stages=(Stage.PLAYLIST, Stage.INIT, Stage.SEGMENT, *_PICTURE),
        start=10 * NS,
        max_age=30 * NS,
        stall=10 * NS,
        buffered=True,
        scout=scout,
    ),
    SessionRow(
        role=Role.VIEWER,
        protocol="ll-hls",
        driver=LlHlsViewer(),
        stages=(Stage.PLAYLIST, Stage.INIT, Stage.SEGMENT, Stage.PART, *_PICTURE),
        start=5 * NS,
        max_age=6 * NS,
        stall=6 * NS,
        buffered=True,
        scout=scout,
    ),
    SessionRow(
        role=Role.PUBLISHER, protocol="rtmp", driver=RtmpPublisher(), stages=(*_RTMP, Stage.ACK), start=5 * NS, stall=4 * NS
    ),
    SessionRow(
        role=Role.VIEWER,
        protocol="rtmp",
        driver=_RTMP_VIEWER,
        stages=(*_RTMP, Stage.FIRST_PACKET, *_PICTURE),
        start=5 * NS,
        max_age=2 * NS,
        stall=_STREAM_STALL,
        scout=_RTMP_VIEWER.scout,
    ),
    *(
        SessionRow(
            role=Role.VIEWER,
            protocol=protocol,
            driver=driver,
            stages=(Stage.JOIN, Stage.FIRST_PACKET, *_PICTURE),
            start=5 * NS,
            max_age=6 * NS,
            stall=_STREAM_STALL,
            scout=driver.scout,
        )
        for protocol, driver in _FLOWING
    ),
    SessionRow(
        role=Role.PUBLISHER,
        protocol="srt",
        driver=SrtPublisher(),
        stages=(Stage.HANDSHAKE, Stage.ACK),
        start=5 * NS,
        stall=4 * NS,
    ),
    SessionRow(
        role=Role.VIEWER,
        protocol="srt",
        driver=SrtViewer(),
        stages=(Stage.HANDSHAKE, Stage.FIRST_PACKET, *_PICTURE),
        start=5 * NS,
        max_age=4 * NS,
        stall=_STREAM_STALL,
    ),
    SessionRow(
        role=Role.VIEWER,
        protocol="dash",
        driver=dash.DashViewer(),
        stages=(Stage.PLAYLIST, Stage.INIT, Stage.SEGMENT, *_PICTURE),
        start=10 * NS,
        max_age=30 * NS,
        stall=10 * NS,
        buffered=True,
        scout=dash.scout,
    ),
)
_SESSION_GROUP, _STEP_GROUP = "stream_probe.sessions", "stream_probe.steps"
_STEPS: dict[str, StepDriver] = {
    "http": HttpDriver(),
    "websocket": WebsocketDriver(),
    "wait": WaitDriver(),
    "fake": FakeDriver(),
}


@dataclass(frozen=True, slots=True)
class Table:
    """Sessions by (role, protocol), steps by kind."""

    sessions: Mapping[tuple[Role, str], SessionRow]
    steps: Mapping[str, StepDriver]

    def phases(self) -> dict[tuple[Role, str], tuple[Phase, ...]]:
        """Where sessions of each protocol can fail: what has to exist at 0."""
        return {key: row.phases for key, row in self.sessions.items()}

    def protocols(self, role: Role) -> list[str]:
        return sorted(protocol for row_role, protocol in self.sessions if row_role is role)


def all_ours() -> bool:
    """Whether nobody else adds rows: then the table loads nobody else's code."""
    return not any(entry_points(group=group) for group in (_SESSION_GROUP, _STEP_GROUP))


@cache
def table() -> Table:
    """Ours and what is installed beside us."""
    rows = [*_SESSIONS, *(point.load() for point in entry_points(group=_SESSION_GROUP))]
    steps = {**_STEPS, **{point.name: point.load() for point in entry_points(group=_STEP_GROUP)}}
    return Table({(row.role, row.protocol): row for row in rows}, steps)
