"""The DASH viewer against a real server: what a player plays, what it lives through, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from aiohttp import web

from probe.drivers import dash, hls_retry
from probe.drivers.base import Spec
from probe.drivers.dash import DashViewer, scout
from probe.errors import Failure, Unsupported
from probe.model.clock import MS, NS
from probe.model.frames import FrameRecord
from probe.model.observation import Delivery, Ladder, RequestDone, Role
from probe.model.stage import Phase, Stage
from probe.net.client import Credential
from probe.plan import Device
from tests.drivers.dash_origin import Packager, chunks
from tests.drivers.hls_origin import FPS, PER_SEGMENT, Broken, body, clip, cut_off, endless, never, status, without_keyframe
from tests.drivers.hls_session import GRACE, FakeIO, sessions
from tests.tools import wait_until

KINDS = pytest.mark.parametrize("kind", [{}, {"timeline": True}, {"chunked": True}], ids=["number", "timeline", "chunked"])


@pytest.fixture
async def io() -> AsyncIterator[FakeIO]:
    async with sessions() as make:
        yield make()


def sequences(records: list[FrameRecord]) -> list[int]:
    return [record.code.sequence for record in records if record.code]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their pauses: what is tested is what they come to."""
    monkeypatch.setattr(hls_retry, "START_PAUSES", (0.01,) * 4)
    monkeypatch.setattr(hls_retry, "BACKOFF_FIRST", 0.02)


def spec(url: str, **options) -> Spec:
    return Spec(role=Role.VIEWER, protocol="dash", url=url, session="session-1", **options)


@asynccontextmanager
async def viewing(origin: Packager, io: FakeIO, **options) -> AsyncIterator[None]:
    async with DashViewer().open(spec(f"{origin.url}/live.mpd", **options), io):
        yield


async def refused(origin: Packager, io: FakeIO) -> tuple[Phase, str]:
    with pytest.raises(Failure) as raised:
        async with asyncio.timeout(GRACE):
            async with viewing(origin, io):
                await io.pictures(1)
    return raised.value.phase, raised.value.reason


# --- works


@KINDS
async def test_it_starts_at_the_live_position_and_shows_every_picture_when_it_is_due(io: FakeIO, kind: dict):
    origin = Packager(**kind)
    async with origin.running(), viewing(origin, io):
        got = await io.pictures(16)
    first = sequences(got)[0]
    assert first % PER_SEGMENT == 0 and first / FPS == pytest.approx(origin.age - 1.5, abs=0.6)
    assert sequences(got) == list(range(first, first + 16))
    gaps = [(b.shown - a.shown) / MS for a, b in pairwise(got[1:])]
    assert sum(gaps) / len(gaps) == pytest.approx(1000 / FPS, abs=3)
    assert got[0].keyframe and got[0].rendition == "180p"
    assert all(record.arrived < record.decoded <= record.shown for record in got)
    assert io.rebuffers == []
    assert (io.facts["codec"], io.facts["size"], io.facts["variants"]) == ("h264", "320x180", "2")
    assert io.facts["variant"] == "320x180 avc1.42c01e 200000 bit/s"


@KINDS
async def test_its_stages_add_up(io: FakeIO, kind: dict):
    origin = Packager(**kind)
    async with origin.running(), viewing(origin, io):
        (first,) = await io.pictures(1)
    stages = io.stages.by_stage()
    assert list(stages) == [Stage.PROBE, Stage.CONNECT, Stage.PLAYLIST, Stage.INIT, Stage.SEGMENT]
    assert sum(stages.values()) == io.stages.total == first.decoded - io.stages.intent
    assert io.stages.slices[-1].stage is Stage.PROBE and io.stages.slices[-1].began == first.arrived


async def test_a_chunk_is_shown_before_its_segment_is_whole(io: FakeIO):
    origin = Packager(chunked=True, head='minBufferTime="PT0.2S" suggestedPresentationDelay="PT0.2S"')
    async with origin.running(), viewing(origin, io):
        got = await io.pictures(20)
    # Chunk by chunk, of which a busy loop finds two or three at once; whole segments would come at two or three instants.
    assert len({record.arrived for record in got}) > 5
    behind = [
        origin.age + (record.shown - io.stages.intent) / NS - (record.code.sequence + 1) / FPS for record in got if record.code
    ]
    assert max(behind[10:]) < 1.0  # of segments of 0.5 s, fetched whole, no viewer could be nearer


