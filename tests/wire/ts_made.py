"""Transport streams as FFmpeg's muxer writes them, for the reader's tests."""

from __future__ import annotations

import io
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

FPS = 25


@cache
def made(
    video: str = "libx264", audio: str = "aac", seconds: float = 2.0, video_options: tuple = (("bf", "0"),), options: tuple = ()
) -> bytes:
    """`seconds` of a moving picture with a keyframe a second and of a tone; "" leaves a stream out."""
    sink = io.BytesIO()
    with av.open(sink, "w", format="mpegts", options=dict(options)) as container:
        picture: Any = None
        sound: Any = None
        if video:
            picture = container.add_stream(video, rate=FPS)
            picture.width, picture.height, picture.pix_fmt = 160, 96, "yuv420p"
            picture.options = {"g": str(FPS), "preset": "ultrafast", "x265-params": "log-level=none", **dict(video_options)}
            picture.time_base = Fraction(1, FPS)
        if audio:
            sound = container.add_stream(audio, rate=48_000, layout="stereo")
        for number in range(round(seconds * FPS)):
            if picture is not None:
                frame = av.VideoFrame.from_ndarray(_picture(number), format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(picture.encode(frame))
            if sound is not None:
                samples = 48_000 // FPS
                tone = np.sin(np.arange(number * samples, (number + 1) * samples) * 2 * np.pi * 440 / 48_000) * 0.3
                block = av.AudioFrame.from_ndarray(np.vstack([tone, tone]).astype(np.float32), format="fltp", layout="stereo")
                block.sample_rate, block.pts, block.time_base = 48_000, number * samples, Fraction(1, 48_000)
                container.mux(sound.encode(block))
        for stream in (picture, sound):
            if stream is not None:
                container.mux(stream.encode(None))
    return sink.getvalue()


def _picture(number: int) -> NDArray[np.uint8]:
    rows = np.arange(144, dtype=np.uint16)[:, None]
    columns = np.arange(160, dtype=np.uint16)[None, :]
    return ((rows * 3 + columns * 2 + number * 7) % 200 + 20).astype(np.uint8)
