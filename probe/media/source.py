"""What a programme is made of, without its timing: coded pictures and marked sound, encoded, for any given instant."""

from __future__ import annotations

from dataclasses import dataclass

from probe.media.encode import AUDIO_CLOCK, VIDEO_CLOCK, AacEncoder, H264Encoder, OpusEncoder, Vp8Encoder
from probe.media.picture import Painter, Synthesizer
from probe.model.clock import MS, NS
from probe.model.frames import SEQUENCE_MODULUS, FrameCode

FPS = 30
TICKS = VIDEO_CLOCK // FPS  # of the video clock, per picture
SIZES = {"360p30": (640, 360), "720p30": (1280, 720), "1080p30": (1920, 1080), "portrait30": (360, 640)}


@dataclass(frozen=True, slots=True)
class ProgrammeIds:
    """What stands in every picture: the run's number, the random half of its trace id, the publish ordinal (4 bits)."""

    run: int
    trace: int
    publish: int = 0


class VideoSource:
    """Pictures of a programme, one access unit (or VP8 frame) a call."""

    def __init__(self, name: str, ids: ProgrammeIds, bitrate: int, codec: str = "h264") -> None:
        width, height = SIZES[name]
        self._ids = ids
        self._painter = Painter(width, height)
        self._encoder = (Vp8Encoder if codec == "vp8" else H264Encoder)(width, height, FPS, bitrate)
        self._sequence = 0
        self._shown: tuple[int, FrameCode] | None = None

    def make(self, slot: int, stamp_ns: int, *, keyframe: bool, black: bool = False, frozen: bool = False) -> tuple[bytes, bool]:
        """The picture of the `slot`-th thirtieth of a second, stamped, and whether it is an IDR. Frozen: the one before it."""
        if self._shown is None or not frozen:
            code = FrameCode(
                run=self._ids.run,
                trace=self._ids.trace,
                publish=self._ids.publish,
                sequence=self._sequence % SEQUENCE_MODULUS,
                stamp_ms=(stamp_ns + MS // 2) // MS,
            )
            self._shown = (slot, code)
            self._sequence += 1
        return self._encoder.encode(self._painter.paint(*self._shown, black), slot * TICKS, keyframe)


class AudioSource:
    """Sound of a programme whose pts 0 is Unix time `origin_ns`, one packet a call: 20 ms of Opus, 1024 samples of AAC."""

    def __init__(self, origin_ns: int, channels: int, bitrate: int, codec: str = "opus") -> None:
        self._synthesizer = Synthesizer(origin_ns)
        self._encoder = AacEncoder(channels, bitrate) if codec == "aac" else OpusEncoder(channels, bitrate)
        self.block = AacEncoder.BLOCK if codec == "aac" else Synthesizer.BLOCK  # samples in a packet
        self._next = 0

    def make(self, number: int) -> tuple[bytes, int]:
        """Packet `number` and its pts in samples. Begin with 1: the encoder looks ahead, and 0 would lie before pts 0."""
        first = number * self.block
        self._next = max(self._next, first)
        while True:
            made = self._encoder.encode(self._synthesizer.block(self._next, self.block), self._next)
            self._next += self.block
            # AAC is behind by more than a block: what it still held of before a jump is left out.
            if made is not None and made[1] > first - self.block:
                return made

    def number_at(self, ns: int) -> int:
        """The packet that begins at or before `ns` after pts 0."""
        return ns * AUDIO_CLOCK // NS // self.block
