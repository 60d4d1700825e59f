"""The HLS viewer against a real server: what a player plays, what it lives through, and what it says when it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from statistics import median

import pytest

from probe.clock import SystemClock
from probe.drivers import hls_retry, hls_viewer
from probe.drivers.base import Spec
from probe.drivers.hls import HlsViewer, scout
from probe.errors import Failure, Unsupported
from probe.link.path import Path
from probe.media.decoder import DecoderThread, Unit
from probe.model.clock import MS, NS
from probe.model.frames import Chirp, FrameRecord, Reading, Record, Refill
from probe.model.observation import RequestDone, Role
from probe.model.stage import Phase, Stage
from probe.net.client import Credential
from tests.drivers.hls_origin import (
    FPS,
    PER_SEGMENT,
    Broken,
    Origin,
    body,
    clip,
    cut_off,
    endless,
    never,
    rich_ts,
    status,
    without_keyframe,
)
from tests.drivers.hls_session import GRACE, FakeIO, sessions


@pytest.fixture
async def make_io() -> AsyncIterator[Callable[..., FakeIO]]:
    async with sessions() as make:
        yield make


@pytest.fixture
async def io(make_io: Callable[..., FakeIO]) -> FakeIO:
    return make_io()


@pytest.fixture
async def path() -> AsyncIterator[Path]:
    async with Path(SystemClock()) as one:
        yield one


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their pauses: what is tested is what they come to."""
    monkeypatch.setattr(hls_retry, "START_PAUSES", (0.01,) * 4)
    monkeypatch.setattr(hls_retry, "BACKOFF_FIRST", 0.02)


def spec(url: str, credential: Credential | None = None) -> Spec:
    return Spec(role=Role.VIEWER, protocol="hls", url=url, credential=credential)


@asynccontextmanager
async def viewing(
    origin: Origin, io: FakeIO, name: str = "master.m3u8", credential: Credential | None = None
) -> AsyncIterator[None]:
    async with HlsViewer().open(spec(f"{origin.url}/{name}", credential), io):
        yield


async def refused(origin: Origin, io: FakeIO, name: str = "master.m3u8") -> tuple[Phase, str]:
    with pytest.raises(Failure) as raised:
        async with asyncio.timeout(GRACE):
            async with viewing(origin, io, name):
                await io.pictures(1)
    return raised.value.phase, raised.value.reason


def sequences(records: list[FrameRecord]) -> list[int]:
    assert all(record.reading is Reading.CODE and record.code for record in records)
    return [record.code.sequence for record in records if record.code]


# --- works


@pytest.mark.parametrize("ts", [False, True], ids=["fmp4", "ts"])
async def test_it_starts_at_the_live_position_and_shows_every_picture_when_it_is_due(io: FakeIO, ts: bool):
    async with Origin(ts=ts).running() as origin, viewing(origin, io):
        got = await io.pictures(30)
    first = (12 - 6) * PER_SEGMENT  # three target durations of 1 s before the end
    assert sequences(got) == list(range(first, first + 30))
    gaps = [(b.shown - a.shown) / MS for a, b in pairwise(got[1:])]
    assert sum(gaps) / len(gaps) == pytest.approx(1000 / FPS, abs=2)
    assert got[0].keyframe and got[0].shown == got[0].decoded
    assert all(record.arrived < record.decoded <= record.shown for record in got)
    assert io.rebuffers == []
    assert io.facts["codec"] == "h264"
    assert io.facts["size"] == "320x180"
    assert io.facts["rebuffers"] == "0"


async def test_pictures_go_to_their_decoder_about_a_second_at_a_time(io: FakeIO, monkeypatch: pytest.MonkeyPatch):
    handed: list[int] = []
    hand_over = DecoderThread.submit_all

    def counted(decoder: DecoderThread, units: Iterable[Unit]) -> None:
        handed.append(len(together := list(units)))
        hand_over(decoder, together)

    monkeypatch.setattr(DecoderThread, "submit_all", counted)
    async with Origin().running() as origin, viewing(origin, io):
        await io.pictures(2 * FPS)  # 2 s
    assert len(handed) <= 6, handed  # as the first segments come, and then once a second


