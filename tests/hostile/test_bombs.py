"""Small inputs that would cost much: each is refused, or cheap, whatever a server multiplies in it."""

from __future__ import annotations

import asyncio
import os
import time
import zlib
from collections.abc import AsyncGenerator

import pytest
from multidict import CIMultiDict

from probe.clock import SystemClock
from probe.drivers.dash_track import Track
from probe.drivers.hls_source import Piece
from probe.drivers.streamed import Streamed
from probe.errors import Failure
from probe.media.decoder import DecoderThread
from probe.media.demux import Demuxer
from probe.media.feed import Feed
from probe.model.clock import MS, NS
from probe.model.frames import FrameRecord, Undecodable
from probe.model.stage import Phase
from probe.net.body import Decoder
from probe.net.edges import CDNS, attribute
from probe.rtc.turn import _Tcp
from probe.wire import amf, fmp4_bounds, mpd, playlist
from probe.wire.amf import Broken
from probe.wire.flv_tags import VIDEO, Tag, TagReader
from probe.wire.mpd_facts import Period, Representation, Spot, Template
from probe.wire.mpd_follow import Due, Follower
from probe.wire.packet import EncodedPacket
from probe.wire.playlist_values import absolute, attributes
from probe.wire.rtmp_chunks import ChunkReader
from probe.wire.srt import packets as p
from probe.wire.srt.caller import Acknowledged, Caller, Ended
from probe.wire.srt.keys import Keys
from probe.wire.srt.packets import Extension, Kind
from probe.wire.srt.sending import Sender
from probe.wire.ts import TsReader
from tests.drivers.hls_origin import clip
from tests.drivers.rtc_session import session
from tests.tools import cost, rss
from tests.wire.srt_listener import Listener
from tests.wire.test_srt import START, Net

YARDS = 50.0  # of tests/tools.cost: a second of a quiet machine; what was found here took from three seconds to minutes
MPD = (
    b'<MPD type="dynamic" availabilityStartTime="2024-01-01T00:00:00Z"><Period><AdaptationSet mimeType="video/mp4">'
    b'<SegmentTemplate media="$Time$"><SegmentTimeline>%s</SegmentTimeline></SegmentTemplate>%s</AdaptationSet></Period></MPD>'
)


@pytest.mark.parametrize(("entries", "representations"), [(2000, 20_000), (20_000, 150)], ids=["representations", "entries"])
def test_a_timeline_that_many_inherit_is_not_multiplied(entries: int, representations: int) -> None:
    body = MPD % (b'<S d="1"/>' * entries, b"<Representation/>" * representations)
    with pytest.raises(Failure) as caught:
        mpd.parse(body, "http://a/b")
    assert (caught.value.reason, len(body) < mpd.MAX_BYTES) == ("too_many_lines", True)
    fits = MPD % (b'<S d="1"/>' * 1000, b"<Representation/>" * 50)
    assert len(mpd.parse(fits, "http://a/b").periods[0].representations) == 50


def test_an_address_is_no_megabyte() -> None:
    base = b"<BaseURL>" + b"a" * 1_000_000 + b"/</BaseURL>"
    body = b"<MPD>" + base + b"<Period>" + b"<AdaptationSet><BaseURL>b</BaseURL></AdaptationSet>" * 9000 + b"</Period></MPD>"
    with pytest.raises(Failure, match="a URI of 10"):
        mpd.parse(body, "http://a/b")
    with pytest.raises(Failure, match="a URI of"):
        absolute("http://a/", "x" * 20_000)


