"""One encoded packet, whatever container it came in: what demuxers give and decoders take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)  # not frozen: that would take three times as long to make, eighty times a second
class EncodedPacket:
    """One packet in decoding order; nobody changes it. `data` is Annex B for H.264 and HEVC, parameter sets within and
    `extradata` empty; `pts` in the stream's own seconds; `size` as it was in its container. `rate` and `channels` are sound's;
    0: not told."""

    kind: str  # video | audio
    codec: str  # FFmpeg's name
    extradata: bytes
    data: bytes
    pts: float | None
    duration: float | None
    keyframe: bool
    size: int
    width: int = 0
    height: int = 0
    rate: int = 0
    channels: int = 0