async def test_the_ladder_is_told_and_each_second_what_was_delivered(io: FakeIO):
    async with Packager(timeline=True).running() as origin, viewing(origin, io):
        await io.pictures(24)
    (ladder,) = io.of(Ladder)
    assert [(r.name, r.width, r.height, r.bandwidth, r.frame_rate) for r in ladder.rungs] == [
        ("90p", 160, 90, 1000, None), ("180p", 320, 180, 200_000, 20.0),
    ]  # fmt: skip
    told = io.of(Delivery)
    assert told and sum(second.reloads for second in told) >= 1
    assert all(second.buffered is not None and second.live_latency is None and not second.backwards for second in told)


@pytest.mark.parametrize(("height", "shown"), [(None, "180p"), (180, "180p"), (100, "90p"), (10, "90p")])
async def test_a_device_gets_what_it_can_show(io: FakeIO, height: int | None, shown: str):
    async with Packager().running() as origin, viewing(origin, io, device=Device(max_height=height, user_agent="a phone")):
        (first,) = await io.pictures(1)
    assert first.rendition == shown
    assert {headers["User-Agent"] for headers in origin.headers} == {"a phone"}


async def test_the_player_tells_of_itself_in_headers_and_never_in_a_query(io: FakeIO):
    async with Packager().running() as origin, viewing(origin, io):
        await io.pictures(12)
    assert origin.headers[0]["CMCD-Object"] == "ot=m" and origin.headers[0]["CMCD-Request"] == "su"
    assert origin.headers[2]["CMCD-Object"] == "br=200,d=500,ot=v,tb=200" and origin.headers[2]["CMCD-Request"] == "su"
    later = [headers for headers in origin.headers[3:] if "ot=v" in headers["CMCD-Object"]]
    assert later and all("bl=" in headers["CMCD-Request"] and "su" not in headers["CMCD-Request"] for headers in later)
    assert {headers["CMCD-Session"] for headers in origin.headers} == {'sf=d,sid="session-1",st=l'}
    assert not any("?" in request.url for request in io.of(RequestDone))


async def test_it_tells_nothing_where_it_is_not_to(io: FakeIO):
    async with Packager().running() as origin, viewing(origin, io, cmcd=False):
        await io.pictures(1)
    assert not any(name.startswith("CMCD") for headers in origin.headers for name in headers)


async def test_a_secret_goes_to_its_origin_and_to_no_other(io: FakeIO):
    async with Packager().running() as cdn, Packager(video="<BaseURL>{}/</BaseURL>").running() as origin:
        origin.video = origin.video.format(cdn.url)
        async with viewing(origin, io, credential=Credential("s3cret-token", frozenset({origin.url}))):
            await io.pictures(5)
    assert set(origin.tokens) == {"Bearer s3cret-token"} and set(cdn.tokens) == {None}


@pytest.mark.parametrize("off", [3600, -3600])
async def test_the_servers_clock_counts_where_ours_is_far_from_it(io: FakeIO, off: int):
    class Off(type(io.clock)):  # type: ignore[misc]
        def wall(self, at: int | None = None):
            wall = super().wall(at)
            return type(wall)(wall.unix_ns + off * NS, wall.error_ns)

    io.clock = Off()
    async with Packager().running() as origin, viewing(origin, io):
        first = sequences(await io.pictures(1))[0]
    assert first / FPS == pytest.approx(origin.age - 1.5, abs=1.2)
    assert io.facts["clock_skew"].startswith("-" if off > 0 else "+")


# --- a platform that has only just begun


@pytest.mark.parametrize("what", ["live", "init", "segment"])
async def test_what_is_not_there_yet_is_tried_again(io: FakeIO, quick: None, what: str):
    async with Packager(broken={what: status(404, times=2)}).running() as origin, viewing(origin, io):
        assert await io.pictures(1)
    assert [request.failure.reason for request in io.of(RequestDone) if request.failure] == ["http_404", "http_404"]


@pytest.mark.parametrize(("what", "phase"), [("live", Phase.PLAYLIST), ("init", Phase.INIT), ("segment", Phase.SEGMENT)])
@pytest.mark.parametrize("code", [503])
async def test_five_attempts_and_no_more(io: FakeIO, quick: None, what: str, phase: Phase, code: int):
    async with Packager(broken={what: status(code)}).running() as origin:
        assert await refused(origin, io) == (phase, f"http_{code}")


async def test_nothing_there_yet_is_empty(io: FakeIO, quick: None):
    async with Packager(age=0.0, timeline=True, moving=False).running() as origin:
        assert await refused(origin, io) == (Phase.PLAYLIST, "empty")


async def test_a_broadcast_that_is_over_is_stale(io: FakeIO, quick: None):
    async with Packager(static=True).running() as origin:
        assert await refused(origin, io) == (Phase.PLAYLIST, "stale")
        assert not await scout(spec(f"{origin.url}/live.mpd"), io)