@pytest.mark.parametrize("units", [b"\0", b"\1\x41"], ids=["empty", "short"])
def test_a_picture_of_millions_of_nal_units_is_refused(units: bytes) -> None:
    reader = TagReader()
    reader.read(Tag(VIDEO, 0, b"\x17\0\0\0\0\x01\x42\0\x1e\xfc\xe0\0"))  # lengths of one byte
    tag = Tag(VIDEO, 0, b"\x17\1\0\0\0" + units * ((8 << 20) // len(units)))

    def read() -> None:
        with pytest.raises(Broken) as caught:
            reader.read(tag)
        assert caught.value.reason == "too_large"

    assert cost(read) < YARDS


def test_sound_of_megabytes_without_a_frame_is_refused() -> None:
    """A programme of AAC whose PES packet hardly ends: each of its bytes would be looked at in turn."""
    reader = TsReader()
    tables = [_section(0, b"\0\xb0\x0d\0\x01\xc1\0\0\0\x01\xf0\0"), _section(0x1000, _PMT)]
    for packet in tables:
        reader.feed(packet)
    assert reader.programme is not None and reader.programme.audio is not None
    head = b"\0\0\1\xc0\0\0\x80\0\0"

    def read() -> None:
        with pytest.raises(Failure) as caught:
            for n in range(40_001):  # and in the end it ends
                body = (head if n % 40_000 == 0 else b"") + b"\xff" * 184
                reader.feed(bytes([0x47, 0x40 * (n % 40_000 == 0) | 1, 1, 0x10 | n & 15]) + body[:184])
        assert caught.value.reason == "too_large"

    assert cost(read) < YARDS


_PMT = b"\x02\xb0\x12\0\x01\xc1\0\0\xe1\x01\xf0\0\x0f\xe1\x01\xf0\0"


def _section(pid: int, section: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in section:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    body = b"\0" + section + crc.to_bytes(4, "big")
    return bytes([0x47, 0x40 | pid >> 8, pid & 255, 0x10]) + body.ljust(184, b"\xff")


def test_a_report_of_losses_costs_no_more_than_what_is_kept() -> None:
    """A receiver that acknowledges nothing and asks for everything, in as many ranges as a datagram holds."""
    sender = Sender(0, 1, 0, 120 * MS, 1 << 31, None)
    now = 0
    for _ in range(10_000):
        now += 10 * MS
        sender.give(b"x" * 100, now)
        sender.emit(now)
    assert cost(lambda: [sender.lost(0, 9_990) for _ in range(185)]) < YARDS / 4
    assert sender.lost(0, 9_999) == (0, 9_999 - len(sender._kept))
    assert len(sender._asked) == len(sender._kept)

    now, caller, listener = 0, Caller(now=0), Listener()
    for _ in range(4):
        caller.timer(now)
        for datagram in caller.outgoing():
            listener.receive(datagram, now)
        for datagram in listener.out:
            caller.receive(datagram, now)
        listener.out.clear()
    assert caller.sender is not None
    for n in range(4000):
        caller.send(b"x", n * MS)
    caller.outgoing()
    body = p.encode_loss([(caller._isn, (caller._isn + 3900) % p.SEQUENCES)] * 180)
    listener.control(Kind.NAK, body=body)
    assert cost(lambda: caller.receive(listener.out[-1], 4000 * MS)) < YARDS / 10
    assert caller.strange == 1 and not [e for e in caller.events() if isinstance(e, Acknowledged)]


def test_new_keys_without_end_are_not_all_derived() -> None:
    now, caller, listener = 0, Caller(now=0, passphrase="a passphrase"), Listener(passphrase="a passphrase")
    for _ in range(4):
        caller.timer(now)
        for datagram in caller.outgoing():
            listener.receive(datagram, now)
        for datagram in listener.out:
            caller.receive(datagram, now)
        listener.out.clear()
    assert caller.receiver is not None
    for _ in range(200):
        listener.control(Kind.USER, subtype=Extension.KMREQ, body=Keys("a passphrase").make(16, os.urandom))
    for datagram in listener.out:
        caller.receive(datagram, now)
    assert caller.strange == 199 and not [e for e in caller.events() if isinstance(e, Ended)]


def far_ahead() -> tuple[Caller, int]:
    """A connection on which one packet is held and 8,000 before it are missing; and what time it is."""
    net = Net()
    net.connect()
    caller = net.caller
    caller.receive(srt_data(caller, 0, net), net.now)
    net.run(400)
    caller.receive(srt_data(caller, 8100, net, ahead=900_000), net.now)
    assert caller.receiver is not None and caller.receiver._head == 1
    return caller, net.now


def srt_data(caller: Caller, place: int, net: Net, ahead: int = 0) -> bytes:
    stamp = (net.now - START) // 1000 + ahead
    return p.Data(caller._isn + place & p.SEQUENCES - 1, 1, stamp, caller._socket, b"x").encode()


@pytest.mark.parametrize("what", ["the packet again", "a drop request", "a keepalive"])
def test_a_datagram_costs_no_walk_over_all_that_is_missing(what: str) -> None:
    caller, now = far_ahead()
    number = [caller._isn + place & p.SEQUENCES - 1 for place in (1, 8000, 8100)]
    span = b"".join(n.to_bytes(4, "big") for n in number[:2])
    datagram = {
        "the packet again": p.Data(number[2], 1, 0, caller._socket, b"x").encode(),
        "a drop request": p.Control(Kind.DROPREQ, 0, 0, 0, caller._socket, span).encode(),
        "a keepalive": p.Control(Kind.KEEPALIVE, 0, 0, 0, caller._socket, bytes(4)).encode(),
    }[what]

    def flood() -> None:
        for _ in range(5000):
            caller.receive(datagram, now)
            caller.outgoing(), caller.events(), caller.next_timer()

    assert cost(flood) < YARDS


@pytest.mark.parametrize("unit", ["A", "-", "A1-", 'A="'])
def test_an_attribute_without_a_value_is_not_looked_for_from_each_of_its_letters(unit: str) -> None:
    hint = '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="a",' + (unit * playlist.MAX_LINE)[: playlist.MAX_LINE - 64]
    assert cost(lambda: attributes(hint)) < YARDS / 10
    text = "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:2", *[hint] * 60, "#EXTINF:2,", "a"])
    assert cost(lambda: playlist.parse(text.encode(), "http://a/b")) < YARDS


def box(name: bytes, *inside: bytes) -> bytes:
    body = b"".join(inside)
    return (8 + len(body)).to_bytes(4, "big") + name + body


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def fragment(claimed: int) -> bytes:
    """A moof of a hundred bytes whose one run has so many samples, of the default size and duration each."""
    head, time_ = box(b"tfhd", words(0x020018, 1, 1, 1)), box(b"tfdt", words(0, 0))
    return box(b"moof", box(b"mfhd", words(0, 1)), box(b"traf", head, time_, box(b"trun", words(0, claimed))))


@pytest.mark.parametrize(
    "bomb",
    [
        fragment(20_000_000) + box(b"mdat", b"x" * 100),
        box(b"mdat", fragment(20_000_000)) + fragment(1),
        fragment(0) + box(b"stsz", words(0, 1, 20_000_000)),
        fragment(0) + box(b"moov", box(b"trak", box(b"stts", words(0, 1, 20_000_000, 1)))),
        fragment(0) + box(b"moov", box(b"cmov", b"x" * 100)),
        fragment(0) + box(b"mdat") * 100_000,
    ],
    ids=["run", "hidden", "sizes", "times", "compressed", "boxes"],
)
def test_what_fmp4_claims_is_not_believed_before_it_is_there(bomb: bytes) -> None:
    """Twenty million samples in two hundred bytes were 300 MB in FFmpeg, and it makes room for nine times as many."""
    init = clip().init
    before = rss()

    def read() -> None:
        with pytest.raises(Failure) as caught:
            Demuxer().feed(init, bomb)
        assert (caught.value.phase, caught.value.reason) == (Phase.SEGMENT, "too_large")

    assert cost(read) < YARDS / 4
    assert rss() - before < 50 << 20


def test_the_check_of_what_fmp4_claims_is_cheap_itself() -> None:
    media = clip().init + fragment(30) + box(b"mdat", os.urandom(16 << 20))
    assert cost(lambda: fmp4_bounds.check(media)) < YARDS / 4
    for flood in (b"trun" + bytes(8), box(b"stts", words(0, 4096))):
        with pytest.raises(fmp4_bounds.Unbounded):
            assert cost(lambda flood=flood: fmp4_bounds.check(flood * 500_000)) < YARDS  # type: ignore[misc]


def test_headers_of_edges_of_megabytes_are_not_read() -> None:
    for unit in ("a,", " ", "; ", ";hit", '"', "[", 'a"'):
        many: CIMultiDict[str] = CIMultiDict()
        for name in sorted({row.header for cdn in CDNS.values() for row in (*cdn.edges, *cdn.caches)}):
            for _ in range(100):
                many.add(name, unit * (8000 // len(unit)))
        assert cost(lambda many=many: attribute(many)) < YARDS / 10  # type: ignore[misc]


def test_relayed_messages_of_nothing_are_as_cheap_as_their_bytes() -> None:
    """A TURN server over TCP; upstream copies all that is left of what was read for each of them."""
    client = _Tcp(("127.0.0.1", 9), username="u", password="p", lifetime=600, channel_refresh_time=500)
    client.transport = asyncio.Transport({"peername": ("127.0.0.1", 9)})
    for message in (b"\x40\0\0\0", b"\1\1\0\0\x21\x12\xa4\x42" + bytes(12)):
        few = message * ((1 << 16) // len(message))
        one = cost(lambda flood=few: client.data_received(flood))  # type: ignore[misc]
        assert cost(lambda flood=few * 16: client.data_received(flood)) < 40 * one, "upstream's is over a hundred"  # type: ignore[misc]


async def test_a_body_without_end_does_not_swell() -> None:
    """An endless stream has no limit of its own, so that a few bytes could be hours of work."""
    packed = zlib.compress(bytes(256 << 20), 9)
    decoder = Decoder("deflate", 1 << 62, Phase.JOIN)

    def read() -> None:
        with pytest.raises(Failure) as caught:
            for _ in decoder.feed(packed):
                pass
        assert caught.value.reason == "too_large"

    assert cost(read) < YARDS / 4
    honest = Decoder("deflate", 1 << 62, Phase.JOIN)
    noise = os.urandom(5 << 20)
    assert sum(len(piece) for piece in honest.feed(zlib.compress(noise))) == len(noise)


def test_a_flood_of_empty_messages_and_of_null_values_is_as_cheap_as_its_bytes() -> None:
    def messages() -> None:
        for _ in ChunkReader().feed(bytes([3]) + bytes(11) + b"\xc3" * (64 << 10)):
            pass

    assert cost(messages) < YARDS
    assert cost(lambda: [amf.decode(b"\5" * amf.MAX_VALUES) for _ in range(16)]) < YARDS
    with pytest.raises(Broken):
        amf.decode(b"\5" * (amf.MAX_VALUES + 1))


async def test_sound_that_is_another_with_every_packet_is_given_up_on() -> None:
    """Each kind of sound is a decoder, a thread and, where there is none for it, a note."""
    async with session("127.0.0.1") as io:
        streamed = Streamed(io)
        streamed.put(_packet("video", "h264"), 0)
        for n in range(300):
            streamed.put(_packet("audio", ("pcm", "speex")[n % 2]), n * MS)
        for n in range(300):
            streamed.put(_packet("audio", "aac", bytes([0x11, n & 0xF8])), n * MS)
        streamed.close()
    assert len(io.notes) <= 40 and "not listened to any more" in io.notes[-1]


def _packet(kind: str, codec: str, extradata: bytes = b"") -> EncodedPacket:
    return EncodedPacket(
        kind=kind, codec=codec, extradata=extradata, data=b"\0\0\0\1\x65\x88", pts=0.0, duration=None, keyframe=True, size=6,
        rate=48_000, channels=2,
    )  # fmt: skip


def test_a_list_of_very_many_segments_is_searched_not_walked() -> None:
    """An archive of hours whose every segment has its own entry: asked for its next one many times a segment."""
    body = MPD % (b'<S d="90000"/><S d="90001"/>' * 12_000, b'<Representation codecs="avc1.42e01e"/>')
    manifest = mpd.parse(body.replace(b"<SegmentTemplate ", b'<SegmentTemplate timescale="90000" '), "http://a/b")
    template = manifest.periods[0].representations[0].template
    walked = [(span.time, number) for number, span in enumerate(template.spans or (), 1)]
    for time_, number in walked[::977]:
        for ticks, after, before in ((time_, number, number), (time_ + 1, number + 1, number), (time_ - 1, number, number - 1)):
            found, last = template.at_or_after(ticks), template.at_or_before(ticks)
            assert (found and found.number, (last and last.number) or 0) == (after, before)

    follower = Follower(lambda period: period.of("video")[0])
    now = (manifest.availability_start or 0) + 24_000 * NS
    follower.update(manifest, now)

    def follow() -> None:
        for _ in range(100):
            assert follower.next(now) is not None
            follower.far_behind(now)

    assert cost(follow) < YARDS / 4


async def test_chunks_without_a_picture_are_not_held_for_ever() -> None:
    """Each that comes is looked at together with all before it."""
    looked: list[int] = []

    async def sink(piece: Piece, due: Due, anew: bool) -> None:
        looked.append(len(piece.data))
        raise Failure(Phase.KEYFRAME, "none")

    class Chunks:
        async def chunks(self, due: Due, known: int, *, buffered: float | None) -> AsyncGenerator[tuple[Piece, int], None]:
            for n in range(10_000):
                yield Piece(b"x" * 100, None, n), 1

    track = Track("video", Chunks(), sink, lambda: None)  # type: ignore[arg-type]
    template = Template(media="$Number$", initialization="", duration=1, whole=False, early=1.0)
    of = Representation(
        id="", kind="video", codecs="", bandwidth=None, width=None, height=None, frame_rate=None, rate=None, base="",
        template=template,
    )  # fmt: skip
    track.begin(Due(Period(id="", start=0.0, duration=None, representations=(of,)), of, Spot(1, 0, 1), 0, True))
    with pytest.raises(Failure, match="none"):
        while await track.go_on():
            pass
    assert len(looked) <= 300


@pytest.mark.parametrize("unit", [b"\0\0\1\x65", b"\0\0\1\x41", b"\0\0\1\x06"], ids=["idr", "slice", "sei"])
async def test_a_picture_of_millions_of_nal_units_is_not_decoded(unit: bytes) -> None:
    """Whatever container brought it. Another viewer's pictures, and leaving, do not wait for it."""
    clock = SystemClock()
    feed, other = Feed(clock), Feed(clock)
    decoder, beside = DecoderThread("h264", feed, clock), DecoderThread("h264", other, clock)
    data, _ = clip().units[0]
    for _ in range(3):
        decoder.submit(unit * (2 << 20), 0.0, clock.now(), 1, True)
    beside.submit(data, 0.0, clock.now(), len(data), True)
    async with asyncio.timeout(3):
        assert isinstance(await other.get(), FrameRecord)
        said = await feed.get()
    assert isinstance(said, Undecodable) and said.detail == f"a picture of {2 << 20} NAL units"
    began = time.monotonic()
    decoder.close()
    beside.close()
    assert time.monotonic() - began < 1
