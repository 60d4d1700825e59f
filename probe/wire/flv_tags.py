"""What FLV tags hold, both ways: H.264, AAC, MP3 and metadata. RTMP's media messages are the same bytes.

From the FLV specification (annex E.4) and, for pictures and sound named by a FourCC, Enhanced RTMP v1 and v2 (Veovera
2023, 2024). H.264 comes out as Annex B with its parameter sets before each IDR, for that is what decoders take from any
place in the stream. A codec that is not ours is named, not read: whoever decodes says whether it can. Multitrack and the
extended modifiers of Enhanced RTMP v2 are refused as unsupported; so is a picture in several sizes at once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from probe.errors import Unsupported
from probe.wire import amf
from probe.wire.amf import Broken, Value
from probe.wire.fmp4 import split_annexb, to_lengths
from probe.wire.packet import EncodedPacket
from probe.wire.unwrap import Unwrap

AUDIO, VIDEO, SCRIPT = 8, 9, 18
_START = b"\0\0\0\1"
_SPS, _PPS, _AUD, _IDR = 7, 8, 9, 5
_DELIMITERS = {True: b"\x09\x10", False: b"\x09\x30"}  # of I slices alone, of I and P slices (H.264 7.3.2.4)
_VIDEO_CODECS = {2: "flv1", 3: "flashsv", 4: "vp6", 5: "vp6a", 6: "flashsv2", 7: "h264", 12: "hevc", 13: "av1"}
_AUDIO_CODECS = {
    0: "pcm", 1: "adpcm_swf", 2: "mp3", 3: "pcm", 4: "nellymoser", 5: "nellymoser", 6: "nellymoser", 7: "pcm_alaw",
    8: "pcm_mulaw", 10: "aac", 11: "speex", 14: "mp3",
}  # fmt: skip
_FOURCC = {
    b"avc1": "h264", b"hvc1": "hevc", b"vvc1": "vvc", b"av01": "av1", b"vp09": "vp9", b"vp08": "vp8",
    b"mp4a": "aac", b"Opus": "opus", b".mp3": "mp3", b"ac-3": "ac3", b"ec-3": "eac3", b"fLaC": "flac",
}  # fmt: skip
_RATES = (5512, 11_025, 22_050, 44_100)
_AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350)
_SPEAKERS = {7: 8}
_MOST_SETS = 32
_MOST_UNITS = 4096  # of a picture; the largest level has some hundreds


@dataclass(frozen=True, slots=True)
class Tag:
    """`kind` 8, 9 or 18; `timestamp` in ms modulo 2^32, of decoding."""

    kind: int
    timestamp: int
    payload: bytes


@dataclass(slots=True)
class TagReader:
    """One stream's. `metadata` is what onMetaData said last."""

    metadata: dict[str, Value] = field(default_factory=dict)
    _sets: bytes = b""  # SPS and PPS as Annex B
    _width: int = 4  # of a NAL unit's length
    _asc: bytes = b""
    _opus: bytes = b""
    _clock: Unwrap = field(default_factory=lambda: Unwrap(32))

    def read(self, tag: Tag) -> EncodedPacket | None:
        """The packet of a tag; None for what is not media. Raises Broken, Unsupported."""
        if not tag.payload:
            return None
        if tag.kind == SCRIPT:
            self._script(tag.payload)
        packet = self._video(tag) if tag.kind == VIDEO else self._audio(tag) if tag.kind == AUDIO else None
        if packet is None or packet.pts is None:
            return packet  # what holds no media is stamped as servers please
        rounds = self._clock(tag.timestamp) - tag.timestamp
        return replace(packet, pts=packet.pts + rounds / 1000) if rounds else packet

    # -- pictures

    def _video(self, tag: Tag) -> EncodedPacket | None:
        data = tag.payload
        if data[0] & 0x80:
            return self._enhanced_video(tag)
        kind, codec = data[0] >> 4, _VIDEO_CODECS.get(data[0] & 15)
        if codec is None:
            raise Broken(f"FLV has no video codec {data[0] & 15}")
        if kind == 5:  # a command of a server that seeks
            return None
        if codec not in ("h264", "hevc", "av1"):
            return _packet("video", codec, data[1:], tag, 0, kind == 1)
        if len(data) < 5:
            raise Broken("a video tag that ends too early")
        return self._avc(tag, codec, data[1], data[5:], _signed24(data[2:5]), kind == 1)

    def _enhanced_video(self, tag: Tag) -> EncodedPacket | None:
        data = tag.payload
        kind, packet_type = data[0] >> 4 & 7, data[0] & 15
        if packet_type > 5:
            raise Unsupported("multitrack or modified packets of Enhanced RTMP")
        if len(data) < 5:
            raise Broken("a video tag that ends too early")
        codec = _FOURCC.get(data[1:5]) or _printable(data[1:5])
        if kind == 5 or packet_type == 4:
            return None
        body, offset = data[5:], 0
        if packet_type == 1 and codec in ("h264", "hevc", "vvc"):
            if len(body) < 3:
                raise Broken("a video tag that ends too early")
            body, offset = body[3:], _signed24(body[:3])
        if codec == "vp8":
            return _packet("video", codec, body, tag, 0, kind == 1) if packet_type in (1, 3) and body else None
        return self._avc(tag, codec, 1 if packet_type == 3 else packet_type, body, offset, kind == 1)

    def _avc(self, tag: Tag, codec: str, packet_type: int, body: bytes, offset: int, keyframe: bool) -> EncodedPacket | None:
        """AVCVIDEOPACKET: 0 configuration, 1 NAL units, 2 end of sequence."""
        if codec != "h264":
            return _packet("video", codec, body, tag, offset, keyframe) if body else None
        if packet_type == 0:
            self._configure(body)
        if packet_type != 1 or not body:
            return None
        data, idr = self._annexb(body)
        return _packet("video", codec, data, tag, offset, keyframe or idr) if data else None

    def _configure(self, record: bytes) -> None:
        """AVCDecoderConfigurationRecord (ISO 14496-15 section 5.3.3.1)."""
        if len(record) < 7:
            raise Broken("an AVC configuration that ends too early")
        self._width = (record[4] & 3) + 1
        sets, at = [], 5
        for mask in (0x1F, 0xFF):
            if at >= len(record):
                break  # some encoders leave the PPS to the stream
            count, at = record[at] & mask, at + 1
            if count > _MOST_SETS:
                raise Broken(f"an AVC configuration of {count} parameter sets")
            for _ in range(count):
                size = int.from_bytes(record[at : at + 2], "big")
                unit = record[at + 2 : at + 2 + size]
                if len(unit) < size or at + 2 > len(record):
                    raise Broken("an AVC configuration that ends too early")
                sets.append(_START + unit)
                at += 2 + size
        self._sets = b"".join(sets)

    def _annexb(self, body: bytes) -> tuple[bytes, bool]:
        """The access unit, and whether an IDR is in it. Parameter sets come before the IDR unless it brought its own."""
        units: list[bytes] = []
        at, count, width, own, idr = 0, 0, self._width, False, False
        while at + width <= len(body):
            size = int.from_bytes(body[at : at + width], "big")
            at += width
            count += 1
            if size > len(body) - at:
                raise Broken("a NAL unit longer than its tag")
            if count > _MOST_UNITS:
                raise Broken(f"a picture of more than {_MOST_UNITS} NAL units", "too_large")
            if size:
                unit_type = body[at] & 31
                own = own or unit_type == _SPS
                idr = idr or unit_type == _IDR
                if unit_type != _AUD:
                    units.append(_START)
                    units.append(body[at : at + size])
            at += size
        sets = self._sets if idr and not own else b""
        return sets + b"".join(units), idr

    # -- sound

    def _audio(self, tag: Tag) -> EncodedPacket | None:
        head, body = tag.payload[0], tag.payload[1:]
        if head >> 4 == 9:
            return self._enhanced_audio(tag)
        codec = _AUDIO_CODECS.get(head >> 4)
        if codec is None:
            raise Broken(f"FLV has no audio codec {head >> 4}")
        if codec != "aac":
            rate = 8000 if head >> 4 == 14 else _RATES[head >> 2 & 3]
            return _packet("audio", codec, body, tag, 0, True, rate=rate, channels=(head & 1) + 1) if body else None
        return self._aac(tag, body[:1] == b"\0", body[1:])

    def _enhanced_audio(self, tag: Tag) -> EncodedPacket | None:
        packet_type, fourcc, body = tag.payload[0] & 15, tag.payload[1:5], tag.payload[5:]
        if packet_type in (5, 7):
            raise Unsupported("multitrack or modified packets of Enhanced RTMP")
        codec = _FOURCC.get(fourcc) or _printable(fourcc)
        if packet_type > 1 or not body:
            return None
        if codec == "aac":
            return self._aac(tag, packet_type == 0, body)
        if packet_type == 0:
            self._opus = body if codec == "opus" else b""
            return None
        channels = self._opus[9] if len(self._opus) > 9 else 2
        return _packet("audio", codec, body, tag, 0, True, rate=48_000, channels=channels)

    def _aac(self, tag: Tag, config: bool, body: bytes) -> EncodedPacket | None:
        if config:
            self._asc = body[:64]
            return None
        if not body or not self._asc:  # nothing can be made of it yet
            return None
        rate, channels = _of_asc(self._asc)
        return _packet("audio", "aac", body, tag, 0, True, extradata=self._asc, rate=rate, channels=channels)

    def _script(self, payload: bytes) -> None:
        values = amf.decode(payload)
        if values[:1] == ["@setDataFrame"]:
            values = values[1:]
        if len(values) >= 2 and values[0] == "onMetaData" and isinstance(values[1], dict):
            self.metadata = values[1]


