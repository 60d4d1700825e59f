"""Access units out of packets: at the marker bit, in order, whole, from a keyframe on, whatever the network does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.rtc.assembly import GIVE_UP, MAX_HELD, MENDABLE, AccessUnit, Assembler
from probe.rtc.packet import Rtp, parse_rtp, unwrap_rtx

MS = 1_000_000
SPS, PPS = b"\x67\x42\xc0\x1e", b"\x68\xce\x3c\x80"


def fu_a(nal: bytes, size: int) -> list[bytes]:
    """One NAL unit in fragments (RFC 6184 section 5.8)."""
    body = [nal[1:][i : i + size] for i in range(0, len(nal) - 1, size)]
    head = bytes([nal[0] & 0xE0 | 28])
    return [
        head + bytes([nal[0] & 0x1F | (0x80 if i == 0 else 0) | (0x40 if i == len(body) - 1 else 0)]) + part
        for i, part in enumerate(body)
    ]


class Stream:
    """Packets of a stream of pictures, one keyframe every `gop`."""

    def __init__(self, ssrc: int = 1, sequence: int = 0, timestamp: int = 0, gop: int = 10) -> None:
        self.ssrc, self.sequence, self.timestamp, self.gop = ssrc, sequence, timestamp, gop
        self.number = 0

    def picture(self, parts: int = 3) -> list[Rtp]:
        key = self.number % self.gop == 0
        nal = bytes([0x65 if key else 0x41, 0x88]) + bytes([self.number & 0xFF, 0xAA]) * 40
        payloads = ([SPS, PPS] if key else []) + fu_a(nal, max(1, -(-len(nal) // parts)))
        out = []
        for index, payload in enumerate(payloads):
            marker = index == len(payloads) - 1
            arrived = (self.number * 33 + 1000) * MS + index * 1000
            out.append(Rtp(self.ssrc, 96, self.sequence & 0xFFFF, self.timestamp & 0xFFFFFFFF, marker, payload, arrived))
            self.sequence += 1
        self.number += 1
        self.timestamp += 3000
        return out


def collect() -> tuple[Assembler, list[AccessUnit]]:
    units: list[AccessUnit] = []
    return Assembler(units.append), units


def test_a_unit_leaves_with_its_marker_and_not_with_the_next_units_first_packet() -> None:
    assembler, units = collect()
    packets = Stream().picture()
    for packet in packets[:-1]:
        assembler.add(packet, "h264")
    assert units == []
    assembler.add(packets[-1], "h264")
    (unit,) = units
    assert unit.keyframe and unit.data.startswith(b"\0\0\0\1" + SPS + b"\0\0\0\1" + PPS + b"\0\0\0\1\x65")
    assert (unit.first_arrived, unit.last_arrived) == (packets[0].arrived, packets[-1].arrived)
    assert unit.size == len(unit.data) and unit.lost_before == 0


def test_joining_in_mid_stream_waits_for_a_keyframe() -> None:
    assembler, units = collect()
    stream = Stream(gop=5)
    stream.picture()
    for packet in stream.picture()[1:]:  # not even the picture's beginning
        assembler.add(packet, "h264")
    for _ in range(3):
        for packet in stream.picture():
            assembler.add(packet, "h264")
    assert units == [] and assembler.need_key and assembler.counts.skipped == 4
    for packet in stream.picture():
        assembler.add(packet, "h264")
    assert [u.keyframe for u in units] == [True]


def test_joining_in_the_middle_of_a_keyframe_takes_the_next_one() -> None:
    assembler, units = collect()
    stream = Stream(gop=2)
    for packet in stream.picture()[3:] + stream.picture() + stream.picture():
        assembler.add(packet, "h264")
    assert len(units) == 1 and units[0].timestamp > 0


def test_a_unit_without_marker_ends_where_the_next_begins() -> None:
    assembler, units = collect()
    stream = Stream()
    first, second = stream.picture(), stream.picture()
    first[-1].marker = False
    for packet in first + second[:1]:
        assembler.add(packet, "h264")
    assert len(units) == 1


@pytest.mark.parametrize("seed", range(5))
def test_reordered_packets_come_out_in_order(seed: int) -> None:
    assembler, units = collect()
    stream = Stream(sequence=0xFFF0, timestamp=0xFFFF_F000)  # both wrap on the way
    packets = [p for _ in range(20) for p in stream.picture()]
    for packet in _jitter(packets, random.Random(seed)):
        assembler.add(packet, "h264")
    assert [u.timestamp - units[0].timestamp for u in units] == [3000 * i for i in range(20)]
    assert assembler.counts.lost == 0 and not assembler.waiting


def _jitter(packets: list[Rtp], rng: random.Random) -> list[Rtp]:
    order = sorted(range(len(packets)), key=lambda i: i + rng.uniform(0, 4))
    return [packets[i] for i in order]


def test_a_gap_is_named_for_retransmission_and_mended_by_it() -> None:
    assembler, units = collect()
    stream = Stream()
    packets = [p for _ in range(3) for p in stream.picture()]
    lost = packets.pop(6)
    for packet in packets:
        assembler.add(packet, "h264")
    assert len(units) == 1 and assembler.waiting and assembler.missing() == [lost.sequence_number]
    assembler.add(lost, "h264")
    assert len(units) == 3 and not assembler.waiting and assembler.counts.lost == 0


def test_a_gap_that_nobody_mends_is_given_up_and_playing_resumes_at_a_keyframe() -> None:
    assembler, units = collect()
    stream = Stream(gop=10)
    pictures = [stream.picture() for _ in range(12)]
    lost = pictures[1].pop(1)
    for picture in pictures[:4]:
        for packet in picture:
            assembler.add(packet, "h264")
    assembler.poll(lost.arrived + GIVE_UP // 2)
    assert assembler.waiting
    assembler.poll(lost.arrived + 2 * GIVE_UP)
    assert not assembler.waiting and assembler.need_key and assembler.counts.lost == 1
    for picture in pictures[4:]:
        for packet in picture:
            assembler.add(packet, "h264")
    assert [u.keyframe for u in units] == [True, True, False]
    assert units[1].lost_before == 1


def test_a_whole_keyframe_behind_a_gap_shortens_the_wait() -> None:
    assembler, units = collect()
    stream = Stream(gop=3)
    pictures = [stream.picture() for _ in range(4)]
    pictures[1].pop(0)
    for picture in pictures:
        for packet in picture:
            assembler.add(packet, "h264")
    opened = pictures[1][0].arrived
    assembler.poll(opened + MENDABLE - 1)
    assert len(units) == 1, "a retransmission may still be on its way"
    assembler.poll(opened + MENDABLE)
    assert [u.keyframe for u in units] == [True, True] and units[1].lost_before == 1


def test_a_jump_of_numbers_is_another_source_once_it_is_confirmed() -> None:
    assembler, units = collect()
    stream = Stream()
    for packet in stream.picture():
        assembler.add(packet, "h264")
    stray = Rtp(1, 96, 40_000, 5, True, b"\x41\x00", 2000 * MS)
    assembler.add(stray, "h264")
    for packet in stream.picture():
        assembler.add(packet, "h264")
    assert len(units) == 2, "a single stray packet changes nothing"
    other = Stream(sequence=30_000, timestamp=777)
    other.number = 10
    for packet in other.picture() + other.picture():
        assembler.add(packet, "h264")
    assert [u.keyframe for u in units] == [True, False, True, False]
    assert units[2].timestamp > units[1].timestamp


def test_another_ssrc_begins_anew_and_the_timeline_goes_on() -> None:
    assembler, units = collect()
    one, two = Stream(ssrc=1), Stream(ssrc=2, sequence=500, timestamp=4_000_000_000)
    two.number = 30
    for packet in one.picture() + one.picture() + two.picture():
        assembler.add(packet, "h264")
    assert [u.keyframe for u in units] == [True, False, True]
    gap = units[2].timestamp - units[1].timestamp
    assert gap == pytest.approx(29 * 33 * 90, abs=10), "the arrival times' own distance"


def test_parameter_sets_of_the_answer_come_before_a_keyframe_that_has_none() -> None:
    units: list[AccessUnit] = []
    assembler = Assembler(units.append, parameter_sets=b"\0\0\0\1" + SPS + b"\0\0\0\1" + PPS)
    for packet in Stream().picture()[2:]:
        assembler.add(packet, "h264")
    assert units[0].data.startswith(b"\0\0\0\1" + SPS) and units[0].size < len(units[0].data)


def test_a_picture_without_end_does_not_grow_without_end() -> None:
    assembler, units = collect()
    for number in range(3 * MAX_HELD):
        assembler.add(Rtp(1, 96, number & 0xFFFF, 7, False, b"\x41\x80" + b"x" * 10, number), "h264")
        assert len(assembler._held) <= MAX_HELD + 1
    assert units == []


def test_vp8_begins_with_the_frame_whose_bit_says_so() -> None:
    assembler, units = collect()

    def packet(sequence: int, stamp: int, frame: bytes, begins: bool, marker: bool) -> Rtp:
        return Rtp(1, 97, sequence, stamp, marker, bytes([0x10 if begins else 0]) + frame, sequence)

    for one in (
        packet(1, 0, b"\x01inter", True, True),
        packet(2, 3000, b"\x00key", True, False),
        packet(3, 3000, b"\x01rest", False, True),
        packet(4, 6000, b"\x01inter", True, True),
    ):
        assembler.add(one, "vp8")
    assert [(u.keyframe, u.data) for u in units] == [(True, b"\x00key\x01rest"), (False, b"\x01inter")]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.builds(
            Rtp,
            st.integers(0, 2),
            st.just(96),
            st.integers(0, 0xFFFF) | st.integers(0, 40),
            st.integers(0, 5).map(lambda n: n * 3000),
            st.booleans(),
            st.binary(max_size=8),
            st.integers(0, 10**10),
        ),
        max_size=80,
    ),
    st.sampled_from(["h264", "vp8"]),
)
def test_no_packets_of_an_authenticated_peer_break_it(packets: list[Rtp], codec: str) -> None:
    assembler, units = collect()
    for packet in packets:
        assembler.add(packet, codec)
        assembler.poll(packet.arrived)
    assembler.poll(10**12)
    assert all(b.lost_before >= 0 for b in units)
    assert assembler.counts.units == len(units)
    assert not units or units[0].keyframe


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.sets(st.integers(0, 199), max_size=30))
def test_what_comes_out_after_losses_is_always_whole_and_decodable_in_order(seed: int, lost: set[int]) -> None:
    """Every unit released equals the one sent, and after a missing one a keyframe comes first."""
    whole, units = collect()
    stream = Stream(gop=8, sequence=seed & 0xFFFF, timestamp=seed)
    packets = [p for _ in range(40) for p in stream.picture()]
    for packet in packets:
        whole.add(packet, "h264")
    number = {unit.data: index for index, unit in enumerate(units)}
    assert len(number) == 40
    assembler, got = collect()
    for index, packet in enumerate(packets):
        if index not in lost:
            assembler.add(packet, "h264")
        assembler.poll(packet.arrived)
    assembler.poll(packets[-1].arrived + 10 * GIVE_UP)
    before: int | None = None
    for unit in got:
        now = number[unit.data]
        assert now > before if unit.keyframe and before is not None else unit.keyframe or now == (before or 0) + 1
        before = now


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80" * 11,
        b"\x40" + bytes(20),
        b"\x90" + bytes(11),
        b"\x90" + bytes(13) + b"\xff\xff",
        b"\xa0" + bytes(12),
        b"\x8f" + bytes(20),
    ],
)
def test_what_is_no_rtp_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_rtp(data)


def test_padding_extension_and_sources_are_taken_off() -> None:
    data = bytes.fromhex("b1e0 0102 00000003 00000004 00000005 bede0001 10aa0000".replace(" ", "")) + b"payload" + b"\0\0\3"
    packet = parse_rtp(data)
    assert (packet.ssrc, packet.payload_type, packet.sequence_number, packet.timestamp, packet.marker) == (4, 96, 258, 3, True)
    assert packet.payload == b"payload"


def test_a_retransmission_is_the_packet_it_carries() -> None:
    packet = unwrap_rtx(Rtp(9, 98, 5, 3000, True, b"\x01\x02body", 7), 96, 1)
    assert (packet.ssrc, packet.payload_type, packet.sequence_number, packet.payload) == (1, 96, 258, b"body")
    with pytest.raises(ValueError):
        unwrap_rtx(Rtp(9, 98, 5, 3000, True, b"\x01"), 96, 1)
