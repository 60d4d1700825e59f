"""MPEG-TS read and written: the same packets a demuxer gives, as soon as their bytes are there, whatever the stream suffered."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.errors import Failure, Unsupported
from probe.media.demux import Demuxer
from probe.model.stage import Phase
from probe.wire.packet import EncodedPacket
from probe.wire.ts import TsReader
from probe.wire.ts_tables import crc32
from probe.wire.ts_writer import TsWriter
from tests.wire.ts_made import made

SPS, PPS, IDR, SLICE = b"\0\0\0\1\x67abc", b"\0\0\0\1\x68d", b"\0\0\0\1\x65", b"\0\0\0\1\x41"
ASC = bytes.fromhex("1188")  # AAC-LC, 48 kHz, mono


def read(data: bytes, step: int = 1316) -> list[EncodedPacket]:
    return read_with(TsReader(), data, step)


def read_with(reader: TsReader, data: bytes, step: int = 1316) -> list[EncodedPacket]:
    return [packet for at in range(0, len(data), step) for packet in reader.feed(data[at : at + step])]


def video(packets: list[EncodedPacket]) -> list[EncodedPacket]:
    return [packet for packet in packets if packet.kind == "video"]


def audio(packets: list[EncodedPacket]) -> list[EncodedPacket]:
    return [packet for packet in packets if packet.kind == "audio"]


def decoded(codec: str, packets: list[EncodedPacket]) -> int:
    context: Any = av.CodecContext.create(codec, "r")
    if packets[0].extradata:
        context.extradata = packets[0].extradata
    if packets[0].kind == "audio":
        context.sample_rate = packets[0].rate
        context.layout = "stereo"
    return sum(len(context.decode(av.Packet(packet.data))) for packet in packets)


def pictures(count: int, size: int = 3000, sound: bool = True) -> list[tuple[bytes, int, bool]]:
    """(access unit, pts, keyframe), every tenth an IDR."""
    rand = random.Random(4)
    units = []
    for number in range(count):
        key = number % 10 == 0
        body = bytes(rand.randrange(3, 250) for _ in range(size + number * 7))
        units.append(((SPS + PPS + IDR if key else SLICE) + body, number * 3000, key))
    return units


def written(units: list[tuple[bytes, int, bool]], writer: TsWriter | None = None) -> list[bytes]:
    writer = writer or TsWriter(ASC)
    out: list[bytes] = []
    for data, pts, key in units:
        out += writer.video(data, pts, key)
        out += writer.aac(b"sound" * 20, pts)
    return out


# --- as FFmpeg writes them


@pytest.mark.parametrize("codec", ["libx264", "libx264 with B frames", "CBR with null packets"])
def test_pictures_are_those_a_demuxer_gives(codec: str):
    data = made(
        video_options=(("bf", "2"), ("preset", "veryfast")) if "B frames" in codec else (("bf", "0"),),
        options=(("muxrate", "2000000"),) if "CBR" in codec else (),
    )
    ours, theirs = video(read(data)), video(Demuxer().feed(None, data))
    assert len(ours) in (len(theirs), len(theirs) - 1)  # nothing comes after the last, so its end may not be seen
    for one, other in zip(ours, theirs, strict=False):
        assert one.pts == pytest.approx(other.pts)
        assert one.keyframe == other.keyframe
        assert one.data == other.data
    assert decoded("h264", ours) >= len(ours) - 3


@pytest.mark.parametrize(("encoder", "codec"), [("aac", "aac"), ("libmp3lame", "mp3"), ("libopus", "opus"), ("mp2", "mp2")])
def test_sound_is_split_into_frames_that_decode(encoder: str, codec: str):
    ours = audio(read(made(audio=encoder)))
    assert {packet.codec for packet in ours} == {codec}
    assert {(packet.rate, packet.channels) for packet in ours} == {(48_000, 2)}
    for one, other in pairwise(ours):
        assert one.pts is not None and one.duration is not None
        assert other.pts == pytest.approx(one.pts + one.duration, abs=0.0002)
    assert decoded(codec, ours) >= len(ours) - 2
    assert sum(packet.duration or 0 for packet in ours) == pytest.approx(2.0, abs=0.1)


def test_the_start_of_sound_and_picture_is_the_demuxers():
    data = made()
    theirs = Demuxer().feed(None, data)
    ours = read(data)
    assert audio(ours)[0].pts == pytest.approx(audio(theirs)[0].pts)
    assert audio(ours)[0].extradata == bytes.fromhex("1190")


@pytest.mark.parametrize(
    ("options", "kind", "codec"),
    [
        ({"video": "libx265"}, "video", "hevc"),
        ({"video": "mpeg2video"}, "video", "mpeg2video"),
        ({"options": (("mpegts_flags", "latm"),)}, "audio", "aac_latm"),
        ({"audio": "ac3"}, "audio", "ac3"),
    ],
)
def test_what_we_do_not_decode_is_named(options: dict, kind: str, codec: str):
    found = [packet for packet in read(made(**options)) if packet.kind == kind]
    assert {packet.codec for packet in found} == {codec}


def test_a_programme_without_pictures_says_so():
    reader = TsReader()
    packets = read_with(reader, made(video=""))
    assert reader.programme is not None
    assert reader.programme.video is None
    assert reader.programme.audio is not None
    assert packets and not video(packets)


# --- when is a picture there?


def test_a_picture_is_there_with_its_last_byte():
    reader, writer = TsReader(), TsWriter()
    for number, (data, pts, key) in enumerate(pictures(30)):
        got: list[EncodedPacket] = []
        for datagram in writer.video(data, pts, key):
            assert not got  # nothing before the last
            got = reader.feed(datagram)
        assert [packet.data[6:] for packet in got] == [data], number


def test_a_picture_without_a_length_ends_with_the_packet_that_is_stuffed():
    data = made(audio="")
    reader = TsReader()
    starts = 0
    behind = []
    for at in range(0, len(data), 188):
        packet = data[at : at + 188]
        starts += packet[1:3] == b"\x41\0"
        for _ in reader.feed(packet):
            behind.append(starts)
    whole = [begun - at for at, begun in enumerate(behind, 1)]
    assert reader.cut_short == 0
    assert sum(lag == 0 for lag in whole) >= 0.9 * len(whole)  # the rest filled its last packet by chance
    assert set(whole) <= {0, 1}


def test_stuffing_in_the_middle_of_a_picture_is_learnt_from():
    pieces = [b"\0\0\1\xe0\0\0\x80\x80\x05" + bytes([0x21, 0, 1, 0, 1]) + IDR + b"x" * 50, b"y" * 100, b"z" * 80]

    def packet(payload: bytes, counter: int, begins: bool) -> bytes:
        field = b"\0".ljust(183 - len(payload), b"\xff")
        return bytes([0x47, 0x41 if begins else 1, 0, 0x30 | counter]) + bytes([len(field)]) + field + payload

    tables = TsWriter().video(SLICE, 0, True)[0][: 2 * 188]
    reader = TsReader()
    reader.feed(tables)
    got = []
    for number in range(9):
        got += reader.feed(packet(pieces[number % 3], number & 15, number % 3 == 0))
    assert reader.cut_short == 1  # and never again
    assert [len(one.data) for one in got] == [55, 235]  # the third is not known to be over


# --- time


def test_stamps_go_on_where_33_bits_end():
    units = [(SLICE + b"x" * 100, (1 << 33) - 90_000 * 2 + number * 3000, False) for number in range(90)]
    got = video(read(b"".join(written(units))))
    steps = {round(other.pts - one.pts, 6) for one, other in pairwise(got) if one.pts is not None and other.pts is not None}
    assert steps == {round(3000 / 90_000, 6)}
    assert len(got) == 90


def test_a_jump_of_hours_is_told_as_it_is():
    units = [(SLICE + b"x", number * 3000 + (5 * 3600 * 90_000 if number >= 5 else 0), False) for number in range(10)]
    got = video(read(b"".join(written(units))))
    assert got[5].pts is not None and got[4].pts is not None
    assert got[5].pts - got[4].pts == pytest.approx(5 * 3600 + 1 / 30)
    units = [(data, pts - 3 * 3600 * 90_000 if number >= 5 else pts, key) for number, (data, pts, key) in enumerate(units)]
    assert len(video(read(b"".join(written(units))))) == 10


def test_the_programme_clock_runs_with_the_stamps():
    reader = TsReader()
    packets = video(read_with(reader, b"".join(written(pictures(30)))))
    assert reader.pcr is not None
    assert packets[-1].pts == pytest.approx(reader.pcr + 0.2)


# --- damage


def test_lost_packets_are_counted_and_cost_one_unit():
    datagrams = written(pictures(40))
    del datagrams[25]
    reader = TsReader()
    got = read_with(reader, b"".join(datagrams))
    assert reader.lost >= 1
    assert len(video(got)) >= 39


def test_a_packet_sent_twice_counts_once():
    data = b"".join(written(pictures(5)))
    doubled = b"".join(data[at : at + 188] * 2 for at in range(0, len(data), 188))
    reader = TsReader()
    assert read_with(reader, doubled) == read(data)
    assert reader.lost == 0


def test_sound_that_the_tables_name_only_later_is_found_though_their_counters_stand_still():
    """As SRS writes for whoever joins before a sound: first a PMT of the picture alone, then one of both, all numbered 0."""
    data = bytearray(b"".join(written(pictures(20))))
    (alone,) = (p for p in packets_of(TsWriter().video(SLICE, 0, True)[0]) if pid_of(p) == 0x1000)
    tables = [at for at in range(0, len(data), 188) if pid_of(data[at : at + 188]) in (0, 0x1000)]
    for at in tables:
        data[at + 3] &= 0xF0
    first = next(at for at in tables if pid_of(data[at : at + 188]) == 0x1000)
    data[first : first + 188] = alone[:3] + bytes([alone[3] & 0xF0]) + alone[4:]
    reader = TsReader()
    got = read_with(reader, bytes(data))
    assert len(video(got)) == 20 and len(audio(got)) >= 15
    assert reader.lost == 0, "a table's counter that stands still is no loss"


def packets_of(data: bytes) -> list[bytes]:
    return [data[at : at + 188] for at in range(0, len(data), 188)]


def pid_of(packet: bytes | bytearray) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]


def test_sync_is_found_again():
    data = b"".join(written(pictures(20)))
    reader = TsReader()
    noisy = data[: 188 * 30 + 77] + b"noise G and G" + data[188 * 40 :]
    got = read_with(reader, noisy, 500)
    assert reader.resynced == 1
    assert len(video(got)) >= 15


def test_a_stream_that_is_joined_in_the_middle_is_read_from_the_next_tables_on():
    data = b"".join(written(pictures(20)))
    got = read(data[188 * 20 + 51 :])
    assert len(video(got)) >= 15


def test_what_is_no_transport_stream_is_malformed():
    with pytest.raises(Failure) as raised:
        read(b"<html>not a stream</html>" * 4000)
    assert (raised.value.phase, raised.value.reason) == (Phase.FIRST_PACKET, "malformed")


def test_a_unit_without_end_is_too_large():
    reader = TsReader(Phase.KEYFRAME)
    reader.feed(TsWriter().video(SLICE, 0, True)[0][: 2 * 188])
    with pytest.raises(Failure) as raised:
        for number in range(60_000):
            head = bytes([0x47, 0x41 if not number else 1, 0, 0x10 | number & 15])
            payload = b"\0\0\1\xe0\0\0\x80\0\0" if not number else b""
            reader.feed(head + payload.ljust(184, b"x"))
    assert (raised.value.phase, raised.value.reason) == (Phase.KEYFRAME, "too_large")


def test_a_scrambled_stream_is_unsupported():
    data = bytearray(b"".join(written(pictures(3))))
    for at in range(2 * 188, len(data), 188):
        if data[at + 1] & 0x1F == 1:
            data[at + 3] |= 0x80
    with pytest.raises(Unsupported, match="scrambled"):
        read(bytes(data))


def test_tables_whose_sum_is_wrong_are_not_believed():
    data = bytearray(b"".join(written(pictures(1))))
    data[10] ^= 1
    assert read(bytes(data)) == []
    assert crc32(b"123456789") == 0x0376E6E7  # CRC-32/MPEG-2's check value


def test_parameter_sets_of_a_unit_before_come_with_the_idr():
    units = [(SPS + PPS, 0, False), (IDR + b"picture", 3000, True), (SLICE + b"next", 6000, False)]
    got = video(read(b"".join(written(units))))
    assert got[1].keyframe
    assert got[1].data.startswith(SPS + PPS)
    assert IDR + b"picture" in got[1].data


# --- the writer


def test_what_is_written_is_what_ffmpeg_reads():
    units = pictures(60)
    data = b"".join(written(units))
    theirs = Demuxer().feed(None, data)
    assert [packet.pts for packet in video(theirs)] == pytest.approx([pts / 90_000 + 1 for _, pts, _ in units])
    assert [packet.keyframe for packet in video(theirs)] == [key for *_, key in units]
    assert {packet.codec for packet in audio(theirs)} == {"aac"}
    assert len(audio(theirs)) == 60


def test_datagrams_hold_at_most_seven_packets_and_counters_run_on():
    datagrams = written([*pictures(20), (SPS + PPS + IDR + b"x" * 100_000, 60_000, True)])
    assert all(len(one) % 188 == 0 and 0 < len(one) <= 1316 for one in datagrams)
    reader = TsReader()
    got = read_with(reader, b"".join(datagrams))
    assert reader.lost == reader.broken == 0
    assert len(video(got)[-1].data) > 100_000


def test_tables_come_before_each_keyframe_and_ten_times_a_second():
    writer = TsWriter(ASC)
    since = 0
    for data, pts, key in pictures(90):
        first = writer.video(data, pts, key)[0]
        tables = first[1:3] == b"\x40\0"
        assert tables or not key
        since = 0 if tables else since + 1
        assert since < 4


def test_a_configuration_that_adts_cannot_say_is_refused():
    with pytest.raises(ValueError, match="ADTS"):
        TsWriter(b"\xff\xff")


# --- whatever comes


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4000), max_size=30))
def test_how_the_bytes_are_cut_makes_no_difference(cuts: list[int]):
    data = b"".join(written(pictures(8)))
    reader, at, got = TsReader(), 0, []
    for cut in cuts:
        got += reader.feed(data[at : at + cut])
        at += cut
    got += reader.feed(data[at:])
    assert got == read(data)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_makes_nothing_but_our_errors(data: st.DataObject):
    sample = bytearray(made(audio=data.draw(st.sampled_from(["aac", "libopus", "libmp3lame"])), seconds=0.4))
    for _ in range(data.draw(st.integers(0, 40))):
        sample[data.draw(st.integers(0, len(sample) - 1))] = data.draw(st.integers(0, 255))
    try:
        for packet in read(bytes(sample), data.draw(st.integers(100, 3000))):
            assert packet.data
    except (Failure, Unsupported):
        pass


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 0x41), st.integers(0, 255), st.integers(0, 63), st.binary(max_size=184)), max_size=30))
def test_invented_packets_make_nothing_but_our_errors(invented: list[tuple[int, int, int, bytes]]):
    reader = TsReader()
    reader.feed(written(pictures(1))[0])
    try:
        for high, low, flags, payload in invented:
            reader.feed(bytes([0x47, high, low, flags]) + payload.ljust(184, b"\0"))
    except (Failure, Unsupported):
        pass
