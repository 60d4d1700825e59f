"""What a programme is made of, without its timing: coded pictures and marked sound, encoded, for any given instant.

Pictures come from a loop that was encoded once, each with its own band (probe/media/loop.py), or from a live encoder: for
VP8, where no loop passed its proof, and while the picture is black or frozen. Either way they follow the same loop, picture
by picture, whatever slots were skipped, and whoever looks at them cannot tell which it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import lcm

from probe.media import prepare
from probe.media.encode import AUDIO_CLOCK, VIDEO_CLOCK, AacEncoder, H264Encoder, OpusEncoder, Vp8Encoder
from probe.media.picture import Painter, Synthesizer
from probe.media.prepare import FPS
from probe.media.sizes import SIZES
from probe.model.clock import MS, NS
from probe.model.frames import SEQUENCE_MODULUS, FrameCode
from probe.wire.picture import GROUP, LOOP

__all__ = ["FPS", "SIZES", "TICKS", "AudioSource", "ProgrammeIds", "VideoSource"]

TICKS = VIDEO_CLOCK // FPS  # of the video clock, per picture


@dataclass(frozen=True, slots=True)
class ProgrammeIds:
    """What stands in every picture: the run's number, the random half of its trace id, the publish ordinal (4 bits)."""

    run: int
    trace: int
    publish: int = 0


class VideoSource:
    """Pictures of a programme, one access unit (or VP8 frame) a call. `rate`: bit/s of what is sent, None where it is encoded
    live. Making one may take the time that `prepare` takes; Stopped as there."""

    def __init__(
        self, name: str, ids: ProgrammeIds, bitrate: int, codec: str = "h264", stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._size = SIZES[name]
        self._ids, self._bitrate, self._codec = ids, bitrate, codec
        loop = prepare.shelf.take(name, bitrate, stop)[0] if codec == "h264" else None
        self._loop = loop.spliced if loop else None
        self.rate = loop.rate if loop else None
        self._live: _Live | None = None if loop else _Live(self._size, bitrate, codec)
        self._was_live = False
        self._sequence = 0
        self._next = 0  # picture of the loop
        self._idr = 0
        self._shown: tuple[int, FrameCode] | None = None

    def make(self, slot: int, stamp_ns: int, *, keyframe: bool, black: bool = False, frozen: bool = False) -> tuple[bytes, bool]:
        """The picture of the `slot`-th thirtieth of a second, stamped, and whether it is an IDR. Frozen: the one before it."""
        live = self._loop is None or black or frozen
        turned = live is not self._was_live
        if not live and (turned or keyframe):
            self._next = -(-self._next // GROUP) * GROUP % LOOP  # the next group's beginning
        if self._shown is None or not frozen:
            code = FrameCode(
                run=self._ids.run,
                trace=self._ids.trace,
                publish=self._ids.publish,
                sequence=self._sequence % SEQUENCE_MODULUS,
                stamp_ms=(stamp_ns + MS // 2) // MS,
            )
            self._shown = (self._next, code)
            self._sequence += 1
            self._next = (self._next + 1) % LOOP
        self._was_live = live
        number, code = self._shown
        if live or self._loop is None:
            if self._live is None:
                self._live = _Live(self._size, self._bitrate, self._codec)
            return self._live.make(slot, number, code, keyframe or turned, black)
        if number in self._loop.groups:
            self._idr ^= 1
        return self._loop.unit(number, code, self._idr)


class _Live:
    """Pictures encoded as they are wanted."""

    def __init__(self, size: tuple[int, int], bitrate: int, codec: str) -> None:
        self._painter = Painter(*size)
        self._encoder = Vp8Encoder(*size, FPS, bitrate) if codec == "vp8" else H264Encoder(*size, FPS, bitrate, cheap=True)

    def make(self, slot: int, number: int, code: FrameCode, keyframe: bool, black: bool) -> tuple[bytes, bool]:
        return self._encoder.encode(self._painter.paint(number, code, black), slot * TICKS, keyframe)


class AudioSource:
    """Sound of a programme whose pts 0 is Unix time `origin_ns`, one packet a call: 20 ms of Opus, 1024 samples of AAC.

    The sound repeats each second, so packets repeat as soon as whole seconds are whole packets (50 of Opus, 375 of AAC): after
    the first second each place in that round is encoded once, and then sent again."""

    def __init__(self, origin_ns: int, channels: int, bitrate: int, codec: str = "opus") -> None:
        self._synthesizer = Synthesizer(origin_ns)
        self._encoder = AacEncoder(channels, bitrate) if codec == "aac" else OpusEncoder(channels, bitrate)
        self.block = AacEncoder.BLOCK if codec == "aac" else Synthesizer.BLOCK  # samples in a packet
        self._next = 0
        self._round = lcm(AUDIO_CLOCK, self.block) // self.block
        self._settled = AUDIO_CLOCK // self.block  # packets until the encoder has forgotten its beginning
        self._kept: dict[int, tuple[bytes, int]] = {}  # place in the round: packet, its pts after its block's

    def make(self, number: int) -> tuple[bytes, int]:
        """Packet `number` and its pts in samples. Begin with 1: the encoder looks ahead, and 0 would lie before pts 0."""
        first = number * self.block
        place = number % self._round
        if place in self._kept:
            data, after = self._kept[place]
            return data, first + after
        self._next = max(self._next, first)
        while True:
            made = self._encoder.encode(self._synthesizer.block(self._next, self.block), self._next)
            self._next += self.block
            # AAC is behind by more than a block: what it still held of before a jump is left out.
            if made is not None and made[1] > first - self.block:
                break
        if number >= self._settled:
            self._kept[place] = made[0], made[1] - first
        return made

    def number_at(self, ns: int) -> int:
        """The packet that begins at or before `ns` after pts 0."""
        return ns * AUDIO_CLOCK // NS // self.block
