"""Times that wrap, on a line that does not: 33 bits of MPEG-TS after 26.5 hours, 32 of RTMP and FLV after 49.7 days.

One line for everything that shares a clock: a wrap may lie between the first picture and the first sound. Each stamp is the
nearest to the one before, so a jump of less than half a round is a jump, ahead or back.
"""

from __future__ import annotations


class Unwrap:
    """Any thread may call it."""

    def __init__(self, bits: int) -> None:
        self._round = 1 << bits
        self._last: int | None = None

    def __call__(self, stamp: int) -> int:
        last, half = self._last, self._round // 2
        self._last = found = stamp if last is None else last + (stamp - last + half) % self._round - half
        return found
