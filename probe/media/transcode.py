"""Transcoding for the embedded platform: sound from Opus to AAC and back, and a picture made anew (smaller, or spoiled).

Each transcoder has a thread, a bounded queue, and a callback on that thread. Times are kept where they belong: a packet's
pts is that of its decoded sound, so an encoder's priming (1024 samples of AAC, 312 of Opus) is taken off its pts and never
shifts what is heard; sound comes out later, not displaced. Pictures go out with the pts and the keyframes that came in.
All sound is 48 kHz stereo. Not attempted: B frames going out, HE-AAC going out, rate adaptation.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

RATE = 48_000
VIDEO_CLOCK = 90_000
AAC_CONFIG = bytes.fromhex("119056e500")  # AudioSpecificConfig (14496-3): AAC-LC, 48 kHz, stereo, and no SBR to look for
AAC_BITRATE, OPUS_BITRATE = 96_000, 64_000
BLOCKS = {"aac": 1024, "opus": 960}  # samples in a packet
DELAYS = {"aac": 2048 / RATE, "opus": (960 + 312) / RATE}
"""Seconds from a packet's first sample going in to the packet coming out, by target; one packet of the source comes on top."""

_QUEUE = 96
_NEAR = RATE // 100  # a pts this near to where the sound before it ended follows it
_FILLED = RATE  # a gap up to this long is filled with silence; beyond, the sound begins anew


class _Worker(ABC):
    """A thread and what waits for it. `_work` handles one item; what it raises of FFmpeg's is counted and passed over."""

    def __init__(self, name: str) -> None:
        self.dropped = 0
        self.refused = 0
        self._items: deque[tuple[Any, ...]] = deque()
        self._more = threading.Condition()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self, wait: float = 0.0) -> None:
        """Stop after the item in hand; `wait` so many seconds for that."""
        with self._more:
            self._stop = True
            self._items.clear()
            self._more.notify()
        if wait:
            self._thread.join(wait)

    def _queue(self, item: tuple[Any, ...]) -> bool:
        """False when it does not fit: then all that waited is gone too."""
        with self._more:
            full = len(self._items) >= _QUEUE
            if full:
                self.dropped += len(self._items) + 1
                self._items.clear()
            else:
                self._items.append(item)
                self._more.notify()
            return not full

    def _run(self) -> None:
        while True:
            with self._more:
                while not self._items and not self._stop:
                    self._more.wait()
                if self._stop:
                    return
                item = self._items.popleft()
            try:
                self._work(*item)
            except (av.error.FFmpegError, ValueError):
                self.refused += 1

    @abstractmethod
    def _work(self, *item: Any) -> None: ...


