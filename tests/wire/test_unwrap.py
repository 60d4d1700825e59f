"""Where a stream's clock begins anew: 26.5 hours of MPEG-TS, 49.7 days of RTMP and FLV. Time goes on, for readers and writers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.media.demux import Demuxer
from probe.media.encode import aac_config
from probe.wire.flv import FlvReader, flv_header, flv_tag
from probe.wire.flv_tags import AUDIO, VIDEO, Tag, TagMaker, TagReader, metadata_tag
from probe.wire.packet import EncodedPacket
from probe.wire.rtmp_chunks import ChunkReader, ChunkWriter, Message
from probe.wire.ts import TsReader
from probe.wire.ts_writer import TsWriter
from probe.wire.unwrap import Unwrap
from tests.drivers.hls_origin import FPS, clip

DAYS = 1 << 32  # ms
HOURS = (1 << 33) - 90_000  # ticks of 90 kHz; our writer's stamps are a second ahead
BEFORE = 200  # ms


@given(st.integers(0, DAYS - 1), st.lists(st.integers(-(1 << 30), 1 << 30), max_size=50))
def test_steps_of_less_than_half_a_round_add_up(first: int, steps: list[int]) -> None:
    clock, place = Unwrap(32), first
    assert clock(first) == first
    for step in steps:
        place += step
        assert clock(place % DAYS) == place


def stamps(rate: int, around: int) -> list[int]:
    """Of the clip's pictures, from a little before the wrap on."""
    return [around - BEFORE * rate // 1000 + n * rate // FPS for n in range(12)]


def even(packets: list[EncodedPacket], first: float) -> None:
    for kind, every in (("video", 1 / FPS), ("audio", 1 / FPS)):
        times = [packet.pts for packet in packets if packet.kind == kind]
        assert len(times) >= 11
        assert times == [pytest.approx(first + n * every, abs=0.002) for n in range(len(times))]


def test_flv_goes_on_after_49_days() -> None:
    maker, out = TagMaker(), bytearray(flv_header())
    for n, stamp in enumerate(stamps(1000, DAYS)):
        out += flv_tag(metadata_tag({"n": float(n)}))  # whose stamp is 0, as servers have it
        for tag in [*maker.video(*_unit(n, stamp)), *maker.aac(b"sound", stamp, aac_config(1))]:
            out += flv_tag(tag)
    even(list(FlvReader().feed(bytes(out))), (DAYS - BEFORE) / 1000)


def _unit(n: int, stamp: int) -> tuple[bytes, int, bool]:
    data, keyframe = clip().units[n]
    return data, stamp, keyframe


def test_what_holds_no_media_moves_no_clock() -> None:
    reader = TagReader()
    maker = TagMaker()
    begun = [*maker.video(*_unit(0, 3_000_000_000)), *maker.aac(b"sound", 3_000_000_000, aac_config(1))]
    zero = [Tag(tag.kind, 0, tag.payload) if tag.payload[1] == 0 else tag for tag in begun]  # configurations at 0, as SRS sends
    assert [p.pts for tag in zero if (p := reader.read(tag))] == [3_000_000.0, 3_000_000.0]


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_jump_by_hours_stays_one(hours: int) -> None:
    reader, maker = TagReader(), TagMaker()
    times = []
    for n, stamp in enumerate([20_000_000, 20_000_000 + hours * 3_600_000]):
        times += [p.pts for tag in maker.video(*_unit(n, stamp)) if (p := reader.read(tag)) and p.pts is not None]
    assert times == [20_000.0, 20_000.0 + hours * 3600]


@pytest.mark.parametrize("size", [128, 60_000])
@pytest.mark.parametrize("around", [0xFFFFFF, DAYS, DAYS + 0xFFFFFF])
def test_an_rtmp_writer_is_understood_where_stamps_grow_longer_and_where_they_begin_anew(size: int, around: int) -> None:
    """4.7 hours: from three bytes to seven. 49.7 days: from the last to the first."""
    writer, reader = ChunkWriter(), ChunkReader()
    writer.size = reader._size = size
    sent = [
        Message(kind, (stamp + late) % DAYS, 1, bytes([n]) * 1000)
        for n, stamp in enumerate(stamps(1000, around))
        for kind, late in ((VIDEO, 0), (AUDIO, -15))  # sound a little older than its picture, on a chunk stream of its own or not
    ]
    for apart in (0, 1):
        wire = b"".join(writer.write(4 + apart * (message.kind == AUDIO), message) for message in sent)
        assert list(reader.feed(wire)) == sent


def test_a_transport_stream_goes_on_after_26_hours_though_sound_begins_behind_the_wrap() -> None:
    writer, packets = TsWriter(aac_config(1)), []
    reader = TsReader()
    for n, stamp in enumerate(stamps(90_000, HOURS)):
        for datagram in writer.video(clip().units[n][0], stamp, clip().units[n][1]):
            packets += reader.feed(datagram)
        if stamp >= HOURS:
            for datagram in writer.aac(b"\x01\x18\x20\x07", stamp):
                packets += reader.feed(datagram)
    first = (HOURS - BEFORE * 90) / 90_000 + 1
    assert [p.pts for p in packets if p.kind == "video"] == [pytest.approx(first + n / FPS, abs=0.001) for n in range(12)]
    sound = [p.pts for p in packets if p.kind == "audio" and p.pts is not None]
    assert sound and min(sound) >= HOURS / 90_000 + 1


@pytest.mark.parametrize("renditions", [1, 2], ids=["muxed", "sound of its own"])
def test_so_does_a_segment_whose_sound_begins_behind_the_wrap(renditions: int) -> None:
    demuxer = Demuxer()
    picture, sound = TsWriter(b"" if renditions == 2 else aac_config(1)), TsWriter(aac_config(1))
    bodies = [b"", b""]
    for n, stamp in enumerate(stamps(90_000, HOURS)):
        bodies[0] += b"".join(picture.video(clip().units[n][0], stamp, clip().units[n][1]))
        if stamp >= HOURS:
            bodies[renditions - 1] += b"".join((picture if renditions == 1 else sound).aac(b"\x01\x18\x20\x07", stamp))
    packets = demuxer.feed(None, bodies[0])
    if renditions == 2:
        packets += Demuxer(demuxer).feed(None, bodies[1])
    times = {kind: [p.pts for p in packets if p.kind == kind and p.pts is not None] for kind in ("video", "audio")}
    assert max(times["video"]) - min(times["video"]) < 1
    assert times["audio"] and all(abs(pts - times["video"][-1]) < 1 for pts in times["audio"])
