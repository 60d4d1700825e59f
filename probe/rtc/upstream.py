"""The guard: which insides of aiortc and aioice this folder stands on, and whether they are still what they were.

Both are pinned, but a pin can be overridden. Everything that is subclassed, taken over or called by a private name is
listed with a digest of its source; when one differs, `check` says which, before a measurement can be wrong. To move to
a new version: read what changed in each name it lists, adapt the file that relies on it, run the tests, then write the
new versions and the digests, of names and of their files, that `digests()` gives.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import sys
from functools import cache, reduce
from pathlib import Path
from typing import Any

import aioice.ice
import aioice.turn
import aiortc.codecs.h264
import aiortc.codecs.vpx
import aiortc.rtcdtlstransport
import aiortc.rtcicetransport
import aiortc.rtcpeerconnection
import aiortc.rtcrtpreceiver
import aiortc.rtcrtpsender
import aiortc.rtcrtptransceiver

from probe.errors import ProbeError

VERSIONS = {"aiortc": "1.16.0", "aioice": "0.13.0"}

# file here → what it relies on there → digest of its source
RELIED: dict[str, dict[str, str]] = {
    "ice.py": {
        "aioice.ice.Connection.__init__": "a99ae9c97fc6",
        "aioice.ice.Connection.connect": "da51be461901",
        "aioice.ice.Connection.close": "25dcfac536f5",
        "aioice.ice.Connection._check_periodic": "ce421a512904",
        "aioice.ice.Connection.request_received": "dcdc9a3862c1",
        "aioice.ice.Connection.check_incoming": "cb3e32bd47e5",
        "aioice.ice.Connection.check_start": "7de056d252f4",
        "aioice.ice.Connection._pair_remote_candidate": "bf264fc1c676",
        "aioice.ice.Connection.gather_candidates": "d33db28d4d1e",
        "aioice.ice.Connection.data_received": "5631b17fab71",
        "aioice.ice.Connection.recvfrom": "676acc01e4a9",
        "aioice.ice.Connection.query_consent": "fe49173a650a",
        "aioice.ice.CandidatePair": "774b28dfe5e6",
        "aioice.stun.Transaction": "7a9c44cb879b",
    },
    "stun.py": {
        "aioice.ice.StunProtocol": "a6e5692f3cf7",
        "aioice.stun.parse_message": "3a0a63ed663f",
    },
    "turn.py": {
        "aioice.turn.TurnTransport": "c0fe18d7d58e",
        "aioice.turn.TurnClientMixin": "b475c70f7a66",
        "aioice.turn.TurnStreamMixin": "5c7a34b05986",
        "aioice.turn.create_turn_endpoint": "c84ad1cc7c54",
    },
    "dtls.py": {
        "aiortc.rtcdtlstransport.RTCDtlsTransport": "b58d6b50d0f9",
        "aiortc.rtcdtlstransport.RtpRouter": "75abd1c0faf2",
        "aiortc.rtcdtlstransport.RTCCertificate._create_ssl_context": "aac625bdc264",
        "aiortc.rtp.RtcpPacket": "fcd806ddc93f",
    },
    "peer.py": {
        "aiortc.rtcpeerconnection.RTCPeerConnection.__init__": "f5388aea637f",
        "aiortc.rtcpeerconnection.RTCPeerConnection.__connect": "9199a73a7cde",
        "aiortc.rtcpeerconnection.RTCPeerConnection.__createDtlsTransport": "ad91de689a33",
        "aiortc.rtcpeerconnection.RTCPeerConnection.__createTransceiver": "00201d6e03cc",
        "aiortc.rtcpeerconnection.RTCPeerConnection.__updateConnectionState": "737e50373bd6",
        "aiortc.rtcpeerconnection.RTCPeerConnection.close": "7e2df1bb95eb",
        "aiortc.rtcpeerconnection.RTCPeerConnection.createOffer": "3aa9df8d9449",
        "aiortc.rtcpeerconnection.RTCPeerConnection.createAnswer": "f535f80c96a1",
        "aiortc.rtcpeerconnection.RTCPeerConnection.setLocalDescription": "ff409406ce1d",
        "aiortc.rtcpeerconnection.RTCPeerConnection.setRemoteDescription": "42c5e2eb7ca5",
        "aiortc.rtcicetransport.RTCIceTransport": "a2e2aeedaf0a",
        "aiortc.rtcicetransport.RTCIceGatherer": "3f69ea0b336d",
        "aiortc.rtcrtptransceiver.RTCRtpTransceiver": "008f7efb6084",
    },
    "receiver.py": {
        "aiortc.rtcrtpreceiver.RTCRtpReceiver": "9a485e6f515f",
        "aiortc.rtcpeerconnection.RTCPeerConnection.__remoteRtp": "1dc79068e0ca",
    },
    "sender.py": {
        "aiortc.rtcrtpsender.RTCRtpSender": "57274ec81025",
        "aiortc.codecs.h264.H264Encoder.pack": "0203f2c57788",
    },
    "assembly.py": {
        "aiortc.codecs.h264.h264_depayload": "ebab8e19a401",
        "aiortc.codecs.h264.H264PayloadDescriptor": "31bd92ae3489",
        "aiortc.codecs.vpx.vp8_depayload": "6f1f7fca1822",
        "aiortc.codecs.vpx.VpxPayloadDescriptor": "2cc184cd310b",
    },
}

# module → digest of its file: what stands in a file that is as it was need not be picked out of it, which takes 150 ms for all
FILES: dict[str, str] = {
    "aioice.ice": "83435f282902",
    "aioice.stun": "971e381777a1",
    "aioice.turn": "ebe10a963166",
    "aiortc.codecs.h264": "f0d2a8640c62",
    "aiortc.codecs.vpx": "a1e9b5f1df90",
    "aiortc.rtcdtlstransport": "4ce8aa9051d4",
    "aiortc.rtcicetransport": "998b296fa8c2",
    "aiortc.rtcpeerconnection": "914fa8d7fdc9",
    "aiortc.rtcrtpreceiver": "d8115558bc1c",
    "aiortc.rtcrtpsender": "f90cef75d1f5",
    "aiortc.rtcrtptransceiver": "c88f0500173d",
    "aiortc.rtp": "1d054ea25fa1",
}

_ROOTS: dict[str, Any] = {"aioice": aioice, "aiortc": aiortc}


class Moved(ProbeError):
    """aiortc or aioice are not the ones `rtc/` was written against. `moved` names what differs."""

    def __init__(self, moved: list[str]) -> None:
        self.moved = moved
        super().__init__("rtc/ was written against other versions; changed: " + "; ".join(moved))


def find(name: str) -> Any:
    """The object behind a dotted name; private names of a class are written as in its source. AttributeError if gone."""

    def step(owner: Any, part: str) -> Any:
        if inspect.isclass(owner) and part.startswith("__") and not part.endswith("__"):
            part = f"_{owner.__name__}{part}"
        return getattr(owner, part)

    first, *rest = name.split(".")
    return reduce(step, rest, _ROOTS[first])


def digest(name: str) -> str:
    """Twelve hex digits of the source of `name`."""
    return hashlib.sha256(inspect.getsource(find(name)).encode()).hexdigest()[:12]


def digests() -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """What RELIED and FILES would have to say for what is installed."""
    relied = {file: {name: digest(name) for name in names} for file, names in RELIED.items()}
    modules = {find(name).__module__ for names in RELIED.values() for name in names}
    return relied, {module: file_digest(module) for module in sorted(modules)}


def file_digest(module: str) -> str:
    """Twelve hex digits of the file of a loaded module. OSError where it has none."""
    file = sys.modules[module].__file__
    if file is None:
        raise FileNotFoundError(module)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]


def _intact() -> set[str]:
    """Modules whose files are what they were."""
    found = set()
    for module, wanted in FILES.items():
        try:
            if file_digest(module) == wanted:
                found.add(module)
        except (KeyError, OSError):
            pass
    return found


def moved() -> list[str]:
    """What differs from what this folder was written against; empty when nothing does."""
    out = []
    for package, wanted in VERSIONS.items():
        found = importlib.metadata.version(package)
        if found != wanted:
            out.append(f"{package} is {found}, not {wanted}")
    intact = _intact()
    for file, names in RELIED.items():
        for name, wanted in names.items():
            try:
                thing = find(name)
                if thing.__module__ in intact and name == f"{thing.__module__}.{thing.__qualname__}":
                    continue
                found = digest(name)
            except (AttributeError, OSError, TypeError):
                out.append(f"{name} is gone (relied on by {file})")
                continue
            if found != wanted:
                out.append(f"{name} has changed (relied on by {file})")
    return out


@cache
def check() -> None:
    """Raise Moved unless everything relied on is what it was. Read once per process, ≈ 5 ms."""
    different = moved()
    if different:
        raise Moved(different)