async def test_the_scout_sees_whether_a_viewer_could_start(io: FakeIO):
    async with Packager().running() as origin:
        assert await scout(spec(f"{origin.url}/live.mpd"), io)
    async with Packager(age=0.0, moving=False).running() as origin:
        assert not await scout(spec(f"{origin.url}/live.mpd"), io)
    async with Packager(broken={"live": status(404)}).running() as origin:
        with pytest.raises(Failure, match="http_404"):
            await scout(spec(f"{origin.url}/live.mpd"), io)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_first_segment_of_no_use_is_left_for_the_next(io: FakeIO, quick: None, chunked: bool):
    origin = Packager(chunked=chunked, broken={"9": body(b""), "10": body(without_keyframe())})
    async with origin.running(), viewing(origin, io):
        first = sequences(await io.pictures(1))[0]
    assert first == 110 and io.facts["skipped_segments"] == "2"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_first_segment_cut_off_is_fetched_again(io: FakeIO, quick: None, chunked: bool):
    data = b"".join(chunks(9)) if chunked else clip().fmp4[9]
    async with Packager(chunked=chunked, broken={"9": cut_off(data, 2)}).running() as origin, viewing(origin, io):
        assert sequences(await io.pictures(15)) == list(range(90, 105))


# --- refused


async def test_a_closed_port_is_refused(io: FakeIO, quick: None):
    async with Packager().running() as origin:
        pass
    assert await refused(origin, io) == (Phase.CONNECT, "refused")
    assert len(io.of(RequestDone)) == 5


@pytest.mark.parametrize("what", ["live", "init", "segment"])
async def test_a_token_refused_is_final_at_once(io: FakeIO, what: str):
    async with Packager(broken={what: status(403)}).running() as origin:
        assert await refused(origin, io) == (Phase.AUTH, "http_403")
        assert origin.asked["live"] == 1


LAUGHS = b'<!DOCTYPE MPD [<!ENTITY a "haha"><!ENTITY b "&a;&a;&a;">]><MPD>&b;</MPD>'


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (body(b"<!doctype html><h1>It works!</h1>"), "not_a_playlist"),
        (body(b""), "not_a_playlist"),
        (body(b"<MPD>" + b"\xff" * 99), "malformed"),
        (body(LAUGHS), "malformed"),
        (body(b"<MPD>" + b"<!-- -->" * 1_300_000 + b"</MPD>"), "too_large"),
        (body(b"<MPD>" + b"<S/>" * 40_000 + b"</MPD>"), "too_many_lines"),
        (endless, "too_large"),
        (body(Packager(video="<BaseURL>file:///etc/passwd</BaseURL>").manifest().encode()), "address_refused"),
    ],
    ids=["html", "nothing", "garbage", "laughs", "ten-megabytes", "many-elements", "endless", "file"],
)
async def test_a_manifest_that_no_repetition_mends_is_told_at_once(io: FakeIO, answer: Broken, reason: str):
    async with Packager(broken={"live": answer}).running() as origin:
        assert await refused(origin, io) == (Phase.PLAYLIST, reason)
        assert origin.asked["live"] == 1


async def test_segments_at_a_private_address_are_refused(io: FakeIO):
    async with Packager(video="<BaseURL>http://169.254.169.254/latest/</BaseURL>").running() as origin:
        assert await refused(origin, io) == (Phase.INIT, "address_refused")


