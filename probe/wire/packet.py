"""One encoded packet, whatever container it came in: what demuxers give and decoders take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPacket:
    """One packet in decoding order. `data` is Annex B for H.264 and HEVC, parameter sets within and `extradata` empty;
    `pts` in the stream's own seconds; `size` as it was in its container. `rate` and `channels` are sound's; 0: not told."""

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
