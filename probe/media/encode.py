"""The programme's encoders: what a browser or a broadcaster's tool would send, and nothing a picky server could refuse.

H.264 constrained baseline, one slice, no B frames, parameter sets before each IDR, Annex B; VP8 without alternate
references; Opus in 20 ms packets; AAC-LC in frames of 1024 samples. Not attempted: hardware encoders, rate adaptation.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from probe.wire.chirp import Samples

VIDEO_CLOCK = 90_000
AUDIO_CLOCK = 48_000


def h264_level(width: int, height: int, fps: int) -> str:
    """The lowest level that browsers expect and that carries this many macroblocks a second (H.264 table A-1)."""
    rate = (width + 15) // 16 * ((height + 15) // 16) * fps
    return "3.0" if rate <= 40_500 else "3.1" if rate <= 108_000 else "4.0"


class H264Encoder:
    """Pictures to access units, one for one. `cheap`: as little work as x264 can do, at the rate that comes of it, `bitrate`
    at most."""

    def __init__(self, width: int, height: int, fps: int, bitrate: int, *, cheap: bool = False) -> None:
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.framerate = Fraction(fps)
        context.time_base = Fraction(1, VIDEO_CLOCK)
        context.gop_size = fps
        context.thread_count = 1
        if not cheap:
            context.bit_rate = bitrate
        context.options = {
            **({"preset": "ultrafast", "crf": "28"} if cheap else {"preset": "veryfast"}),
            "tune": "zerolatency",
            "profile": "baseline",
            "level": h264_level(width, height, fps),
            "maxrate": str(bitrate),
            "bufsize": str(bitrate // 2),
            "forced-idr": "1",
            "x264-params": f"keyint={fps}:min-keyint=1:scenecut=0:sliced-threads=0:slices=1",
        }
        context.open()
        self._context = context

    def encode(self, frame: av.VideoFrame, pts: int, keyframe: bool) -> tuple[bytes, bool]:
        """The access unit of one picture, and whether it is an IDR. `pts` in 1/90000 s."""
        frame.pts, frame.time_base = pts, self._context.time_base
        frame.pict_type = av.video.frame.PictureType.I if keyframe else av.video.frame.PictureType.NONE
        (packet,) = self._context.encode(frame)
        return bytes(packet), bool(packet.is_keyframe)


class Vp8Encoder:
    """Pictures to VP8 frames (RFC 6386), one for one, as cheaply as libvpx can."""

    def __init__(self, width: int, height: int, fps: int, bitrate: int) -> None:
        context = av.CodecContext.create("libvpx", "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.framerate = Fraction(fps)
        context.time_base = Fraction(1, VIDEO_CLOCK)
        context.bit_rate = bitrate
        context.gop_size = fps
        context.thread_count = 1
        context.options = {
            "deadline": "realtime",
            "cpu-used": "16",
            "lag-in-frames": "0",
            "auto-alt-ref": "0",
            "static-thresh": "100",
            "maxrate": str(bitrate),
            "bufsize": str(bitrate // 2),
        }
        context.open()
        self._context = context

    def encode(self, frame: av.VideoFrame, pts: int, keyframe: bool) -> tuple[bytes, bool]:
        """The frame's bytes, and whether it is a keyframe. `pts` in 1/90000 s."""
        frame.pts, frame.time_base = pts, self._context.time_base
        frame.pict_type = av.video.frame.PictureType.I if keyframe else av.video.frame.PictureType.NONE
        (packet,) = self._context.encode(frame)
        return bytes(packet), bool(packet.is_keyframe)


class OpusEncoder:
    """20 ms blocks to packets, one for one. A packet's pts is where its decoded sound belongs: 6.5 ms (the encoder's
    look-ahead) before the block's own, so that sound stays in step without priming metadata."""

    def __init__(self, channels: int, bitrate: int) -> None:
        options = {"application": "audio", "frame_duration": "20", "compression_level": "5"}
        self._context = _sound("libopus", "flt", channels, bitrate, options)
        self._channels = channels

    def encode(self, block: Samples, pts: int) -> tuple[bytes, int]:
        """The packet and its own pts, both in samples."""
        frame = av.AudioFrame.from_ndarray(np.repeat(block, self._channels)[None], format="flt", layout=_layout(self._channels))
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_CLOCK, pts, self._context.time_base
        (packet,) = self._context.encode(frame)
        assert packet.pts is not None
        return bytes(packet), packet.pts


class AacEncoder:
    """1024-sample blocks to raw AAC-LC frames. The encoder is a block behind, and its first frame lies wholly before the
    sound. A packet's pts is where its decoded sound belongs: the 1024 samples of priming are taken off."""

    BLOCK = 1024

    def __init__(self, channels: int, bitrate: int) -> None:
        # The default coder costs several times what the whole picture does; a hiss and a chirp need no search.
        options = {"aac_coder": "fast", "aac_tns": "0", "aac_ms": "0", "aac_is": "0", "aac_pns": "0"}
        self._context = _sound("aac", "fltp", channels, bitrate, options)
        self._channels = channels

    def encode(self, block: Samples, pts: int) -> tuple[bytes, int] | None:
        """The packet that is ready now and its own pts, both in samples; None after the first block."""
        frame = av.AudioFrame.from_ndarray(np.tile(block, (self._channels, 1)), format="fltp", layout=_layout(self._channels))
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_CLOCK, pts, self._context.time_base
        for packet in self._context.encode(frame):
            assert packet.pts is not None
            return bytes(packet), packet.pts
        return None


def _layout(channels: int) -> str:
    return "stereo" if channels == 2 else "mono"


def _sound(codec: str, form: str, channels: int, bitrate: int, options: dict[str, str]) -> av.AudioCodecContext:
    """An opened encoder at 48 kHz."""
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate = AUDIO_CLOCK
    context.layout = _layout(channels)
    context.format = form
    context.bit_rate = bitrate
    context.time_base = Fraction(1, AUDIO_CLOCK)
    context.options = options
    context.open()
    return context


def aac_config(channels: int) -> bytes:
    """AudioSpecificConfig (ISO 14496-3, 1.6.2.1) of AAC-LC at 48 kHz with one or two channels."""
    return (2 << 11 | 3 << 7 | channels << 3).to_bytes(2, "big")
