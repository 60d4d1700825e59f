"""Segments of HLS into encoded packets: fMP4 with its init section, or MPEG-TS.

FFmpeg is handed bytes, one segment at a time, with the format named by us and every protocol forbidden: a segment can
neither pick a demuxer nor make it open anything. Times are the stream's own: fMP4 carries them in tfdt, the 33 bits of
MPEG-TS are unwrapped across segments here. What fMP4 holds its init section says: FFmpeg is kept from decoding the beginning of
each piece to find out, which cost more than everything else it did. What nearly every fMP4 is, wire/fmp4_reader.py reads without
FFmpeg, and at once where it is short. Not attempted: packed audio, WebVTT, encryption.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator

import av
from av.bitstream import BitStreamFilterContext

from probe.errors import Failure
from probe.model.stage import Phase
from probe.model.text import beginning, quoted
from probe.wire import fmp4_bounds, fmp4_reader
from probe.wire.packet import EncodedPacket
from probe.wire.unwrap import Unwrap

_PACKETS = fmp4_bounds.MOST  # per segment
_STREAMS = 16
_AT_ONCE = 1 << 20  # bytes that are read while the loop waits: a thread for them costs more, and holds the interpreter as long
_TS_PACKET = 188
_BITS = 33  # of a PTS in MPEG-TS
_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"emsg", b"prft", b"free", b"skip", b"uuid", b"mdat"})
_TO_ANNEXB = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
_SAID = {"codec_whitelist": "none", "probesize": "32"}
_NOTHING_OPENS = {"protocol_whitelist": "none", "enable_drefs": "0", "use_absolute_path": "0"}


class Demuxer:
    """One per rendition; remembers the last init section and how often TS clocks have wrapped. `beside`: one whose streams lie on
    the same clock."""

    def __init__(self, beside: Demuxer | None = None) -> None:
        self._init = b""
        self._tracks: fmp4_reader.Tracks | None = None
        self._clock: Unwrap = beside._clock if beside is not None else Unwrap(_BITS)

    def feed(self, init: bytes | None, segment: bytes) -> list[EncodedPacket]:
        """Packets of one whole segment. `init` None: the one before. Raises Failure(segment): malformed for what is no segment,
        empty for one without media, too_large for one of more packets than any has. Takes ms: call it off the loop, or use
        `feed_async`."""
        self._take(init)
        if segment[:1] == b"\x47" and len(segment) >= _TS_PACKET and segment[_TS_PACKET : _TS_PACKET + 1] in (b"\x47", b""):
            return self._demux(segment, "mpegts", {"correct_ts_overflow": "0"})
        if (packets := self._plain(segment)) is not None:
            return packets
        if segment[4:8] in _BOXES:
            whole = self._init + segment
            try:
                fmp4_bounds.check(whole)
            except fmp4_bounds.Unbounded as error:
                raise Failure(Phase.SEGMENT, "too_large", f"fMP4 that claims {error}") from error
            return self._demux(whole, "mp4", _SAID)
        raise Failure(Phase.SEGMENT, "malformed", f"neither MPEG-TS nor fMP4: begins {beginning(segment)}")

    async def feed_async(self, init: bytes | None, segment: bytes) -> list[EncodedPacket]:
        """The same, in a worker thread where it takes long; one call at a time."""
        self._take(init)
        if len(segment) <= _AT_ONCE and (packets := self._plain(segment)) is not None:
            return packets
        return await asyncio.to_thread(self.feed, None, segment)

    def _take(self, init: bytes | None) -> None:
        if init is not None:
            self._init, self._tracks = init, fmp4_reader.tracks(init)

    def _plain(self, segment: bytes) -> list[EncodedPacket] | None:
        """Of fMP4 as nearly everybody makes it; None for what FFmpeg is to read."""
        return None if self._tracks is None else fmp4_reader.read(self._tracks, segment)

    def _demux(self, data: bytes, form: str, options: dict[str, str]) -> list[EncodedPacket]:
        try:
            with av.open(io.BytesIO(data), "r", format=form, options={**_NOTHING_OPENS, **options}) as container:
                packets = list(self._packets(container, form))
        except (av.error.FFmpegError, ValueError) as error:
            raise Failure(Phase.SEGMENT, "malformed", quoted(f"{form}: {getattr(error, 'strerror', error)}", 200)) from error
        if not packets:
            raise Failure(Phase.SEGMENT, "empty", f"{len(data)} bytes of {form} without a packet")
        return packets

    def _packets(self, container: av.container.InputContainer, form: str) -> Iterator[EncodedPacket]:
        streams = [s for s in container.streams if s.type in ("video", "audio") and s.codec_context is not None]
        if not streams or len(container.streams) > _STREAMS:
            return
        filters = {
            s.index: BitStreamFilterContext(_TO_ANNEXB[s.codec_context.codec.canonical_name], s)
            for s in streams
            if form == "mp4" and s.codec_context.codec.canonical_name in _TO_ANNEXB
        }
        count = 0
        for packet in container.demux(streams):
            if packet.size == 0:
                continue
            count += 1
            if count > _PACKETS:
                raise Failure(Phase.SEGMENT, "too_large", f"more than {_PACKETS} packets in one segment")
            wire_size = packet.size
            out = filters[packet.stream.index].filter(packet) if packet.stream.index in filters else [packet]
            for each in out:
                yield self._packet(packet.stream, each, form, wire_size)

    def _packet(self, stream: av.stream.Stream, packet: av.Packet[av.stream.Stream], form: str, size: int) -> EncodedPacket:
        pts = packet.pts
        if pts is not None and form == "mpegts":
            pts = self._clock(pts)
        context = stream.codec_context
        video = isinstance(context, av.VideoCodecContext)
        codec = context.codec.canonical_name  # its own name is that of FFmpeg's decoder: mp3float for MP3
        return EncodedPacket(
            kind="video" if video else "audio",
            codec=codec,
            extradata=b"" if codec in _TO_ANNEXB else bytes(context.extradata or b""),
            data=bytes(packet),
            pts=None if pts is None else float(pts * packet.time_base),
            duration=float(packet.duration * packet.time_base) if packet.duration else None,
            keyframe=bool(packet.is_keyframe),
            size=size,
            width=context.width if isinstance(context, av.VideoCodecContext) else 0,
            height=context.height if isinstance(context, av.VideoCodecContext) else 0,
            rate=context.sample_rate if isinstance(context, av.AudioCodecContext) else 0,
            channels=context.channels if isinstance(context, av.AudioCodecContext) else 0,
        )
