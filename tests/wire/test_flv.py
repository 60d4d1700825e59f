"""FLV: tags made here and by FFmpeg are read whatever their pieces, and hostile ones only fail."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.errors import Failure, Unsupported
from probe.media.encode import aac_config
from probe.model.stage import Phase
from probe.wire.amf import Broken
from probe.wire.flv import MAX_TAG, FlvReader, flv_header, flv_tag
from probe.wire.flv_tags import AUDIO, VIDEO, Tag, TagMaker, TagReader, metadata_tag
from probe.wire.packet import EncodedPacket
from tests.drivers.hls_origin import FPS, clip

COUNT = 12
BLOCK = 1152


def read(data: bytes, cuts: Iterable[int] = ()) -> list[EncodedPacket]:
    reader, at = FlvReader(), 0
    found: list[EncodedPacket] = []
    for end in [*sorted(cuts), len(data)]:
        found += reader.feed(data[at:end])
        at = end
    return found


def made() -> bytes:
    maker, out = TagMaker(), bytearray(flv_header())
    out += flv_tag(metadata_tag({"width": 320.0, "height": 180.0}))
    for n, (unit, keyframe) in enumerate(clip().units[:COUNT]):
        stamp = n * 1000 // FPS
        for tag in [*maker.video(unit, stamp, keyframe), *maker.aac(bytes([n]) * 5, stamp, aac_config(1))]:
            out += flv_tag(tag)
    return bytes(out)


def decoded(packets: list[EncodedPacket]) -> int:
    context = av.CodecContext.create("h264", "r")
    frames = [f for p in packets if p.kind == "video" for f in context.decode(av.Packet(p.data))]
    return len(frames) + len(context.decode(None))


def test_what_was_made_is_read_again() -> None:
    reader = FlvReader()
    packets = list(reader.feed(made()))
    video, audio = ([p for p in packets if p.kind == kind] for kind in ("video", "audio"))
    assert reader.metadata == {"width": 320.0, "height": 180.0}
    assert [p.keyframe for p in video] == [n % 10 == 0 for n in range(COUNT)]
    assert [p.pts for p in video] == [pytest.approx(n / FPS) for n in range(COUNT)]
    assert video[0].data[:5] == b"\0\0\0\1\x67" and video[1].data[:4] == b"\0\0\0\1"
    assert decoded(packets) == COUNT
    assert [p.data for p in audio] == [bytes([n]) * 5 for n in range(COUNT)]
    assert (audio[0].codec, audio[0].extradata, audio[0].rate, audio[0].channels) == ("aac", aac_config(1), 48_000, 1)


@settings(max_examples=40)
@given(st.data())
def test_pieces_do_not_matter(data: st.DataObject) -> None:
    whole = made()
    cuts = data.draw(st.sets(st.integers(0, len(whole)), max_size=60))
    assert read(whole, cuts) == read(whole)


def test_byte_by_byte_it_is_the_same() -> None:
    whole = made()[:6000]
    assert read(whole, range(len(whole))) == read(whole)


def ffmpeg(video: str, audio: str, **options: str) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="flv") as container:
        pictures: Any = container.add_stream(video, rate=30, options=options)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 64, "yuv420p"
        sounds: Any = container.add_stream(audio, rate=44_100)
        sounds.layout = "stereo"
        for n in range(20):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts = n
            container.mux(pictures.encode(frame))
            samples = av.AudioFrame(format="fltp", layout="stereo", samples=BLOCK)
            samples.sample_rate, samples.pts = 44_100, n * BLOCK
            for plane in samples.planes:
                plane.update(bytes(plane.buffer_size))
            container.mux(sounds.encode(samples))
        container.mux(pictures.encode(None))
        container.mux(sounds.encode(None))
    return out.getvalue()


def test_an_flv_with_b_frames_is_shown_in_their_order() -> None:
    packets = read(ffmpeg("libx264", "aac", bf="2", g="30"))
    video = [p for p in packets if p.kind == "video"]
    assert len(video) == decoded(packets) == 20
    shown = [p.pts for p in video if p.pts is not None]
    assert shown != sorted(shown) and sorted(shown)[-1] - shown[0] == pytest.approx(19 / 30, abs=0.01)
    audio = next(p for p in packets if p.kind == "audio")
    assert (audio.codec, audio.rate, audio.channels) == ("aac", 44_100, 2)


def test_mp3_has_no_configuration() -> None:
    audio = [p for p in read(ffmpeg("libx264", "libmp3lame")) if p.kind == "audio"]
    assert {(p.codec, p.rate, p.channels, p.extradata) for p in audio} == {("mp3", 44_100, 2, b"")}


@pytest.mark.parametrize(
    ("payload", "codec"),
    [
        (b"\x90hvc1" + b"\1" * 30, "hevc"),
        (b"\x91hvc1\0\0\0" + b"\1" * 30, "hevc"),
        (b"\x91av01" + b"\1" * 30, "av1"),
        (b"\x91vp09" + b"\1" * 30, "vp9"),
        (b"\x1c\1\0\0\0" + b"\1" * 30, "hevc"),  # before the FourCC, by the twelfth codec id
        (b"\x14" + b"\1" * 30, "vp6"),
        (b"\x12" + b"\1" * 30, "flv1"),
    ],
)
def test_codecs_that_are_not_ours_are_named(payload: bytes, codec: str) -> None:
    packet = TagReader().read(Tag(VIDEO, 0, payload))
    assert packet is not None and packet.codec == codec and packet.kind == "video"


def test_h264_and_vp8_by_their_fourcc_are_as_ever() -> None:
    maker, reader, plain = TagMaker(), TagReader(), TagReader()
    for n, (unit, keyframe) in enumerate(clip().units[:3]):
        for tag in maker.video(unit, n, keyframe):
            config, body = tag.payload[1] == 0, tag.payload[5:]
            head = bytes([0x80 | tag.payload[0] & 0x70 | (0 if config else 3)])
            assert reader.read(Tag(VIDEO, n, head + b"avc1" + body)) == _sized(plain.read(tag), len(body) + 5)
    packet = TagReader().read(Tag(VIDEO, 0, b"\x93vp08frame"))
    assert packet is not None and (packet.codec, packet.data, packet.keyframe) == ("vp8", b"frame", True)


def _sized(packet: EncodedPacket | None, size: int) -> EncodedPacket | None:
    if packet is None:
        return None
    fields = {name: getattr(packet, name) for name in EncodedPacket.__slots__}
    return EncodedPacket(**{**fields, "size": size})


def test_opus_by_its_fourcc_is_read() -> None:
    reader = TagReader()
    assert reader.read(Tag(AUDIO, 0, b"\x90Opus" + b"OpusHead\1\1" + bytes(9))) is None
    packet = reader.read(Tag(AUDIO, 20, b"\x91Opusdata"))
    assert packet is not None and (packet.codec, packet.data, packet.rate, packet.channels) == ("opus", b"data", 48_000, 1)


def test_an_idr_that_brings_its_parameter_sets_gets_no_others() -> None:
    reader, maker = TagReader(), TagMaker()
    config, picture = maker.video(clip().units[0][0], 0, True)
    reader.read(config)
    sps = struct.pack(">I", 5) + b"\x67own."
    packet = reader.read(Tag(VIDEO, 0, picture.payload[:5] + sps + picture.payload[5:]))
    assert packet is not None and packet.data.count(b"\0\0\0\1\x67") == 1


@pytest.mark.parametrize(("keyframe", "slice_type", "delimiter"), [(True, 0x65, b"\x09\x10"), (False, 0x41, b"\x09\x30")])
def test_a_picture_begins_with_nothing_that_looks_like_a_start_code(keyframe: bool, slice_type: int, delimiter: bytes) -> None:
    """A unit of 256 to 511 bytes has 00 00 01 at the front of its length; SRS takes a stream that begins so for Annex B."""
    slice_ = bytes([slice_type]) + bytes([1]) * 299
    (picture,) = TagMaker().video(b"\0\0\0\1" + slice_, 0, keyframe)
    assert picture.payload[5:] == b"\0\0\0\2" + delimiter + struct.pack(">I", 300) + slice_
    packet = TagReader().read(picture)
    assert packet is not None and packet.data == b"\0\0\0\1" + slice_, "and readers of ours take the delimiter away"


def test_a_configuration_comes_again_only_when_it_changed_or_was_asked_for() -> None:
    maker = TagMaker()
    first, second = clip().units[0][0], clip().units[10][0]
    assert [t.payload[1] for t in maker.video(first, 0, True)] == [0, 1]
    assert [t.payload[1] for t in maker.video(second, 1, True)] == [1]
    assert [t.payload[1] for t in maker.aac(b"x", 2, b"\x11\x90")] == [0, 1]
    assert [t.payload[1] for t in maker.aac(b"x", 2, b"\x12\x10")] == [0, 1]
    assert [(t.kind, t.payload[1]) for t in maker.again(3)] == [(VIDEO, 0), (AUDIO, 0)]


@pytest.mark.parametrize("stamp", [0, 0xFFFFFF, 0x1000000, 0xFFFFFFFF])
def test_timestamps_have_their_fourth_byte(stamp: int) -> None:
    (packet,) = read(flv_header() + flv_tag(Tag(AUDIO, stamp, b"\x2fmp3")))
    assert packet.pts == stamp / 1000


BAD: dict[str, tuple[bytes, str]] = {
    "html": (b"<html><body>It works!</body></html>", "malformed"),
    "another version": (b"FLV\x02\x05\0\0\0\x09\0\0\0\0", "malformed"),
    "a header of megabytes": (b"FLV\x01\x05\0\xff\0\x09", "malformed"),
    "a tag that is none": (flv_header() + bytes(range(200, 240)), "malformed"),
    "an endless tag": (flv_header() + b"\x09\xff\xff\xff" + bytes(7), "too_large"),
    "a NAL unit beyond its tag": (flv_header() + flv_tag(Tag(VIDEO, 0, b"\x17\1\0\0\0\xff\0\0\0x")), "malformed"),
    "a configuration cut off": (flv_header() + flv_tag(Tag(VIDEO, 0, b"\x17\0\0\0\0\1\x42\0\x1e\xff\xe1\0\x20gB")), "malformed"),
    "a picture of no codec": (flv_header() + flv_tag(Tag(VIDEO, 0, b"\x1fxxxxxxx")), "malformed"),
    "metadata nested without end": (flv_header() + flv_tag(Tag(18, 0, b"\x03\0\1a" * 1000)), "too_large"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_flv_is_refused_where_the_session_stands(name: str) -> None:
    data, reason = BAD[name]
    reader = FlvReader(Phase.PLAYING)
    with pytest.raises(Failure) as caught:
        list(reader.feed(data))
    assert (caught.value.phase, caught.value.reason) == (Phase.PLAYING, reason)


def test_encrypted_and_multitrack_streams_are_unsupported() -> None:
    with pytest.raises(Unsupported):
        read(flv_header() + b"\x29" + flv_tag(Tag(VIDEO, 0, b"x" * 20))[1:])
    with pytest.raises(Unsupported):
        TagReader().read(Tag(VIDEO, 0, b"\x96\0avc1x"))


def test_a_reader_holds_no_more_than_one_tag() -> None:
    reader = FlvReader()
    assert not list(reader.feed(flv_header()))
    for _ in range(300):
        list(reader.feed(flv_tag(Tag(AUDIO, 0, b"\x2f" + bytes(50_000)))))
    assert len(reader._buffer) == 0 and MAX_TAG <= 8 << 20


@settings(max_examples=300)
@given(st.binary(max_size=300), st.sampled_from([b"", flv_header()]))
def test_any_bytes_are_flv_or_ours_to_refuse(data: bytes, head: bytes) -> None:
    try:
        list(FlvReader().feed(head + data))
    except (Failure, Unsupported):
        pass


@settings(max_examples=300)
@given(st.sampled_from([8, 9, 18]), st.binary(max_size=60), st.binary(max_size=60))
def test_any_tag_is_read_or_broken(kind: int, first: bytes, second: bytes) -> None:
    reader = TagReader()
    for payload in (first, second):
        try:
            reader.read(Tag(kind, 0, payload))
        except (Broken, Unsupported):
            pass


@settings(max_examples=150)
@given(st.integers(0, 5000), st.integers(0, 255), st.integers(1, 40))
def test_a_stream_with_wrong_bytes_only_fails(at: int, value: int, count: int) -> None:
    data = bytearray(made())
    data[at : at + count] = bytes([value]) * count
    try:
        read(bytes(data))
    except (Failure, Unsupported):
        pass
