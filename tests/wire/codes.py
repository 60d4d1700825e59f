"""Codes and planes for tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from probe.model.frames import SEQUENCE_MODULUS, FrameCode
from probe.wire.framecode import Plane, draw

CODES = st.builds(
    FrameCode,
    run=st.integers(0, 2**32 - 1),
    trace=st.integers(0, 2**64 - 1),
    publish=st.integers(0, 15),
    sequence=st.integers(0, SEQUENCE_MODULUS - 1),
    stamp_ms=st.integers(0, 2**44 - 1),
)


def a_code(sequence: int = 77) -> FrameCode:
    return FrameCode(
        run=0xC0FFEE42, trace=0x9F3AC17BE2D05586, publish=3, sequence=sequence, stamp_ms=1_795_244_028_000 + 33 * sequence
    )


Size = tuple[int, int]  # width, height


def grey(size: Size, level: int = 110) -> Plane:
    return np.full((size[1], size[0]), level, np.uint8)


def coded(size: Size, code: FrameCode, stride: int = 0) -> Plane:
    """A grey picture with its code; rows `stride` bytes further apart than they are long."""
    plane = grey((size[0] + stride, size[1]))[:, : size[0]]
    draw(plane, code)
    return plane