async def test_a_redirect_loop_is_one(io: FakeIO):
    async def around(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/live.mpd"})

    async with Packager(broken={"live": around}).running() as origin:
        assert await refused(origin, io) == (Phase.PLAYLIST, "redirect_loop")


async def test_clocks_and_links_that_a_manifest_names_are_not_fetched(io: FakeIO):
    head = 'xmlns:x="http://www.w3.org/1999/xlink"'
    sets = '<AdaptationSet x:href="http://169.254.169.254/set" mimeType="audio/mp4"/>'
    origin = Packager(
        head=head, sets=f'{sets}<UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-iso:2014" value="http://169.254.169.254/"/>'
    )
    async with origin.running(), viewing(origin, io):
        await io.pictures(5)
    assert {request.url.split("/")[2] for request in io.of(RequestDone)} == {origin.url.split("/")[2]}


@pytest.mark.parametrize("chunked", [False, True])
async def test_segments_of_garbage_are_malformed(io: FakeIO, quick: None, chunked: bool):
    async with Packager(chunked=chunked, broken={"segment": body(bytes(range(256)) * 100)}).running() as origin:
        assert await refused(origin, io) == (Phase.SEGMENT, "malformed")


@pytest.mark.parametrize("chunked", [False, True])
async def test_segments_without_a_keyframe_are_named(io: FakeIO, quick: None, chunked: bool):
    async with Packager(chunked=chunked, broken={"segment": body(without_keyframe())}).running() as origin:
        assert await refused(origin, io) == (Phase.KEYFRAME, "none")


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_endless_segment_is_too_large(io: FakeIO, monkeypatch: pytest.MonkeyPatch, chunked: bool):
    monkeypatch.setattr("probe.drivers.dash_source.SEGMENT_LIMIT", 1 << 20)

    async def more(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"\0\0\x10\0free" + bytes(4088))

    async with Packager(chunked=chunked, broken={"segment": more}).running() as origin:
        assert await refused(origin, io) == (Phase.SEGMENT, "too_large")


@pytest.mark.parametrize(
    ("origin", "why"),
    [
        (Packager(codecs="hvc1.1.6.L93.B0"), "hvc1"),
        (Packager(video='<ContentProtection schemeIdUri="urn:mpeg:dash:mp4protection:2011"/>'), "encrypted"),
        (Packager(video='<EssentialProperty schemeIdUri="urn:example:tiles"/>'), "urn:example:tiles"),
    ],
    ids=["hevc", "encrypted", "essential"],
)
async def test_what_we_cannot_play_is_unsupported_and_says_what_was_offered(io: FakeIO, origin: Packager, why: str):
    async with origin.running():
        with pytest.raises(Unsupported, match=why):
            async with viewing(origin, io):
                pass
        assert await scout(spec(f"{origin.url}/live.mpd"), io)


async def test_a_manifest_of_sound_alone_has_no_video(io: FakeIO, quick: None):
    sound = Packager(timeline=True).manifest().replace("video/mp4", "audio/mp4").replace("avc1.42c01e", "mp4a.40.2").encode()
    async with Packager(broken={"live": body(sound)}).running() as origin:
        assert await refused(origin, io) == (Phase.PLAYLIST, "no_video")


@KINDS
@pytest.mark.parametrize("what", ["live", "init", "segment"])
async def test_a_server_that_hangs_is_left_when_cancelled(io: FakeIO, kind: dict, what: str):
    hanging = Packager(**kind, broken={what: never})
    async with hanging.running():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.15):
                async with viewing(hanging, io):
                    await io.pictures(1)
    assert io.stages.current is (Stage.PLAYLIST if what == "live" else Stage(what))


# --- lived through


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_segment_cut_in_mid_stream_costs_no_picture(io: FakeIO, quick: None, chunked: bool):
    data = b"".join(chunks(10)) if chunked else clip().fmp4[10]
    async with Packager(chunked=chunked, broken={"10": cut_off(data, 1)}).running() as origin, viewing(origin, io):
        got = sequences(await io.pictures(25))
    assert got == list(range(got[0], got[0] + 25)) and origin.asked["10"] == 2


async def test_an_edge_that_answers_503_for_a_while_ends_nothing(io: FakeIO, quick: None):
    async with Packager(broken={"10": status(503, 3), "11": status(404, 1)}).running() as origin, viewing(origin, io):
        got = sequences(await io.pictures(30))
    assert got == list(range(got[0], got[0] + 30))


async def test_after_the_picture_stood_for_long_it_goes_on_nearer_to_live(io: FakeIO):
    async with Packager().running() as origin, viewing(origin, io):
        await io.pictures(1)
        origin.broken["segment"] = status(503)
        await wait_until(lambda: origin.passed > origin.age + 3.6, 5)
        del origin.broken["segment"]
        records = await io.pictures(45)
    got = sequences(records)
    hole = [(a, b) for a, b in pairwise(got) if b != a + 1]
    assert len(hole) == 1 and hole[0][1] - hole[0][0] > 20
    assert [record.code.sequence for record in records if record.jumped and record.code] == [hole[0][1]]
    assert len(io.rebuffers) == 1 and io.rebuffers[0].took > NS
    assert any("after rebuffering" in note for note in io.notes)
    assert any(headers.get("CMCD-Status") == "bs" for headers in origin.headers)


async def test_a_segment_that_never_comes_is_left_out_and_told(io: FakeIO, quick: None):
    async with Packager(broken={"10": status(500)}).running() as origin, viewing(origin, io):
        got = sequences(await io.pictures(25))
    assert not set(got) & set(range(100, 110)) and {99, 110} <= set(got)
    assert any("segment 10 was left out" in note for note in io.notes)


