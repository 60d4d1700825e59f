"""What a player tells the edge: CTA-5004 as headers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.wire.cmcd import Cmcd, Format, Kind

_PAIR = re.compile(r'^[a-z]+(=(-?\d{1,15}|"([ !#-\[\]-~]|\\["\\])*"|[A-Za-z][A-Za-z0-9]*))?$')
_ALLOWED = {
    "CMCD-Object": {"br", "d", "ot", "tb"},
    "CMCD-Request": {"bl", "dl", "mtp", "su"},
    "CMCD-Session": {"sf", "sid", "st"},
    "CMCD-Status": {"bs"},
}


def test_each_key_stands_in_its_header_sorted_and_rounded_as_the_specification_says() -> None:
    player = Cmcd("01-session", Format.HLS)
    player.fetched(1_000_000, 500_000_000)  # 16 Mbit/s
    assert player.headers(Kind.VIDEO, bitrate=3_200_499, top=6_000_000, duration=4.0044, buffered=21.34) == {
        "CMCD-Object": "br=3200,d=4004,ot=v,tb=6000",
        "CMCD-Request": "bl=21300,dl=21300,mtp=16000",
        "CMCD-Session": 'sf=h,sid="01-session",st=l',
    }


def test_what_is_not_known_is_left_out_and_never_nought() -> None:
    assert Cmcd("", Format.DASH).headers(Kind.MUXED) == {"CMCD-Object": "ot=av", "CMCD-Session": "sf=d,st=l"}


def test_at_the_start_the_request_is_urgent_and_has_no_deadline() -> None:
    assert Cmcd("s", Format.HLS).headers(Kind.INIT, startup=True)["CMCD-Request"] == "su"
    assert Cmcd("s", Format.HLS).headers(Kind.AUDIO, startup=True, buffered=0)["CMCD-Request"] == "bl=0,su"


def test_a_manifest_says_nothing_of_buffers_and_bitrates() -> None:
    player = Cmcd("s", Format.DASH)
    player.starved()
    headers = player.headers(Kind.MANIFEST, bitrate=1e6, top=1e6, duration=2, buffered=3)
    assert headers == {"CMCD-Object": "ot=m", "CMCD-Session": 'sf=d,sid="s",st=l'}


def test_starving_is_told_once_with_the_next_media() -> None:
    player = Cmcd("s", Format.HLS)
    player.starved()
    player.headers(Kind.MANIFEST)
    assert player.headers(Kind.VIDEO)["CMCD-Status"] == "bs"
    assert "CMCD-Status" not in player.headers(Kind.VIDEO)


def test_throughput_is_that_of_the_last_five_answers_worth_measuring() -> None:
    player = Cmcd("s", Format.HLS)
    player.fetched(100, 1)  # too small to measure anything
    assert "CMCD-Request" not in player.headers(Kind.VIDEO)
    player.fetched(1 << 20, 10**12)
    for _ in range(5):
        player.fetched(125_000, 100_000_000)
    assert player.headers(Kind.VIDEO)["CMCD-Request"] == "mtp=10000"


@pytest.mark.parametrize(("seconds", "told"), [(0.049, 0), (0.05, 100), (0.149, 100), (0.25, 300)])
def test_buffers_round_to_the_nearest_hundred(seconds: float, told: int) -> None:
    assert f"bl={told}," in Cmcd("s", Format.HLS).headers(Kind.VIDEO, buffered=seconds)["CMCD-Request"]


def test_switched_off_nothing_is_told() -> None:
    assert Cmcd("s", Format.HLS, on=False).headers(Kind.VIDEO, buffered=1, startup=True) == {}


@given(
    session=st.text(), kind=st.sampled_from(Kind), startup=st.booleans(),
    numbers=st.tuples(*[st.none() | st.floats() for _ in range(4)]), size=st.integers(0, 1 << 40), took=st.integers(0, 1 << 60),
)  # fmt: skip
def test_whatever_is_known_the_headers_are_well_formed(
    session: str, kind: Kind, startup: bool, numbers: tuple[float | None, ...], size: int, took: int
) -> None:
    player = Cmcd(session, Format.HLS)
    player.fetched(size, took)
    bitrate, top, duration, buffered = numbers
    headers = player.headers(kind, bitrate=bitrate, top=top, duration=duration, buffered=buffered, startup=startup)
    for name, value in headers.items():
        pairs = re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+', value)
        assert all(_PAIR.match(pair) for pair in pairs), value
        keys = [pair.partition("=")[0] for pair in pairs]
        assert keys == sorted(keys) and set(keys) <= _ALLOWED[name]
