"""Pictures that do not move, made of one keyframe said again and again: a frozen one is the last that came, a black one
is encoded once. No picture of the stream is decoded but one keyframe, for its size."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np


def black_keyframe(keyframe: bytes) -> bytes:
    """A black IDR access unit (Annex B, with its parameter sets) of the size of `keyframe`. ValueError: not decodable."""
    width, height = picture_size(keyframe)
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(30), Fraction(1, 90_000)
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "level": "3.1"}
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    planes[:height] = 16
    packets = encoder.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p"))
    return b"".join(bytes(p) for p in [*packets, *encoder.encode(None)])


def picture_size(keyframe: bytes) -> tuple[int, int]:
    """Width and height of a keyframe's picture. ValueError: not decodable."""
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    try:
        frames = [*decoder.decode(av.Packet(keyframe)), *decoder.decode(None)]
    except av.FFmpegError as error:
        raise ValueError("not a keyframe") from error
    if not frames:
        raise ValueError("not a keyframe")
    return frames[0].width, frames[0].height