async def test_a_list_that_stops_is_stale_while_nothing_has_started(io: FakeIO):
    async with Packager(timeline=True, moving=False).running() as origin, viewing(origin, io):
        with pytest.raises(Failure) as raised:
            async with asyncio.timeout(GRACE):
                while True:  # pictures come, but nobody verifies them
                    await io.feed.get()
    assert (raised.value.phase, raised.value.reason) == (Phase.PLAYLIST, "stale")


@pytest.mark.parametrize("kind", [{}, {"timeline": True}], ids=["number", "timeline"])
async def test_a_stream_that_stops_is_frozen_once_everything_was_shown(io: FakeIO, monkeypatch, quick: None, kind: dict):
    monkeypatch.setattr(dash, "_FROZEN", NS)
    stopping = Packager(**kind)
    async with stopping.running(), viewing(stopping, io):
        await io.pictures(1)
        stopping.freeze()
        got, failure = await io.until_closed()
    assert (failure.phase, failure.reason) == (Phase.PLAYING, "frozen")
    assert sequences(got)[-1] >= stopping.last * PER_SEGMENT - 1


@pytest.mark.parametrize("kind", [{}, {"timeline": True}], ids=["number", "timeline"])
async def test_a_broadcast_that_ends_is_played_out(io: FakeIO, kind: dict):
    ending = Packager(**kind)
    async with ending.running(), viewing(ending, io):
        await io.pictures(1)
        ending.freeze()
        ending.static = True
        got, failure = await io.until_closed()
    assert (failure.phase, failure.reason) == (Phase.PLAYING, "ended")
    assert sequences(got)[-1] == ending.last * PER_SEGMENT - 1


@pytest.mark.parametrize("hours", [5, -5])
async def test_a_timeline_that_jumps_by_hours_is_followed(io: FakeIO, hours: int):
    origin = Packager(timeline=True, jump_at=11, first_ticks=5 * 3600 * 90_000)
    if hours < 0:
        origin.jump_at, origin.age = 0, 6.0
    async with origin.running(), viewing(origin, io):
        await io.pictures(1)
        if hours < 0:  # as an encoder does that was started again: the list goes on at a time long past
            origin.first_ticks = 0
        got = sequences(await io.pictures(30))
    assert got[-1] > got[0] + 25 or io.facts.get("playlist_restarts")
    assert len(set(got)) == len(got)


@pytest.mark.parametrize("kind", [{}, {"timeline": True}], ids=["number", "timeline"])
async def test_a_packager_that_begins_anew_is_followed(io: FakeIO, quick: None, kind: dict):
    again = Packager(**kind)
    async with again.running(), viewing(again, io):
        await io.pictures(1)
        again.restart()
        async with asyncio.timeout(GRACE):
            while True:
                record = await io.feed.get()
                if isinstance(record, FrameRecord) and record.code and record.code.sequence < 20:
                    break
    assert io.facts["playlist_restarts"] == "1"


async def test_a_token_that_runs_out_ends_the_stay(io: FakeIO):
    origin = Packager()
    async with origin.running(), viewing(origin, io):
        await io.pictures(1)
        origin.broken["segment"] = status(401)
        _, failure = await io.until_closed()
    assert (failure.phase, failure.reason) == (Phase.AUTH, "http_401")


async def test_sound_that_cannot_be_had_costs_no_picture(io: FakeIO, quick: None):
    sound = '<SegmentTemplate duration="1" media="sound-$Number$"/><Representation id="a" codecs="mp4a.40.2"/>'
    sets = f'<AdaptationSet mimeType="audio/mp4">{sound}</AdaptationSet>'
    async with Packager(sets=sets).running() as origin, viewing(origin, io):
        got = sequences(await io.pictures(20))
    assert got == list(range(got[0], got[0] + 20))


# --- gone


@pytest.mark.parametrize("kind", [{}, {"chunked": True}], ids=["number", "chunked"])
async def test_cancelled_in_mid_stream_it_leaves_nothing(io: FakeIO, kind: dict):
    origin = Packager(**kind)
    async with origin.running():
        tasks = asyncio.all_tasks()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                async with viewing(origin, io):
                    while True:
                        await io.feed.get()
        await io.http.close()
        await wait_until(lambda: not any(thread.name.startswith("decode-") for thread in threading.enumerate()), 2, "an end")
        await wait_until(lambda: asyncio.all_tasks() <= tasks, 5, "the end of what served it")


async def test_what_the_caller_raises_comes_out_as_it_is(io: FakeIO):
    async with Packager().running() as origin:
        with pytest.raises(Failure) as raised:
            async with viewing(origin, io):
                raise Failure(Phase.PLAYING, "black")
    assert raised.value.reason == "black"
