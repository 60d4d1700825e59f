"""The room's second rendition: 180 lines high, every picture of the source's, decoded, scaled and encoded again.

It costs a few hundredths of a core, so it is made only while somebody asks for its playlist. Its keyframes are the source's
keyframes and its times the source's times, so segments begin together and a player may change at any of them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from probe.media.transcode import AAC_BITRATE, PictureTranscoder, level_of, scaled
from probe.sandbox.handover import on_loop
from probe.sandbox.playlists import Variant
from probe.sandbox.segments import SOUND, Window
from probe.sandbox.unit import Unit

if TYPE_CHECKING:
    from probe.sandbox.context import Platform
    from probe.sandbox.live import Live

HEIGHT = 180  # of the shorter side
BITRATE = 200_000


class Small:
    """One room's. `asked`: when somebody last wanted it, monotonic ns."""

    def __init__(self, platform: Platform, live: Live) -> None:
        self.windows: dict[str, Window] = {}  # by way
        self.asked = platform.clock.now()
        self._platform = platform
        self._live = live
        self._transcoder: PictureTranscoder | None = None
        self._source = ""

    def window(self, way: str, source: Window) -> Window:
        """Its window for that way; new ones begin at the next keyframe."""
        self.asked = self._platform.clock.now()
        if way not in self.windows:
            self.windows[way] = Window(self._platform, self._live, way, self._live.timeline, 0, 0, sibling=source)
            self._live.request_keyframe()
        return self.windows[way]

    def put(self, unit: Unit) -> None:
        """One unit of the room's stream: sound goes on as it is."""
        if unit.kind == "audio":
            return self._spread(unit)
        if self._transcoder is None or unit.source != self._source:
            self._stop()
            self._source = unit.source
            self._transcoder = PictureTranscoder(on_loop(partial(self._made, unit)), bitrate=BITRATE, height=HEIGHT)
        self._transcoder.every = 2 if self._platform.faults.acting("rendition_half_rate", room=self._live.room) else 1
        self._transcoder.put(unit.data, unit.pts, unit.keyframe, unit.arrived)
        return None

    def close(self) -> None:
        self._stop()
        for window in self.windows.values():
            window.close()

    def _stop(self) -> None:
        if self._transcoder is not None:
            self._transcoder.close()
            self._transcoder = None

    def _made(self, first: Unit, data: bytes, pts: int, keyframe: bool, arrived: int) -> None:
        if self._transcoder is not None and first.source == self._source:
            self._spread(Unit(first.source, "video", data, pts, keyframe, arrived, synced=first.synced))

    def _spread(self, unit: Unit) -> None:
        for window in self.windows.values():
            window.put(unit)


def variant(source: Variant, url: str) -> Variant | None:
    """What a master playlist may say of it before it is made; None where the source is as small."""
    size = scaled(*source.size, HEIGHT)
    if size == source.size:
        return None
    sound = AAC_BITRATE if SOUND in source.codecs else 0
    codecs = f"avc1.42c0{level_of(*size, source.frame_rate):02x}" + (f",{SOUND}" if sound else "")
    # The encoder's buffer holds half a second, so no second has more than one and a half times its rate; boxes come on top.
    bandwidth, average = round(1.1 * (1.5 * BITRATE + sound)), round(1.1 * (BITRATE + sound))
    return Variant(url=url, bandwidth=bandwidth, average=average, codecs=codecs, size=size, frame_rate=source.frame_rate)