class SoundTranscoder(_Worker):
    """`source` and `target`: opus or aac; `config`: the source's AudioSpecificConfig. `deliver(data, pts)` runs on the thread.
    All pts count 1/48000 s, whatever the source's own rate."""

    def __init__(self, source: str, target: str, deliver: Callable[[bytes, int], None], *, config: bytes = b"") -> None:
        self._deliver = deliver
        self._target = target
        # libopus, for FFmpeg's own decoder begins each packet late by what it calls its delay.
        decoder = av.CodecContext.create("libopus" if source == "opus" else source, "r")
        assert isinstance(decoder, av.AudioCodecContext)
        if config:
            decoder.extradata = config
        else:
            decoder.sample_rate, decoder.layout = RATE, "stereo"
        self._decoder = decoder
        self._begin(0)
        super().__init__(f"transcode-{target}")

    def put(self, data: bytes, pts: int) -> None:
        """One packet; never blocks."""
        self._queue((data, pts))

    def _begin(self, pts: int) -> None:
        """A new encoder, whose first sample is at `pts`."""
        self._resampler = av.AudioResampler(format="fltp" if self._target == "aac" else "flt", layout="stereo", rate=RATE)
        self._encoder = _encoder(self._target)
        self._held: list[NDArray[np.float32]] = []
        self._held_samples = 0
        self._at = pts

    def _work(self, data: bytes, pts: int) -> None:
        sound = [self._planes(piece) for frame in self._decoder.decode(av.Packet(data)) for piece in self._resample(frame)]
        gap = pts - (self._at + self._held_samples)
        if gap < -_NEAR or gap > _FILLED:
            self._begin(pts)
        elif gap > _NEAR:
            self._hold(np.zeros((2, gap), np.float32))
        for planes in sound:
            self._hold(planes)
        self._encode()

    def _resample(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        frame.pts = None
        return self._resampler.resample(frame)

    @staticmethod
    def _planes(frame: av.AudioFrame) -> NDArray[np.float32]:
        """(2, samples)."""
        array = frame.to_ndarray().astype(np.float32, copy=False)
        return array if frame.format.is_planar else array.reshape(-1, 2).T

    def _hold(self, planes: NDArray[np.float32]) -> None:
        self._held.append(planes)
        self._held_samples += planes.shape[1]

    def _encode(self) -> None:
        block = BLOCKS[self._target]
        if self._held_samples < block:
            return
        held = np.concatenate(self._held, axis=1)
        whole = held.shape[1] // block * block
        for start in range(0, whole, block):
            planes = held[:, start : start + block]
            planar = self._target == "aac"
            samples = np.ascontiguousarray(planes if planar else planes.T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(samples, format="fltp" if planar else "flt", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = RATE, self._at, Fraction(1, RATE)
            self._at += block
            for packet in self._encoder.encode(frame):
                if packet.pts is not None and packet.pts >= 0:
                    self._deliver(bytes(packet), packet.pts)
        self._held = [held[:, whole:]]
        self._held_samples = held.shape[1] - whole


def _encoder(codec: str) -> av.AudioCodecContext:
    context = av.CodecContext.create("libopus" if codec == "opus" else "aac", "w")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate, context.layout = RATE, "stereo"
    context.format = "flt" if codec == "opus" else "fltp"
    context.bit_rate = OPUS_BITRATE if codec == "opus" else AAC_BITRATE
    context.time_base = Fraction(1, RATE)
    opus = {"application": "audio", "frame_duration": "20", "compression_level": "5"}
    context.options = opus if codec == "opus" else {"aac_coder": "fast"}
    context.open()
    return context


Alter = Callable[[av.VideoFrame], av.VideoFrame]
Pictures = Callable[[bytes, int, bool, int], None]


class PictureTranscoder(_Worker):
    """H.264 to H.264. `height`: of the shorter side (None: as it came); `alter` changes each picture before it is encoded.
    `deliver(data, pts, keyframe, tag)` runs on the thread; `tag` is what was put with the unit. `every` n-th picture only goes
    on, and every keyframe; it may be set at any time."""

    def __init__(self, deliver: Pictures, *, bitrate: int, height: int | None = None, alter: Alter | None = None) -> None:
        self.every = 1
        self._deliver = deliver
        self._bitrate = bitrate
        self._height = height
        self._alter = alter
        self._resync = True
        decoder = av.CodecContext.create("h264", "r")
        assert isinstance(decoder, av.VideoCodecContext)
        decoder.thread_count = 1
        self._decoder = decoder
        self._scale = VideoReformatter()
        self._encoder: av.VideoCodecContext | None = None
        self._inside: dict[int, tuple[bool, int]] = {}
        self._count = 0
        super().__init__("transcode-h264")

    def put(self, data: bytes, pts: int, keyframe: bool, tag: int) -> None:
        """One access unit (Annex B), pts in 1/90000 s; never blocks. What does not fit is lost up to the next keyframe."""
        if self._resync and not keyframe:
            self.dropped += 1
            return
        self._resync = not self._queue((data, pts, keyframe, tag))

    def _work(self, data: bytes, pts: int, keyframe: bool, tag: int) -> None:
        self._inside[pts] = (keyframe, tag)
        while len(self._inside) > _QUEUE:
            del self._inside[next(iter(self._inside))]
        packet = av.Packet(data)
        packet.pts = packet.dts = pts
        packet.time_base = Fraction(1, VIDEO_CLOCK)
        for frame in self._decoder.decode(packet):
            if frame.pts is not None and frame.pts in self._inside:
                self._encode(frame, frame.pts, *self._inside.pop(frame.pts))

    def _encode(self, frame: av.VideoFrame, pts: int, keyframe: bool, tag: int) -> None:
        self._count = 0 if keyframe else self._count + 1
        if self._count % self.every:
            return
        width, height = scaled(frame.width, frame.height, self._height)
        picture = self._alter(frame) if self._alter else frame
        picture = self._scale.reformat(picture, width, height, "yuv420p", interpolation="AREA")
        if self._encoder is None or (self._encoder.width, self._encoder.height) != (width, height):
            self._encoder = _h264(width, height, self._bitrate)
            keyframe = True
        picture.pts, picture.time_base = pts, Fraction(1, VIDEO_CLOCK)
        picture.pict_type = av.video.frame.PictureType.I if keyframe else av.video.frame.PictureType.NONE
        for packet in self._encoder.encode(picture):
            self._deliver(bytes(packet), pts, bool(packet.is_keyframe), tag)


def scaled(width: int, height: int, shorter: int | None) -> tuple[int, int]:
    """The size with its shorter side at most `shorter`, both even."""
    if shorter is None or min(width, height) <= shorter:
        return width, height
    return round(width * shorter / min(width, height) / 2) * 2, round(height * shorter / min(width, height) / 2) * 2


def level_of(width: int, height: int, fps: float = 30.0) -> int:
    """level_idc (H.264 table A-1) that the encoder is told: by picture size and macroblocks a second."""
    blocks = -(-width // 16) * -(-height // 16)
    limits = ((13, 396, 11_880), (22, 1620, 20_250), (30, 1620, 40_500), (31, 3600, 108_000), (40, 8192, 245_760))
    return next((level for level, size, rate in limits if blocks <= size and blocks * fps <= rate), 51)


def _h264(width: int, height: int, bitrate: int) -> av.VideoCodecContext:
    """Constrained baseline, keyframes only where asked for, one thread, a buffer of half a second."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.framerate, context.time_base = Fraction(30), Fraction(1, VIDEO_CLOCK)
    context.bit_rate = bitrate
    context.thread_count = 1
    context.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "profile": "baseline",
        "level": f"{level_of(width, height) / 10:.1f}",
        "maxrate": str(bitrate),
        "bufsize": str(bitrate // 2),
        "forced-idr": "1",
        "x264-params": "keyint=infinite:min-keyint=1:scenecut=0:sliced-threads=0:slices=1",
    }
    context.open()
    return context