class TagMaker:
    """Encoded units into tags, with the codec's configuration before the first and wherever it changes."""

    def __init__(self) -> None:
        self._avcc = b""
        self._asc = b""

    def video(self, unit: bytes, timestamp: int, keyframe: bool, offset: int = 0) -> list[Tag]:
        """An H.264 access unit in Annex B, decoded at `timestamp` ms and shown `offset` ms later."""
        units = split_annexb(unit)
        tags = []
        sps = next((u for u in units if u[0] & 31 == _SPS), None)
        pps = [u for u in units if u[0] & 31 == _PPS][:31]
        if sps is not None and len(sps) > 3 and pps:
            avcc = avc_configuration(sps, pps)
            if avcc != self._avcc:
                self._avcc = avcc
                tags.append(Tag(VIDEO, timestamp, b"\x17\0\0\0\0" + avcc))
        slices = [u for u in units if u[0] & 31 not in (_SPS, _PPS, _AUD)]
        # SRS takes the length of a first unit of 256 to 511 bytes, 00 00 01 …, for a start code, and the stream for Annex B;
        # our band is such a unit. A delimiter stands before it, as some hardware encoders write one (14496-15 allows it), and
        # before each picture, since SRS asks itself anew for whoever joins.
        sample = to_lengths([_DELIMITERS[keyframe], *slices])
        head = bytes([0x17 if keyframe else 0x27, 1]) + (offset & 0xFFFFFF).to_bytes(3, "big")
        return [*tags, Tag(VIDEO, timestamp, head + sample)]

    def aac(self, frame: bytes, timestamp: int, config: bytes) -> list[Tag]:
        """A raw AAC frame, whose AudioSpecificConfig is `config`."""
        tags = []
        if config != self._asc:
            self._asc = config
            tags.append(Tag(AUDIO, timestamp, b"\xaf\0" + config))
        return [*tags, Tag(AUDIO, timestamp, b"\xaf\1" + frame)]

    def again(self, timestamp: int) -> list[Tag]:
        """The configurations so far, for a reader that joins now."""
        video = [Tag(VIDEO, timestamp, b"\x17\0\0\0\0" + self._avcc)] if self._avcc else []
        return video + ([Tag(AUDIO, timestamp, b"\xaf\0" + self._asc)] if self._asc else [])


