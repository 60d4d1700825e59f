"""What passes through the platform: encoded units. Nothing is decoded but what a stated transcode needs."""

from __future__ import annotations

from dataclasses import dataclass

RATES = {"video": 90_000, "audio": 48_000}


@dataclass(frozen=True, slots=True)
class Unit:
    """One access unit (H.264, Annex B), Opus packet or raw AAC frame. `pts` in 1/90000 or 1/48000 s, sound of any rate too;
    `arrived`: its first byte, monotonic ns. `source` names the stream it is of: pts of two sources have nothing to do with
    each other. `config`: an AAC frame's AudioSpecificConfig. `synced`: its pictures and sound count from one origin."""

    source: str
    kind: str
    data: bytes
    pts: int
    keyframe: bool
    arrived: int
    codec: str = "h264"
    config: bytes = b""
    synced: bool = False