async def test_its_stages_are_those_of_hls_and_add_up(io: FakeIO):
    async with Origin().running() as origin, viewing(origin, io):
        (first,) = await io.pictures(1)
    stages = io.stages.by_stage()
    assert list(stages) == [Stage.PROBE, Stage.CONNECT, Stage.PLAYLIST, Stage.INIT, Stage.SEGMENT]
    assert sum(stages.values()) == io.stages.total == first.decoded - io.stages.intent
    assert io.stages.slices[-1].stage is Stage.PROBE
    assert io.stages.slices[-1].began == first.arrived


async def test_it_takes_the_best_variant_and_says_which(io: FakeIO):
    async with Origin().running() as origin, viewing(origin, io):
        (first,) = await io.pictures(1)
    assert io.facts["variant"] == "320x180 avc1.42c01e 200000 bit/s"
    assert io.facts["variants"] == "2"
    assert first.rendition == "180p"
    assert not any("low" in request.url for request in io.of(RequestDone))


async def test_a_media_playlist_without_a_master_will_do(io: FakeIO):
    async with Origin().running() as origin, viewing(origin, io, "media.m3u8"):
        assert len(await io.pictures(5)) == 5


async def test_each_request_is_told_with_its_purpose_and_each_refill_is_posted(io: FakeIO):
    refills = 0
    async with Origin().running() as origin, viewing(origin, io):
        async with asyncio.timeout(GRACE):
            while refills < 4:
                refills += isinstance(await io.feed.get(), Refill)
    purposes = [request.purpose for request in io.of(RequestDone)]
    assert purposes[:4] == ["playlist", "playlist", "init", "segment"]
    assert purposes.count("init") == 1
    assert purposes.count("segment") >= 4


async def test_the_playlist_is_not_asked_for_more_often_than_the_rfc_allows(io: FakeIO):
    async with Origin().running() as origin, viewing(origin, io):
        await io.pictures(50)
    assert 3 <= origin.asked["media"] <= 4  # at the start, and each target duration of 1 s in 2.5 s


async def test_a_discontinuity_goes_on_where_the_one_before_ended(io: FakeIO):
    async with Origin(discontinuity_at=8).running() as origin, viewing(origin, io):
        got = await io.pictures(40)
    assert sequences(got) == [*range(60, 80), *range(20)]
    gaps = [(b.shown - a.shown) / MS for a, b in pairwise(got)]
    assert max(gaps) < 250
    assert io.rebuffers == []


async def test_an_ended_stream_is_played_out_from_its_beginning_and_then_over(io: FakeIO):
    async with Origin(listed=4, endlist_at=4).running() as origin, viewing(origin, io):
        got, failure = await io.until_closed()
    assert sequences(got) == list(range(40))
    assert (failure.phase, failure.reason) == (Phase.PLAYING, "ended")
    assert (got[-1].shown - got[0].shown) / NS == pytest.approx(39 / FPS, abs=0.1)


async def test_a_secret_goes_to_its_origin_and_to_no_other(io: FakeIO):
    async with Origin().running() as cdn, Origin().running() as origin:
        origin.media_url = f"{cdn.url}/media.m3u8"
        secret = Credential("s3cret-token", frozenset({origin.url}))
        async with viewing(origin, io, credential=secret):
            await io.pictures(5)
    assert set(origin.tokens) == {"Bearer s3cret-token"}
    assert set(cdn.tokens) == {None}


async def test_b_frames_and_sound_come_out_in_step(io: FakeIO):
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n0.ts\n#EXT-X-ENDLIST\n"
    broken = {"media": body(playlist), "0": body(rich_ts(3))}
    records: list[Record] = []
    async with Origin(broken=broken).running() as origin, viewing(origin, io):
        async with asyncio.timeout(GRACE):
            with pytest.raises(Failure, match="playing/ended"):
                while (record := await io.feed.get()) is not None:
                    records.append(record)
    pictures = [record for record in records if isinstance(record, FrameRecord)]
    chirps = [record for record in records if isinstance(record, Chirp)]
    assert sequences(pictures) == list(range(len(pictures)))
    assert len(pictures) >= 56  # a decoder keeps what it may still have to reorder
    assert max(b.shown - a.shown for a, b in pairwise(pictures[4:])) < 250 * MS
    assert len(chirps) >= 2
    assert io.facts["audio"] == "aac"
    heard = median(mark.shown / NS - (mark.media_time or 0) for mark in chirps)
    seen = median(one.shown / NS - (one.media_time or 0) for one in pictures)
    assert abs(heard - seen) < 0.02


