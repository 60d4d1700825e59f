"""Stages of starting, phases of failing, and the clock that slices a start into stages.

A start is one interval, from intent to the first verified frame (viewer) or to acknowledged media (publisher). It is cut
into consecutive slices; exactly one is open at any moment, so their sum is the whole, whatever happened: a redirect
opens `connect` a second time, and both slices add to `connect`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Stage(StrEnum):
    """A consecutive slice of starting."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    HANDSHAKE = "handshake"
    AUTH = "auth"
    JOIN = "join"
    SIGNAL = "signal"
    ICE = "ice"
    DTLS = "dtls"
    PLAYLIST = "playlist"
    INIT = "init"
    SEGMENT = "segment"
    PART = "part"
    FIRST_PACKET = "first_packet"
    KEYFRAME = "keyframe"
    FIRST_FRAME = "first_frame"
    ACK = "ack"
    PROBE = "probe"


class Phase(StrEnum):
    """Where a failure happened: a stage, or one of the phases after or beside starting."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    HANDSHAKE = "handshake"
    AUTH = "auth"
    JOIN = "join"
    SIGNAL = "signal"
    ICE = "ice"
    DTLS = "dtls"
    PLAYLIST = "playlist"
    INIT = "init"
    SEGMENT = "segment"
    PART = "part"
    FIRST_PACKET = "first_packet"
    KEYFRAME = "keyframe"
    FIRST_FRAME = "first_frame"
    ACK = "ack"
    PROBE = "probe"
    PLAYING = "playing"
    RECONNECTING = "reconnecting"
    ROOM = "room"
    CHAT = "chat"
    GIFT = "gift"
    PAYMENT = "payment"
    MODERATION = "moderation"
    ENDING = "ending"


@dataclass(frozen=True, slots=True)
class Slice:
    """One stay in a stage: `[began, began + took)` in monotonic ns."""

    stage: Stage
    began: int
    took: int


@dataclass(slots=True)
class StageTimer:
    """Cuts one start into slices. Opens in `probe` at the intent.

    Stamps may come from other threads and so out of order by a little; one that lies before the open slice's beginning
    is moved to it, so that slices never overlap and never go negative.
    """

    intent: int
    slices: list[Slice] = field(default_factory=list)
    current: Stage = Stage.PROBE
    _began: int = field(init=False)
    ended: bool = False

    def __post_init__(self) -> None:
        self._began = self.intent

    def enter(self, stage: Stage, at: int) -> None:
        """Close the open slice at `at` and open `stage`. After `finish` it does nothing."""
        if self.ended or stage is self.current:
            return
        self._close(at)
        self.current = stage

    def finish(self, at: int) -> int:
        """Close the last slice; returns the total in ns, which is the sum of all slices."""
        if not self.ended:
            self._close(at)
            self.ended = True
        return self.total

    @property
    def total(self) -> int:
        return self._began - self.intent

    def by_stage(self) -> dict[Stage, int]:
        """ns per stage, in order of first appearance; stages never entered are absent."""
        sums: dict[Stage, int] = {}
        for piece in self.slices:
            sums[piece.stage] = sums.get(piece.stage, 0) + piece.took
        return sums

    def _close(self, at: int) -> None:
        at = max(at, self._began)
        self.slices.append(Slice(self.current, self._began, at - self._began))
        self._began = at
