"""What decoder threads post to the loop: compact, frozen records, one per picture or sound mark.

Three instants per picture: `arrived` (its last byte reached this process), `decoded` (its code was read), `shown` (a
player shows it: for unbuffered protocols that is `decoded`; a buffered player's pictures are decoded some at a time, ahead of
it, and only `shown` says when a viewer sees them). All monotonic ns of the process's one clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SEQUENCE_BITS = 20
SEQUENCE_MODULUS = 1 << SEQUENCE_BITS


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCode:
    """The code in the picture. `run` is the run's 32-bit number, `trace` the random half of its trace id, `publish` the
    ordinal of the publish session within the run (4 bits), `sequence` counts frames of that session modulo 2^20,
    `stamp_ms` is Unix time in ms (44 bits), set where the frame enters the publisher's network path."""

    run: int
    trace: int
    publish: int
    sequence: int
    stamp_ms: int


class Reading(StrEnum):
    """What the search for a code came to."""

    CODE = "code"
    CORRUPT = "corrupt"  # calibration seen, check failed
    NONE = "none"  # no calibration anywhere


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRecord:
    """One decoded picture."""

    arrived: int
    decoded: int
    shown: int
    media_time: float | None  # presentation time in the stream's own seconds
    size: int  # encoded bytes of the picture
    keyframe: bool
    width: int
    height: int
    reading: Reading
    code: FrameCode | None
    black: bool
    changed: bool  # differs from the picture before it, band excluded
    intact: bool | None = None  # the picture below the band is the programme's, and moves with the code; None: cannot be told
    rendition: str = ""
    jumped: bool = False  # our own player jumped to this picture: what lies before it was left out by us


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecodable:
    """Encoded media arrived and the decoder refused it."""

    at: int
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chirp:
    """A sound mark heard. `shown` is when a player would sound its onset; `media_time` its place in the stream, None where the
    picture's is told by another clock."""

    shown: int
    media_time: float | None
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Refill:
    """A buffered player's fetch of media came in whole at `at`; its pictures will be shown later."""

    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRecord:
    """One look at a publisher's transport, about once a second and at each acknowledgement.

    Counts are cumulative over the attempt. `acknowledged` is True once the receiver has reported receiving our media, and
    `last_ack` is when it last reported having received more. `late_ns` is the worst lateness, since the record before,
    of a frame against its own stamp: the probe's fault."""

    at: int
    frames: int
    bytes: int
    keyframe_requests: int
    acknowledged: bool
    late_ns: int
    last_ack: int | None = None


Record = FrameRecord | Undecodable | Chirp | Refill | PublishRecord
