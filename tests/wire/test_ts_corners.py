"""Sound and tables of MPEG-TS at their edges: durations, headers that lie, sections in pieces."""

from __future__ import annotations

import pytest

from probe.wire.ts_sound import opus_frames, splitter_for
from probe.wire.ts_tables import Sections, crc32, programmes, streams


def opus(toc: int, size: int = 20, *, flags: int = 0, extra: bytes = b"") -> bytes:
    data = bytes([toc]) + bytes(size - 1)
    length = b"\xff" * (size // 255) + bytes([size % 255])
    return bytes([0x7F, 0xE0 | flags]) + length + extra + data


@pytest.mark.parametrize(
    ("toc", "seconds"),
    [(0, 0.01), (3 << 3, 0.06), (12 << 3, 0.01), (13 << 3, 0.02), (16 << 3, 0.0025), (19 << 3 | 1, 0.04), (19 << 3 | 2, 0.04)],
)
def test_an_opus_packet_says_how_long_it_is(toc, seconds):
    (frame,), broken = opus_frames(opus(toc), 1.0, 2)
    assert not broken and frame.duration == pytest.approx(seconds) and frame.pts == 1.0


def test_opus_packets_follow_one_another_whatever_their_control_headers_carry():
    many = opus(19 << 3 | 3, 300) + opus(0, flags=0x10, extra=b"\0\1") + opus(0, flags=4, extra=b"\2ab")
    frames, broken = opus_frames(many, None, 0)
    assert (len(frames), broken) == (3, 0) and len(frames[0].data) == 300 and frames[0].channels == 2
    assert frames[0].duration == 0  # of no frames, by its own count


@pytest.mark.parametrize("spoilt", [b"\x7f", b"\0\0\0", opus(0)[:-5], bytes([0x7F, 0xE0, 0]), opus(0) + b"junk", opus(0) * 70])
def test_opus_that_makes_no_sense_is_told(spoilt):
    assert opus_frames(spoilt, 0.0, 2)[1] == 1


def mpeg(second: int = 0xFB, third: int = 0x90, fourth: int = 0) -> bytes:
    return bytes([0xFF, second, third, fourth])


def test_mpeg_audio_is_split_by_its_headers():
    splitter = splitter_for("mp3")
    assert splitter is not None
    size = 144 * 128_000 // 44_100
    frame = mpeg() + bytes(size - 4)
    frames, broken = splitter.feed(frame * 2 + frame[:100], 0.5)
    assert not broken and [f.codec for f in frames] == ["mp3", "mp3"] and frames[0].pts == 0.5
    assert frames[1].pts == pytest.approx(0.5 + 1152 / 44_100)
    rest, _ = splitter.feed(frame[100:], None)
    assert len(rest) == 1
    second, _ = splitter_for("mp3").feed(mpeg(0xFD, 0x80, 0xC0) + bytes(4000), 0.0)  # type: ignore[union-attr]
    assert second and second[0].codec == "mp2" and second[0].channels == 1


@pytest.mark.parametrize("header", [mpeg(0xEB), mpeg(0xFF), mpeg(third=0x00), mpeg(third=0xF0), mpeg(third=0x9C)])
def test_a_header_that_cannot_be_is_no_frame(header):
    splitter = splitter_for("mp3")
    assert splitter is not None
    assert splitter.feed(header + bytes(2000), None) == ([], 1)


def adts(rate: int = 3, size: int = 20, blocks: int = 0, crc: bool = False) -> bytes:
    second = 0xF0 if crc else 0xF1
    head = bytes([0xFF, second, 1 << 6 | rate << 2, 2 << 6 | size >> 11, size >> 3 & 0xFF, (size & 7) << 5, blocks])
    return head + bytes(size - 7)


def test_aac_is_split_by_its_headers():
    splitter = splitter_for("aac")
    assert splitter is not None
    (frame, checked), broken = splitter.feed(adts() + adts(crc=True), 2.0)
    assert not broken and (frame.rate, frame.channels, len(frame.data), len(checked.data)) == (48_000, 2, 13, 11)
    for bad in (adts(rate=14), adts(size=7), adts(blocks=1)):
        found, wrong = splitter_for("aac").feed(bad + bytes(50), None)  # type: ignore[union-attr]
        assert (found, wrong) == ([], 1)
    assert splitter_for("ac3") is None


def section(table: int, body: bytes) -> bytes:
    head = bytes([table, 0xB0 | len(body) + 9 >> 8, len(body) + 9 & 0xFF, 0, 1, 0xC1, 0, 0]) + body
    return head + crc32(head).to_bytes(4, "big")


PAT = section(0, bytes([0, 0, 0xE0, 0x10, 0, 1, 0xE1, 0]))
OTHER = section(0, bytes([0, 1, 0xE1, 1]))


def test_sections_come_in_pieces_twice_and_two_in_a_packet():
    seen: list[bytes] = []
    sections = Sections(seen.append)
    sections.feed(PAT, False)  # nothing was begun
    sections.feed(b"", True)
    sections.feed(b"\0" + PAT[:7], True)
    sections.feed(PAT[7:], False)
    sections.feed(b"\0" + PAT + OTHER + b"\xff" * 10, True)
    sections.feed(b"\0" + PAT[:5], True)
    sections.feed(bytes([len(PAT) - 5]) + PAT[5:] + OTHER, True)
    assert seen == [PAT, OTHER, PAT, OTHER]
    spoilt = bytearray(PAT)
    spoilt[9] ^= 1
    sections.feed(b"\0" + bytes(spoilt), True)
    assert len(seen) == 4


def test_tables_say_where_picture_and_sound_are():
    assert programmes(PAT) == 0x100 and programmes(OTHER) == 0x101
    assert programmes(section(0, bytes([0, 0, 0xE0, 0x10]))) is None  # the network's alone
    assert programmes(section(1, bytes(4))) is None

    def stream(kind: int, pid: int, descriptors: bytes = b"") -> bytes:
        return bytes([kind, 0xE0 | pid >> 8, pid & 0xFF, 0xF0, len(descriptors)]) + descriptors

    registered = b"\x05\x04Opus" + b"\x7f\x02\x80\x06"
    body = (
        bytes([0xE1, 0x01, 0xF0, 0]) + stream(0x99, 7) + stream(0x06, 8) + stream(0x1B, 0x101) + stream(0x06, 0x102, registered)
    )
    found = streams(section(2, body))
    assert found is not None and found.video is not None and found.audio is not None
    assert (found.video.codec, found.audio.codec, found.audio.channels) == ("h264", "opus", 6)
    ac3 = streams(section(2, bytes([0xE1, 0x01, 0xF0, 0]) + stream(0x06, 9, b"\x6a\x01\0" + b"\x09\x00")))
    assert ac3 is not None and ac3.audio is not None and ac3.audio.codec == "ac3" and ac3.video is None
    assert streams(section(2, bytes([0xE1, 0x01, 0xF0, 0]) + stream(0x1B, 1) * 40)) is not None
    assert streams(PAT) is None and streams(section(2, bytes([0xE1, 1, 0xF0, 0]))[:12]) is None
