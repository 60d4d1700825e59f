"""The two forms of a room's sound: Opus for WebRTC, AAC for everything else; what did not come in is made from what did.

A stated transcode (media/transcode.py): 48 kHz stereo, its own thread, out some 60 ms after the sound came in, at the pts
where it belongs. AAC of another rate than 48 kHz is made anew too. A form that nobody wants now is not made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from probe.media.transcode import AAC_CONFIG, SoundTranscoder
from probe.model.clock import NS
from probe.sandbox.handover import on_loop
from probe.sandbox.unit import RATES, Unit
from probe.wire.fmp4 import AudioTrack

FORMS = ("opus", "aac")
MADE = AudioTrack("aac", RATES["audio"], 2, AAC_CONFIG)
_INDEX_48K = 3  # samplingFrequencyIndex (14496-3 table 1.18)


def passes(config: bytes) -> bool:
    """Does AAC of this AudioSpecificConfig go out as it came in: AAC-LC at 48 kHz?"""
    return len(config) >= 2 and config[0] >> 3 == 2 and (config[0] & 7) << 1 | config[1] >> 7 == _INDEX_48K


def track(codec: str, config: bytes = b"") -> AudioTrack:
    """What AAC viewers get from sound that comes in as `codec`."""
    if codec == "aac" and passes(config):
        return AudioTrack("aac", RATES["audio"], 1 if config[1] >> 3 & 15 == 1 else 2, config)
    return MADE


class Sound:
    """One source after the other. `deliver` gets each unit in each form wanted; `wanted(form)` is asked for each unit."""

    def __init__(self, deliver: Callable[[Unit], None], wanted: Callable[[str], bool]) -> None:
        self._deliver = deliver
        self._wanted = wanted
        self._source: tuple[str, bytes] = ("", b"")
        self._makers: dict[str, SoundTranscoder] = {}

    def put(self, unit: Unit) -> None:
        """One unit of sound."""
        if (unit.source, unit.config) != self._source:
            self.close()
            self._source = unit.source, unit.config
        native = unit.codec == "opus" or passes(unit.config)
        if native:
            self._deliver(unit)
        for form in FORMS:
            if native and form == unit.codec:
                continue
            if not self._wanted(form):
                self._close(form)
                continue
            if form not in self._makers:
                made = on_loop(partial(self._made, form, unit))
                self._makers[form] = SoundTranscoder(unit.codec, form, made, config=unit.config)
            self._makers[form].put(unit.data, unit.pts)

    def close(self) -> None:
        for form in list(self._makers):
            self._close(form)

    def _close(self, form: str) -> None:
        if form in self._makers:
            self._makers.pop(form).close()

    def _made(self, form: str, first: Unit, data: bytes, pts: int) -> None:
        if form not in self._makers or self._source[0] != first.source:
            return
        arrived = first.arrived + (pts - first.pts) * NS // RATES["audio"]
        config = AAC_CONFIG if form == "aac" else b""
        self._deliver(Unit(first.source, "audio", data, pts, True, arrived, form, config, first.synced))