def metadata_tag(values: dict[str, Value], *, publishing: bool = False) -> Tag:
    """onMetaData; `publishing` puts @setDataFrame before it, as a publisher does."""
    names: list[Value] = ["@setDataFrame", "onMetaData"] if publishing else ["onMetaData"]
    return Tag(SCRIPT, 0, amf.encode(*names, values))


def avc_configuration(sps: bytes, pps: list[bytes]) -> bytes:
    """AVCDecoderConfigurationRecord with lengths of four bytes; for profiles without chroma_format (up to Main)."""
    sets = b"".join(struct.pack(">H", len(unit)) + unit for unit in pps)
    return b"\x01" + sps[1:4] + b"\xff\xe1" + struct.pack(">H", len(sps)) + sps + bytes([len(pps)]) + sets


def _of_asc(config: bytes) -> tuple[int, int]:
    """(rate, channels) of an AudioSpecificConfig (ISO 14496-3 section 1.6.2.1); 0 for what it does not say plainly."""
    bits = int.from_bytes(config[:8].ljust(8, b"\0"), "big")
    at = 64 - 5
    if bits >> at & 31 == 31:
        at -= 6
    at -= 4
    index = bits >> at & 15
    rate = _AAC_RATES[index] if index < len(_AAC_RATES) else 0
    if index == 15:
        at -= 24
        rate = bits >> at & 0xFFFFFF
    channels = bits >> (at - 4) & 15
    return rate, _SPEAKERS.get(channels, channels)


def _packet(
    kind: str, codec: str, data: bytes, tag: Tag, offset: int, keyframe: bool, *, extradata: bytes = b"", rate: int = 0,
    channels: int = 0,
) -> EncodedPacket:  # fmt: skip
    return EncodedPacket(
        kind=kind, codec=codec, extradata=extradata, data=data, pts=(tag.timestamp + offset) / 1000, duration=None,
        keyframe=keyframe, size=len(tag.payload), rate=rate, channels=channels,
    )  # fmt: skip


def _signed24(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _printable(fourcc: bytes) -> str:
    return fourcc.decode("ascii", "replace") if fourcc.isalnum() else fourcc.hex()