# --- a platform that has only just begun


async def test_what_is_not_there_yet_is_tried_again(io: FakeIO, quick: None):
    async with Origin(broken={"media": status(404, times=2)}).running() as origin, viewing(origin, io):
        assert await io.pictures(1)
    assert [request.failure.reason for request in io.of(RequestDone) if request.failure] == ["http_404", "http_404"]


@pytest.mark.parametrize("code", [404, 503])
async def test_five_attempts_and_no_more(io: FakeIO, quick: None, code: int):
    async with Origin(broken={"media": status(code)}).running() as origin:
        assert await refused(origin, io) == (Phase.PLAYLIST, f"http_{code}")
        assert origin.asked["media"] == 5


async def test_the_five_attempts_take_three_seconds(io: FakeIO, monkeypatch: pytest.MonkeyPatch):
    assert sum(hls_retry.START_PAUSES) == 3.0
    monkeypatch.setattr(hls_retry, "START_PAUSES", tuple(pause / 10 for pause in hls_retry.START_PAUSES))
    async with Origin(broken={"media": status(404)}).running() as origin:
        began = io.clock.now()
        await refused(origin, io)
        assert 0.3 <= (io.clock.now() - began) / NS < 2.0


async def test_a_list_of_nothing_is_empty(io: FakeIO, quick: None):
    async with Origin(listed=0, moving=False).running() as origin:
        assert await refused(origin, io) == (Phase.PLAYLIST, "empty")


async def test_an_empty_first_segment_is_left_for_the_next(io: FakeIO, quick: None):
    async with Origin(broken={"6": body(b""), "7": body(clip().fmp4[7][:200])}).running() as origin, viewing(origin, io):
        assert sequences(await io.pictures(1)) == [80]
    assert io.facts["skipped_segments"] == "2"


async def test_a_first_segment_cut_off_is_fetched_again(io: FakeIO, quick: None):
    async with Origin(broken={"6": cut_off(clip().fmp4[6], times=2)}).running() as origin, viewing(origin, io):
        assert sequences(await io.pictures(1)) == [60]


# --- refused


async def test_a_closed_port_is_refused(io: FakeIO, quick: None):
    async with Origin().running() as origin:
        pass
    assert await refused(origin, io) == (Phase.CONNECT, "refused")
    assert len(io.of(RequestDone)) == 5


async def test_a_token_refused_is_final_at_once(io: FakeIO):
    async with Origin(broken={"master": status(401)}).running() as origin:
        assert await refused(origin, io) == (Phase.AUTH, "http_401")
        assert origin.asked["master"] == 1


