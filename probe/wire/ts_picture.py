"""H.264 as transport streams carry it (ITU-T H.264 Annex B): is it a keyframe, and are its parameter sets with it."""

from __future__ import annotations

_START = b"\0\0\1"
_SLICES = range(1, 6)
_IDR, _SEI, _SPS, _PPS = 5, 6, 7, 8
_BEFORE_SLICES = 64  # NAL units looked at
_MOST_SETS = 64 << 10


class H264Units:
    """One stream's. Parameter sets are remembered and put before an IDR that came without."""

    def __init__(self) -> None:
        self._sets = b""

    def unit(self, data: bytes) -> tuple[bytes, bool]:
        """The access unit, and whether decoding can begin with it: an IDR, or a recovery point that needs no more pictures
        with parameter sets of its own (as open GOPs have)."""
        sets: list[bytes] = []
        recovers = False
        at = data.find(_START)
        for _ in range(_BEFORE_SLICES):
            if at < 0 or at + 3 >= len(data):
                break
            kind = data[at + 3] & 31
            if kind in _SLICES:
                if sets:
                    self._sets = b"".join(sets)[:_MOST_SETS]
                elif kind == _IDR:
                    data = self._sets + data
                return data, kind == _IDR or (recovers and bool(sets))
            following = data.find(_START, at + 3)
            if kind in (_SPS, _PPS):
                sets.append(b"\0" + data[at : following if following >= 0 else len(data)].rstrip(b"\0"))
            elif kind == _SEI:
                recovers = recovers or (data[at + 4 : at + 5] == b"\x06" and data[at + 6 : at + 7] >= b"\x80")
            at = following
        if sets:  # parameter sets in a unit of their own
            self._sets = b"".join(sets)[:_MOST_SETS]
        return data, False
