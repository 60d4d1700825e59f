"""WHIP in, WHEP and HLS out: by real transports, decoded and read."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from itertools import pairwise
from urllib.parse import urljoin

import av
import pytest
import pytest_asyncio

from probe.media.demux import Demuxer
from probe.media.inspect import Inspector
from probe.model.frames import FrameRecord
from probe.rtc.peer import Link, new_peer
from probe.sandbox.launch import Sandbox
from tests.sandbox.clients import CLOCK, RUN, SDP, Reply, User, offer, on_air, user, watching
from tests.tools import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox.start() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def probe(sandbox: Sandbox) -> AsyncIterator[User]:
    async with user(sandbox) as one:
        yield one
        await one.call("DELETE", "/rooms?tag=a-test")


@pytest_asyncio.fixture(loop_scope="module")
async def viewer(sandbox: Sandbox) -> AsyncIterator[User]:
    async with user(sandbox, "viewer") as one:
        yield one


async def sessions(sandbox: Sandbox) -> list[str]:
    return sorted(session["protocol"] for session in (await sandbox.state())["sessions"])


async def gone(sandbox: Sandbox) -> bool:
    return await sessions(sandbox) == []


async def media_playlist(viewer: User, room: str) -> str:
    """URL of the media playlist, once there is one."""
    found: list[str] = []

    async def master() -> bool:
        reply = await viewer.call("GET", f"/rooms/{room}/hls/index.m3u8")
        if reply.status == 200:
            found.append(next(line for line in reply.text.splitlines() if line.startswith("http")))
        return reply.status == 200

    await wait_until(master, 8, "the first segment")
    return found[-1]


async def segments(viewer: User, url: str, count: int) -> Reply:
    """The media playlist once it lists `count` segments."""
    found: list[Reply] = []

    async def enough() -> bool:
        found.append(await viewer.call("GET", url))
        return found[-1].text.count("#EXTINF") >= count

    await wait_until(enough, 12, f"{count} segments")
    return found[-1]


async def test_a_viewer_sees_and_hears_what_is_published(sandbox: Sandbox, probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_air(probe, room), watching(viewer, room) as seen:
        await wait_until(lambda: len(seen.ours) >= 30 and seen.units["audio"] >= 30)
        sequences = [picture.code.sequence for picture in seen.ours if picture.code]
        assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
        assert seen.pictures[0].keyframe
        assert not seen.undecodable
        assert await sessions(sandbox) == ["whep", "whip"]
    await wait_until(lambda: gone(sandbox))


async def test_several_viewers_of_one_room_all_see_it(probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_air(probe, room), watching(viewer, room) as one, watching(viewer, room) as two, watching(viewer, room) as three:
        await wait_until(lambda: all(len(seen.ours) >= 5 for seen in (one, two, three)))


async def test_without_a_publisher_there_is_no_stream(probe: User, viewer: User) -> None:
    room = await probe.room()
    peer = new_peer(loopback=True)
    try:
        sdp = await offer(peer, lambda kind, unit: None)
        reply = await viewer.call("POST", f"/rooms/{room}/whep", data=sdp, headers=SDP)
        assert (reply.status, reply.json["error"]) == (404, "no_stream")
        reply = await viewer.call("POST", f"/rooms/{room}/whip", data=sdp, headers=SDP)
        assert reply.status == 403
        assert (await viewer.call("GET", f"/rooms/{room}/hls/index.m3u8")).status == 404
    finally:
        await peer.close()


VP8 = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=fingerprint:sha-256 " + ":".join(["AB"] * 32)
VP8 += "\r\na=setup:actpass\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefabcdefabcdefabcdef\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"
VP8 += "c=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n"


@pytest.mark.parametrize(
    ("kind", "sdp", "status"),
    [
        ("text/plain", "v=0\r\nm=video\r\n", 415),
        ("application/sdp", "", 400),
        ("application/sdp", "<html>", 400),
        ("application/sdp", "v=0\r\nm=video\r\n", 400),
        ("application/sdp", "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF x\r\na=mid:0\r\n", 400),
        ("application/sdp", "v=0\r\nm=" + "x" * 100_000, 413),
        ("application/sdp", VP8, 406),
    ],
)
async def test_a_bad_offer_is_refused_and_disturbs_nobody(
    sandbox: Sandbox, probe: User, viewer: User, kind: str, sdp: str, status: int
) -> None:
    room = await probe.room()
    async with on_air(probe, room), watching(viewer, room) as seen:
        for path in ("whip", "whep"):
            reply = await probe.call("POST", f"/rooms/{room}/{path}", data=sdp, headers={"Content-Type": kind})
            assert reply.status == status, path
        assert await sessions(sandbox) == ["whep", "whip"]
        before = len(seen.ours)
        await wait_until(lambda: len(seen.ours) > before + 3)


async def test_a_session_is_ended_by_its_own_user_only(sandbox: Sandbox, probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_air(probe, room), watching(viewer, room) as seen:
        assert (await probe.call("DELETE", seen.location)).status == 403
        assert (await viewer.call("PATCH", seen.location, data="", headers=SDP)).status == 405
        assert (await viewer.call("DELETE", seen.location)).status == 200
        assert (await viewer.call("DELETE", seen.location)).status == 404
        await wait_until(lambda: Link.ENDED in seen.links)


async def test_a_publisher_that_returns_goes_on_in_the_viewers_sessions(probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_air(probe, room):
        async with watching(viewer, room) as seen:
            await wait_until(lambda: len(seen.ours) > 5)
            async with on_air(probe, room, publish=1):  # in the first one's place
                await wait_until(lambda: any(p.code and p.code.publish == 1 for p in seen.ours))
            async with on_air(probe, room, publish=2):
                await wait_until(lambda: any(p.code and p.code.publish == 2 for p in seen.ours))
            assert all(later > earlier for earlier, later in pairwise(seen.stamps))
            assert not seen.undecodable
            assert seen.links == [Link.UP] or seen.links == [Link.ICE_UP, Link.UP]


async def test_the_end_of_a_room_ends_its_sessions(sandbox: Sandbox, probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_air(probe, room), watching(viewer, room) as seen:
        await wait_until(lambda: seen.ours)
        url = await media_playlist(viewer, room)
        assert (await probe.call("DELETE", f"/rooms/{room}")).status == 204
        await wait_until(lambda: Link.ENDED in seen.links)
        assert await gone(sandbox)

        async def forgotten() -> bool:
            return (await viewer.call("GET", url)).status == 404

        await wait_until(forgotten, 2)


async def test_expired_tokens_end_sessions(sandbox: Sandbox, probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_air(probe, room), watching(viewer, room) as seen:
        await sandbox.expire_tokens()
        await wait_until(lambda: Link.ENDED in seen.links)
        await probe.login()


async def test_hls_is_what_was_published_in_segments_of_a_second(probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_air(probe, room):
        url = await media_playlist(viewer, room)
        master = (await viewer.call("GET", f"/rooms/{room}/hls/index.m3u8")).text
        assert re.search(r'BANDWIDTH=\d+,CODECS="avc1\.42[0-9a-f]{4},mp4a\.40\.2",RESOLUTION=640x360,FRAME-RATE=30\.000', master)
        playlist = (await segments(viewer, url, 3)).text
        assert "#EXT-X-TARGETDURATION:1\n" in playlist
        names = [line for line in playlist.splitlines() if line and not line.startswith("#")]
        init = re.search(r'#EXT-X-MAP:URI="(.+?)"', playlist)
        assert init
        demuxer = Demuxer()
        section = (await viewer.call("GET", urljoin(url, init[1]))).body
        kinds, times = [], []
        for name in names:
            packets = demuxer.feed(section, (await viewer.call("GET", urljoin(url, name))).body)
            video = [packet for packet in packets if packet.kind == "video"]
            assert video[0].keyframe
            kinds += [packet.codec for packet in packets]
            times += [packet.pts for packet in video if packet.pts is not None]
        assert set(kinds) == {"h264", "aac"}
        assert all(0.02 < later - earlier < 0.05 for earlier, later in pairwise(times))
        durations = [float(value) for value in re.findall(r"#EXTINF:([\d.]+)", playlist)]
        dates = [datetime.fromisoformat(value) for value in re.findall(r"PROGRAM-DATE-TIME:(\S+)", playlist)]
        for duration, (earlier, later) in zip(durations, pairwise(dates), strict=False):
            assert abs((later - earlier).total_seconds() - duration) < 0.002
        assert all(0.45 <= duration < 1.5 for duration in durations)


async def test_the_window_slides_and_the_sequence_rises(probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_air(probe, room):
        url = await media_playlist(viewer, room)

        async def slid() -> bool:
            text = (await viewer.call("GET", url)).text
            first = re.search(r"MEDIA-SEQUENCE:(\d+)", text)
            assert first
            assert text.count("#EXTINF") <= 6
            return int(first[1]) >= 2

        await wait_until(slid, 15)


async def test_a_new_publisher_is_a_discontinuity_with_its_own_section(probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_air(probe, room):
        url = await media_playlist(viewer, room)
    async with on_air(probe, room, publish=1):

        async def changed() -> bool:
            return "#EXT-X-DISCONTINUITY\n" in (await viewer.call("GET", url)).text

        await wait_until(changed, 8)
        text = (await viewer.call("GET", url)).text
    assert len(set(re.findall(r'MAP:URI="(.+?)"', text))) == 2
    assert "#EXT-X-DISCONTINUITY-SEQUENCE:0" in text


async def test_a_stream_without_sound_is_hls_without_sound(probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_air(probe, room, audio=False):
        url = await media_playlist(viewer, room)
        assert "mp4a" not in (await viewer.call("GET", f"/rooms/{room}/hls/index.m3u8")).text
        playlist = (await viewer.call("GET", url)).text
        init = re.search(r'MAP:URI="(.+?)"', playlist)
        assert init
        section = (await viewer.call("GET", urljoin(url, init[1]))).body
        segment = (await viewer.call("GET", urljoin(url, playlist.split()[-1]))).body
        assert {packet.kind for packet in Demuxer().feed(section, segment)} == {"video"}


async def test_viewers_go_to_the_edges_in_turn_and_edges_say_what_they_kept(sandbox: Sandbox, probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_air(probe, room):
        first = await media_playlist(viewer, room)
        second = await media_playlist(viewer, room)
        assert {first.split("/hls/")[0], second.split("/hls/")[0]} == set(sandbox.edges.values())
        names = {url: name for name, url in sandbox.edges.items()}
        trace = "0af7651916cd43dd8448eb211c80319c"
        segment = urljoin(first, (await viewer.call("GET", first)).text.split()[-1])
        traced = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        replies = [await viewer.call("GET", segment, headers=traced) for _ in range(2)]
        assert [reply.headers["X-Cache"] for reply in replies] == ["MISS", "HIT"]
        assert {reply.headers["X-Edge"] for reply in replies} == {names[first.split("/hls/")[0]]}
        assert replies[0].body == replies[1].body
        assert all(reply.headers["Age"].isdigit() for reply in replies)
        spans = await sandbox.spans(trace)
        (origin,) = [span for span in spans if span["service.name"] == "sandbox-origin"]
        assert origin["parent_span_id"] in [span["span_id"] for span in spans if span["name"] == "GET /hls/{room}/{name}"]


async def test_edges_want_no_token_and_the_master_does(probe: User, viewer: User) -> None:
    room = await probe.room()
    async with on_air(probe, room):
        url = await media_playlist(viewer, room)
        assert (await viewer.call("GET", url)).status == 200
        viewer.token = ""
        assert (await viewer.call("GET", f"/rooms/{room}/hls/index.m3u8")).status == 401


async def decoded(viewer: User, url: str) -> list[FrameRecord]:
    """The pictures of the last segment."""
    playlist = (await viewer.call("GET", url)).text
    name = playlist.split()[-1]
    init = re.findall(r'MAP:URI="(.+?)"', playlist[: playlist.index(name)])[-1]
    section = (await viewer.call("GET", urljoin(url, init))).body
    packets = Demuxer().feed(section, (await viewer.call("GET", urljoin(url, name))).body)
    inspector, decoder = Inspector(CLOCK), av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    frames = [frame for packet in packets if packet.kind == "video" for frame in decoder.decode(av.Packet(packet.data))]
    return [inspector.picture(frame, arrived=0, size=0, keyframe=False) for frame in frames]


@pytest.mark.parametrize("fault", ["media_black", "media_foreign", "media_frozen", "media_stale"])
async def test_what_hls_viewers_are_shown_instead_heals(sandbox: Sandbox, probe: User, viewer: User, fault: str) -> None:
    room = await probe.room()

    def spoiled(pictures: list[FrameRecord]) -> bool:
        codes = {picture.code for picture in pictures}
        match fault:
            case "media_black":
                return all(picture.black for picture in pictures)
            case "media_foreign":
                return not any(code and code.run == RUN for code in codes)
            case "media_frozen":
                return len(codes) == 1
            case _:
                stamps = [code.stamp_ms for code in codes if code]
                return max(stamps) < CLOCK.wall().unix_ns / 1e6 - 2000
        raise AssertionError(fault)

    async with on_air(probe, room):
        url = await media_playlist(viewer, room)
        assert not spoiled(await decoded(viewer, url))
        await sandbox.plant(fault, of="hls", **({"seconds": 2} if fault == "media_stale" else {}))
        try:

            async def now() -> bool:
                return spoiled(await decoded(viewer, url))

            await wait_until(now, 10)
        finally:
            await sandbox.heal()

        async def no_more() -> bool:
            return not await now()

        await wait_until(no_more, 10)
