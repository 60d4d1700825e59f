"""What passes through the platform: encoded units, never decoded."""

from __future__ import annotations

from dataclasses import dataclass

RATES = {"video": 90_000, "audio": 48_000}


@dataclass(frozen=True, slots=True)
class Unit:
    """One access unit (H.264, Annex B) or Opus packet. `pts` in 1/90000 or 1/48000 s; `arrived`: its first byte, monotonic ns.
    `source` names the stream it is of: pts of two sources have nothing to do with each other."""

    source: str
    kind: str
    data: bytes
    pts: int
    keyframe: bool
    arrived: int