@pytest.mark.parametrize(
    ("what", "answer", "reason"),
    [
        ("media", body(b"<!doctype html><h1>It works!</h1>"), "not_a_playlist"),
        ("master", body(b""), "not_a_playlist"),
        ("media", body(b"#EXTM3U\n" + b"#EXTINF:1.0,\nnothing.m4s\n" * 500_000), "too_large"),
        ("media", body(b"#EXTM3U\n" + b"\n" * 50_000), "too_many_lines"),
        ("media", endless, "too_large"),
        ("media", body(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n"), "address_refused"),
        ("media", body(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:soon,\n1.m4s\n"), "malformed"),
        ("master", body(b'#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="mp4a.40.2"\nmedia.m3u8\n'), "no_variant"),
        ("master", body(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://127.0.0.2:1/media.m3u8\n"), "address_refused"),
        ("media", body(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmedia.m3u8\n"), "malformed"),
    ],
    ids=["html", "nothing", "million-lines", "many-lines", "endless", "file", "garbage", "sound-only", "private", "nested"],
)
async def test_a_playlist_that_no_repetition_mends_is_told_at_once(io: FakeIO, what: str, answer: Broken, reason: str):
    async with Origin(broken={what: answer}).running() as origin:
        assert await refused(origin, io) == (Phase.PLAYLIST, reason)
        assert origin.asked[what] == 1


async def test_a_segment_at_a_private_address_is_refused(io: FakeIO):
    async with Origin(prefix="http://169.254.169.254/latest/").running() as origin:
        assert await refused(origin, io) == (Phase.SEGMENT, "address_refused")


async def test_an_init_section_that_is_missing_is_named(io: FakeIO, quick: None):
    async with Origin(broken={"init": status(404)}).running() as origin:
        assert await refused(origin, io) == (Phase.INIT, "http_404")


async def test_segments_without_a_keyframe_are_named(io: FakeIO, quick: None):
    playlist = b'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MAP:URI="init.mp4"\n' + b"#EXTINF:1,\n0.m4s\n" * 9
    async with Origin(broken={"media": body(playlist), "0": body(without_keyframe())}).running() as origin:
        assert await refused(origin, io) == (Phase.KEYFRAME, "none")


async def test_an_endless_segment_is_too_large(io: FakeIO, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("probe.drivers.hls_source.SEGMENT_LIMIT", 1 << 20)
    async with Origin(broken={"segment": endless}).running() as origin:
        assert await refused(origin, io) == (Phase.SEGMENT, "too_large")


async def test_segments_of_garbage_are_malformed(io: FakeIO, quick: None):
    async with Origin(broken={"segment": body(bytes(range(256)) * 100)}).running() as origin:
        assert await refused(origin, io) == (Phase.SEGMENT, "malformed")


@pytest.mark.parametrize(
    ("origin", "why"),
    [
        (Origin(codecs="hvc1.1.6.L93.B0,mp4a.40.2"), "hvc1"),
        (Origin(head='#EXT-X-KEY:METHOD=AES-128,URI="key"'), "AES-128"),
    ],
    ids=["hevc", "encrypted"],
)
async def test_what_we_cannot_play_is_unsupported_and_says_what_was_offered(io: FakeIO, origin: Origin, why: str):
    async with origin.running():
        with pytest.raises(Unsupported, match=why):
            async with viewing(origin, io):
                pass


@pytest.mark.parametrize("what", ["master", "media", "init", "segment"])
async def test_a_server_that_hangs_is_left_when_cancelled(io: FakeIO, what: str):
    async with Origin(broken={what: never}).running() as origin:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                async with viewing(origin, io):
                    await io.pictures(1)
    assert io.stages.current is (Stage.PLAYLIST if what in ("master", "media") else Stage(what))


async def test_a_list_that_never_moves_is_stale_while_nothing_has_started(io: FakeIO, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hls_viewer, "STALE_TARGETS", 1)
    async with Origin(moving=False).running() as origin, viewing(origin, io):
        with pytest.raises(Failure) as raised:
            async with asyncio.timeout(GRACE):
                while True:  # pictures come, but nobody verifies them
                    await io.feed.get()
    assert (raised.value.phase, raised.value.reason) == (Phase.PLAYLIST, "stale")


# --- lived through


async def test_a_list_that_stops_is_frozen_once_everything_was_shown(io: FakeIO, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hls_viewer, "FROZEN", NS)
    monkeypatch.setattr(hls_viewer, "STALE_TARGETS", 1)
    async with Origin(listed=4, moving=False).running() as origin, viewing(origin, io):
        got, failure = await io.until_closed()
    assert sequences(got) == list(range(40))
    assert (failure.phase, failure.reason) == (Phase.PLAYING, "frozen")


async def test_an_edge_that_answers_503_for_a_while_costs_nothing(io: FakeIO):
    async with Origin().running() as origin, viewing(origin, io):
        await io.pictures(5)
        origin.broken = {"segment": status(503, times=2), "media": status(503, times=1)}
        got = await io.pictures(70)
    failures = [request.failure.reason for request in io.of(RequestDone) if request.failure]
    assert failures == ["http_503"] * 3
    assert sequences(got) == list(range(65, 135))
    assert io.rebuffers == []


async def test_a_segment_that_stays_broken_is_left_out_and_told(io: FakeIO, quick: None):
    async with Origin(broken={"9": status(503), "10": body(b"garbage" * 100)}).running() as origin, viewing(origin, io):
        got = await io.pictures(50)
    assert sequences(got) == [*range(60, 90), *range(110, 130)]
    assert not any(record.jumped for record in got)
    assert sum("was left out" in note for note in io.notes) == 2
    assert io.facts["skipped_segments"] == "2"


async def test_a_short_cut_of_the_path_goes_unnoticed(make_io: Callable[..., FakeIO], path: Path):
    io = make_io(path)
    async with Origin().running() as origin, viewing(origin, io):
        await io.pictures(10)
        path.cut()
        got = await io.pictures(24)
        path.restore()
        got += await io.pictures(46)
    assert sequences(got) == list(range(70, 140))  # past what the buffer held at the cut
    assert max(b.shown - a.shown for a, b in pairwise(got)) < 300 * MS
    assert io.rebuffers == []
    assert path.down.stream_bytes > 0


async def test_a_rebinding_goes_unnoticed(make_io: Callable[..., FakeIO], path: Path):
    io = make_io(path)
    async with Origin().running() as origin, viewing(origin, io):
        await io.pictures(10)
        await path.rebind()
        got = await io.pictures(70)
    assert sequences(got) == list(range(70, 140))
    assert io.rebuffers == []


async def test_a_long_cut_stands_the_picture_and_then_resumes_near_live(make_io: Callable[..., FakeIO], path: Path):
    io = make_io(path)
    async with Origin().running() as origin, viewing(origin, io):
        await io.pictures(10)
        path.cut()
        await asyncio.sleep(5)
        restored = path.restore()
        got = await io.pictures(80)
    after = [record for record in got if record.arrived > restored]
    assert after
    assert after[0].shown - restored < 2 * NS
    (rebuffer,) = io.rebuffers
    assert rebuffer.took / NS == pytest.approx(2.5, abs=1.2)
    assert rebuffer.began < restored < rebuffer.began + rebuffer.took
    assert sequences(after)[0] > 120 + PER_SEGMENT
    assert any("segments were left out" in note for note in io.notes)
    over = [b for a, b in pairwise(got) if a.code and b.code and b.code.sequence > a.code.sequence + 1]
    assert over and [record for record in got if record.jumped] == over  # our own player's doing, and told so
    assert float(io.facts["rebuffer_ratio"]) > 0.2


async def test_a_token_that_expires_is_told_when_the_buffer_is_played_out(io: FakeIO):
    async with Origin(listed=4).running() as origin, viewing(origin, io):
        await io.pictures(5)
        origin.broken = {"media": status(401), "segment": status(401)}
        got, failure = await io.until_closed()
    assert (failure.phase, failure.reason) == (Phase.AUTH, "http_401")
    assert len(got) > 20


async def test_a_stream_that_turns_unplayable_is_ended_when_the_buffer_is_played_out(io: FakeIO):
    async with Origin(listed=4).running() as origin, viewing(origin, io):
        await io.pictures(5)
        origin.head = '#EXT-X-KEY:METHOD=AES-128,URI="key"'
        got, failure = await io.until_closed()
    assert (failure.phase, failure.reason) == (Phase.PLAYING, "undecodable")
    assert "AES-128" in str(failure)
    assert len(got) > 20


async def test_a_bug_of_ours_comes_out_as_itself(io: FakeIO, monkeypatch: pytest.MonkeyPatch):
    async def bug(self: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr("probe.drivers.hls_screen.Screen.present", bug)
    async with Origin().running() as origin:
        with pytest.raises(KeyError, match="bug"):
            async with viewing(origin, io):
                await asyncio.Event().wait()


async def test_what_the_caller_raises_comes_out_as_it_is(io: FakeIO):
    async with Origin().running() as origin:
        with pytest.raises(Failure) as raised:
            async with viewing(origin, io):
                raise Failure(Phase.PLAYING, "black")
    assert raised.value.reason == "black"


async def test_a_viewer_cancelled_in_mid_stream_leaves_nothing(io: FakeIO):
    async with Origin().running() as origin:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                async with viewing(origin, io):
                    while True:
                        await io.feed.get()


# --- scouting


async def test_the_scout_sees_a_listed_segment(io: FakeIO):
    async with Origin().running() as origin:
        assert await scout(spec(f"{origin.url}/master.m3u8"), io)


async def test_the_scout_sees_that_nothing_is_listed(io: FakeIO):
    async with Origin(listed=0, moving=False).running() as origin:
        assert not await scout(spec(f"{origin.url}/master.m3u8"), io)


async def test_the_scout_says_why_there_is_no_playlist(io: FakeIO):
    async with Origin(broken={"media": status(404)}).running() as origin:
        with pytest.raises(Failure, match="http_404"):
            await scout(spec(f"{origin.url}/master.m3u8"), io)
