"""What a viewer of a continuous stream sees (RTMP, FLV, MPEG-TS, SRT): packets decoded as they come.

No buffer: a picture counts as shown when it is decoded, so that what the platform delayed is seen and nothing is added.
Stages: the driver enters FIRST_PACKET when it has asked for media; here the first packet opens KEYFRAME, and the first
keyframe's last byte opens PROBE. Pictures before it cannot be decoded and are not handed on.
"""

from __future__ import annotations

from probe.drivers.base import SessionIO
from probe.errors import Unsupported
from probe.media.decoder import DecoderThread
from probe.model.stage import Stage
from probe.wire.packet import EncodedPacket

HEARD = ("aac", "opus", "mp3")
SEEN = ("h264", "vp8")


class Streamed:
    """One viewer's. `put` packets in decoding order; close it."""

    def __init__(self, io: SessionIO, rendition: str = "") -> None:
        self._io = io
        self._rendition = rendition
        self._video: DecoderThread | None = None
        self._audio: DecoderThread | None = None
        self._audio_kind: tuple[str, bytes] | None = None
        self._begun = False

    def put(self, packet: EncodedPacket, arrived: int) -> None:
        """One packet whose last byte arrived at `arrived`. Raises Unsupported for a picture we cannot decode."""
        self._io.stages.enter(Stage.KEYFRAME, arrived)
        if packet.kind == "audio":
            self._hear(packet, arrived)
        else:
            self._see(packet, arrived)

    def close(self) -> None:
        for decoder in (self._video, self._audio):
            if decoder is not None:
                decoder.close()

    def _see(self, packet: EncodedPacket, arrived: int) -> None:
        if not self._begun:
            if packet.codec not in SEEN:
                raise Unsupported(f"{packet.codec} in the stream")
            if not packet.keyframe:
                return
            self._begun = True
            self._io.stages.enter(Stage.PROBE, arrived)
            self._io.facts["codec"] = packet.codec
        if self._video is None:
            self._video = DecoderThread(packet.codec, self._io.feed, self._io.clock)
        self._video.submit(packet.data, packet.pts, arrived, packet.size, packet.keyframe, None, self._rendition)

    def _hear(self, packet: EncodedPacket, arrived: int) -> None:
        kind = (packet.codec, packet.extradata)
        if self._audio_kind != kind:
            if self._audio is not None:
                self._audio.close()
            self._audio_kind, self._audio = kind, None
            self._io.facts["audio"] = packet.codec
            try:
                if packet.codec not in HEARD:
                    raise Unsupported(packet.codec)
                self._audio = DecoderThread(
                    packet.codec,
                    self._io.feed,
                    self._io.clock,
                    packet.extradata or None,
                    sample_rate=packet.rate or 48_000,
                    channels=packet.channels or 2,
                )
            except Unsupported as unsupported:  # the picture is what we came for
                self._io.note(f"the sound is not listened to: {unsupported}")
        if self._audio is not None:
            self._audio.submit(packet.data, packet.pts, arrived, packet.size, True)
