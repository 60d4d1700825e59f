"""A segment cut into chunks as it comes in."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.errors import Failure
from probe.wire.mpd_boxes import LARGEST, Chunk, Splitter


def box(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


def prft(seconds: int, version: int = 1) -> bytes:
    ntp = (seconds + 2_208_988_800 << 32) + (1 << 31)
    return box(b"prft", struct.pack(">IIQ", version << 24, 1, ntp) + bytes(8 if version else 4))


CHUNKS = [box(b"styp", b"x") + prft(100) + box(b"moof", b"m" * 9) + box(b"mdat", b"d" * 30), box(b"moof") + box(b"mdat")]


@pytest.mark.parametrize("step", [1, 3, 40, 1000])
def test_chunks_come_as_soon_as_they_are_whole_however_they_arrive(step):
    data, splitter = b"".join(CHUNKS) + box(b"moof"), Splitter()
    found = [chunk for at in range(0, len(data), step) for chunk in splitter.feed(data[at : at + step])]
    assert found == [Chunk(CHUNKS[0], 100 * 10**9 + 5 * 10**8), Chunk(CHUNKS[1], None)]
    assert splitter.rest == 8


@pytest.mark.parametrize("version", [0, 1])
def test_the_producers_time_is_read_in_both_versions(version):
    (chunk,) = Splitter().feed(prft(1_700_000_000, version) + box(b"mdat"))
    assert chunk.produced == 1_700_000_000 * 10**9 + 5 * 10**8


def test_a_time_that_is_none_is_none():
    assert Splitter().feed(box(b"prft", bytes(20)) + box(b"mdat"))[0].produced is None
    assert Splitter().feed(box(b"prft", b"x") + box(b"mdat"))[0].produced is None


def test_a_large_box_has_its_size_behind_its_type():
    large = struct.pack(">I4sQ", 1, b"mdat", 20) + b"data"
    assert Splitter().feed(large) == [Chunk(large, None)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<!doctype html>", "malformed"),
        (struct.pack(">I4s", 4, b"mdat"), "malformed"),
        (struct.pack(">I4s", 0, b"mdat"), "malformed"),
        (struct.pack(">I4s", 100, b"\0\0\0\1"), "malformed"),
        (struct.pack(">I4sQ", 1, b"mdat", LARGEST + 1), "too_large"),
        (struct.pack(">I4sQ", 1, b"mdat", 3), "malformed"),
    ],
)
def test_what_is_no_box_is_said(data, reason):
    with pytest.raises(Failure) as raised:
        Splitter().feed(data + bytes(16))
    assert raised.value.reason in (reason, "too_large" if data.startswith(b"<") else reason)


@given(st.lists(st.binary(max_size=40) | st.sampled_from([*CHUNKS, prft(5), box(b"mdat")]), max_size=8))
def test_any_bytes_come_to_chunks_or_to_our_errors(pieces):
    splitter, out = Splitter(), b""
    with contextlib.suppress(Failure):
        for n, piece in enumerate(pieces):
            out += b"".join(chunk.data for chunk in splitter.feed(piece))
            assert len(out) + splitter.rest == sum(map(len, pieces[: n + 1]))
