"""MPEG-TS as continuous viewers take it: bytes in, packets out, and what the stream says of itself into facts and failures."""

from __future__ import annotations

from probe.drivers.base import SessionIO
from probe.drivers.streamed import Streamed
from probe.errors import Failure
from probe.model.clock import NS
from probe.model.stage import Phase
from probe.wire.packet import EncodedPacket
from probe.wire.ts import TsReader

_SOUND_ONLY = NS  # a programme that names no picture for so long has none


class TsPackets:
    """One viewer's."""

    def __init__(self, streamed: Streamed, io: SessionIO) -> None:
        self._reader, self._streamed, self._io = TsReader(), streamed, io
        self._without: int | None = None  # since when the programme names no picture

    def feed(self, data: bytes, arrived: int) -> list[EncodedPacket]:
        """Raises Failure (first_packet … playing: malformed, too_large; no_video), Unsupported."""
        reader, streamed = self._reader, self._streamed
        reader.phase = streamed.phase
        packets = reader.feed(data)
        if streamed.begun or reader.programme is None or reader.programme.video is not None:
            self._without = None
        elif self._without is None:
            self._without = arrived
        elif arrived - self._without >= _SOUND_ONLY:
            raise Failure(_before(streamed.phase), "no_video", "the programme map names no picture")
        return packets

    def tell(self) -> None:
        """What was wrong with the stream; nothing where all was well."""
        reader = self._reader
        for name in ("lost", "resynced", "broken", "cut_short"):
            if count := getattr(reader, name):
                self._io.facts[f"ts_{name}"] = str(count)


def _before(phase: Phase) -> Phase:
    return Phase.KEYFRAME if phase is Phase.PLAYING else phase
