"""The LL-HLS viewer against a real server: what a low-latency player asks for and shows, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
from aiohttp import web

from probe.drivers import hls_retry, hls_viewer, ll_hls
from probe.drivers.base import Spec
from probe.drivers.ll_hls import LlHlsViewer
from probe.errors import Failure, Unsupported
from probe.model.clock import MS, NS
from probe.model.frames import FrameRecord
from probe.model.observation import Delivery, Ladder, RequestDone, Role, Switched
from probe.model.stage import Phase, Stage
from probe.plan import Device
from tests.drivers.hls_origin import FPS, Broken, body, clip, endless, never, status
from tests.drivers.hls_session import GRACE, FakeIO, sessions
from tests.drivers.ll_origin import PARTS, PER_PART, LowLatencyOrigin, part
from tests.tools import wait_until


@pytest.fixture
async def make_io() -> AsyncIterator[Callable[..., FakeIO]]:
    async with sessions() as make:
        yield make


@pytest.fixture
async def io(make_io: Callable[..., FakeIO]) -> FakeIO:
    return make_io()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their pauses: what is tested is what they come to."""
    monkeypatch.setattr(hls_retry, "START_PAUSES", (0.01,) * 4)
    monkeypatch.setattr(hls_retry, "BACKOFF_FIRST", 0.02)


def spec(origin: LowLatencyOrigin, **more: object) -> Spec:
    return replace(Spec(role=Role.VIEWER, protocol="ll-hls", url=origin.url, session="s-1"), **more)  # type: ignore[arg-type]


@asynccontextmanager
async def viewing(origin: LowLatencyOrigin, io: FakeIO, **more: object) -> AsyncIterator[None]:
    async with LlHlsViewer().open(spec(origin, **more), io):
        yield


async def refused(origin: LowLatencyOrigin, io: FakeIO) -> tuple[Phase, str]:
    with pytest.raises(Failure) as raised:
        async with asyncio.timeout(GRACE):
            async with viewing(origin, io):
                await io.pictures(1)
    return raised.value.phase, raised.value.reason


def sequences(records: list[FrameRecord]) -> list[int]:
    return [record.code.sequence for record in records if record.code]


def in_a_row(records: list[FrameRecord]) -> bool:
    seen = sequences(records)
    return len(seen) == len(records) and seen == list(range(seen[0], seen[0] + len(seen)))


# --- works


async def test_it_starts_where_the_server_asks_to_and_shows_every_picture_when_it_is_due(io: FakeIO):
    async with LowLatencyOrigin(listed=44).running() as origin:
        listed = origin.last * PER_PART
        async with viewing(origin, io):
            got = await io.pictures(20)
            live = origin.last * PER_PART
    assert in_a_row(got)
    assert listed - 7 <= got[0].code.sequence <= listed  # type: ignore[union-attr]
    assert got[0].code.sequence % 10  # type: ignore[union-attr] # not where the segment begins: what precedes it is not shown
    gaps = [(b.shown - a.shown) / MS for a, b in pairwise(got[1:])]
    assert sum(gaps) / len(gaps) == pytest.approx(1000 / FPS, abs=2)
    assert 3 <= live - got[-1].code.sequence <= 12  # type: ignore[union-attr] # PART-HOLD-BACK is six pictures
    assert io.rebuffers == []
    assert io.facts["low_latency"] == "parts of 0.1 s, blocking reload, delta updates"
    assert float(io.facts["startup"].split()[0]) < 2


async def test_its_stages_are_those_of_ll_hls_and_add_up(io: FakeIO):
    async with LowLatencyOrigin().running() as origin, viewing(origin, io):
        (first,) = await io.pictures(1)
    stages = io.stages.by_stage()
    assert list(stages) == [Stage.PROBE, Stage.CONNECT, Stage.PLAYLIST, Stage.INIT, Stage.PART]
    assert sum(stages.values()) == io.stages.total == first.decoded - io.stages.intent


async def test_the_list_is_asked_for_the_next_part_and_only_for_what_is_new(io: FakeIO):
    async with LowLatencyOrigin().running() as origin, viewing(origin, io):
        await io.pictures(16)
    first, *then = origin.queries
    assert first == {}
    assert all(query["_HLS_skip"] == "YES" for query in then)
    wanted = [(int(query["_HLS_msn"]), int(query["_HLS_part"])) for query in then]
    steps = [(b[0] * PARTS + b[1]) - (a[0] * PARTS + a[1]) for a, b in pairwise(wanted)]
    assert set(steps) <= {1, 2}
    assert len(then) <= 16 / PER_PART + 6


async def test_the_next_part_is_asked_for_before_it_is_there_and_each_only_once(io: FakeIO):
    async with LowLatencyOrigin().running() as origin, viewing(origin, io):
        await io.pictures(16)
    parts = {name: count for name, count in origin.asked.items() if name[0] == "p"}
    assert set(parts.values()) == {1}
    assert origin.held >= 3
    assert origin.asked["init"] == 1


async def test_what_is_taken_back_at_the_end_is_no_edges_failure(io: FakeIO):
    async with LowLatencyOrigin().running() as origin:
        async with viewing(origin, io):
            await io.pictures(8)
    assert {request.status for request in io.of(RequestDone)} == {200}


async def test_without_hints_parts_are_fetched_once_listed(io: FakeIO):
    async with LowLatencyOrigin(hints=False).running() as origin, viewing(origin, io):
        assert in_a_row(await io.pictures(16))
    assert origin.held == 0
    assert io.rebuffers == []


async def test_a_server_that_cannot_block_is_asked_each_part_target(io: FakeIO):
    async with LowLatencyOrigin(block=False, skip=False, hold_back=0.5).running() as origin, viewing(origin, io):
        assert in_a_row(await io.pictures(16))
    assert all(query == {} for query in origin.queries)
    assert 5 <= len(origin.queries) <= 25
    assert io.facts["low_latency"] == "parts of 0.1 s"


async def test_a_server_without_parts_is_played_as_plain_hls_and_that_is_told(io: FakeIO):
    async with LowLatencyOrigin(parts=False, hints=False).running() as origin, viewing(origin, io):
        got = await io.pictures(12)
        behind = origin.last * PER_PART - sequences(got)[-1]
    assert in_a_row(got)
    assert behind >= 30  # three target durations of 1 s, less what is still being made
    assert io.facts["low_latency"].startswith("no parts: played as HLS")
    assert not any(name[0] == "p" and name[1:].isdigit() for name in origin.asked)


async def test_a_media_playlist_without_a_master_will_do(io: FakeIO):
    async with LowLatencyOrigin().running() as origin:
        async with viewing(origin, io, url=origin.url.replace("master", "media")):
            assert in_a_row(await io.pictures(5))
    assert origin.asked["master"] == 0
    assert io.of(Ladder) == []


async def test_live_latency_is_the_platforms_wall_clock_against_ours(io: FakeIO):
    async with LowLatencyOrigin().running() as origin, viewing(origin, io):
        await io.pictures(1)
        await wait_until(lambda: len(io.of(Delivery)) >= 2)
    for told in io.of(Delivery):
        assert told.live_latency == pytest.approx(0.45, abs=0.3)
        assert 0.1 < told.buffered < 0.6
        assert told.part_gap < 0.2
        assert 5 <= told.reloads <= 14
        assert (told.backwards, told.discontinuities) == (0, 0)
        assert told.unmoved < 0.3


async def test_without_a_date_there_is_no_live_latency(io: FakeIO):
    async with LowLatencyOrigin(dated=False).running() as origin, viewing(origin, io):
        await io.pictures(1)
        await wait_until(lambda: io.of(Delivery))
    assert io.of(Delivery)[0].live_latency is None


async def test_a_discontinuity_goes_on_where_the_one_before_ended(io: FakeIO):
    late = {"discontinuity_at": 9, "shift": lambda number: 7200 if number >= 45 else 0}
    async with LowLatencyOrigin(**late).running() as origin, viewing(origin, io):  # type: ignore[arg-type]
        got = await io.pictures(20)
        await wait_until(lambda: sum(told.discontinuities for told in io.of(Delivery)) == 1)
    assert in_a_row(got)
    assert max(b.shown - a.shown for a, b in pairwise(got)) < 300 * MS


@pytest.mark.parametrize("hours", [3, -3], ids=["ahead", "back"])
async def test_times_that_jump_by_hours_are_closed_up(io: FakeIO, hours: int):
    base = 4 * 3600

    def shift(number: int) -> int:
        return base + (hours * 3600 if number >= 46 else 0)

    async with LowLatencyOrigin(shift=shift).running() as origin, viewing(origin, io):
        got = await io.pictures(22)
    assert in_a_row(got)
    assert max(b.shown - a.shown for a, b in pairwise(got)) < 300 * MS
    assert io.facts["holes_closed_up"] == "1"


async def test_cmcd_goes_along_as_headers_and_never_as_a_query(io: FakeIO):
    async with LowLatencyOrigin().running() as origin, viewing(origin, io):
        await io.pictures(10)
    sent = dict(origin.headers)
    assert "ot=m" in sent["media"]["CMCD-Object"]
    assert "ot=i" in sent["init"]["CMCD-Object"]
    assert 'sid="s-1"' in sent["media"]["CMCD-Session"]
    assert all("br=800" in headers["CMCD-Object"] for name, headers in origin.headers if name[1:].isdigit())
    assert not any("CMCD" in key for query in origin.queries for key in query)


async def test_cmcd_is_off_by_its_switch_and_a_device_says_who_it_is(io: FakeIO):
    async with LowLatencyOrigin().running() as origin:
        async with viewing(origin, io, cmcd=False, device=Device(user_agent="Phone/1")):
            await io.pictures(2)
    assert not any(name.startswith("CMCD") for _, headers in origin.headers for name in headers)
    assert {headers["User-Agent"] for _, headers in origin.headers} == {"Phone/1"}


# --- the ladder


async def test_the_ladder_is_told_and_a_device_has_the_best_that_fits(io: FakeIO):
    async with LowLatencyOrigin(variants=2).running() as origin:
        async with viewing(origin, io, device=Device(max_height=100)):
            (first,) = await io.pictures(1)
    (ladder,) = io.of(Ladder)
    assert [(rung.name, rung.bandwidth) for rung in ladder.rungs] == [("180p", 800_000), ("90p", 200_000)]
    assert first.rendition == "90p"


async def test_a_slow_path_steps_down_between_segments_and_loses_no_picture(io: FakeIO):
    slow = {"variants": 2, "hold_back": 0.8, "pad": {"a": 9_000}, "rate": lambda way: 60_000}
    async with LowLatencyOrigin(**slow).running() as origin, viewing(origin, io):  # type: ignore[arg-type]
        got = await io.pictures(36)
    (switched,) = io.of(Switched)
    assert (switched.before, switched.after) == ("180p", "90p")
    labels = [record.rendition for record in got]
    assert labels == sorted(labels)  # one, then the other
    first = got[labels.index("90p")]
    assert first.code is not None and first.code.sequence % 10 == 0
    assert abs(switched.at - first.shown) < 50 * MS
    assert in_a_row(got), (sequences(got), io.notes)
    query = next(dict(q) for q in origin.queries[1:] if "_HLS_skip" not in q)
    assert set(query) <= {"_HLS_msn", "_HLS_part"} and query  # by the rendition report
    assert io.facts["switches"] == "1"


# --- lived through


async def test_a_hint_that_is_never_answered_costs_nothing_but_time(io: FakeIO):
    once: set[str] = set()

    async def first_hangs(request: web.Request) -> web.StreamResponse | None:
        if request.path in once:
            return None
        once.add(request.path)
        return await never(request)

    async with LowLatencyOrigin(hold_back=0.8).running() as origin, viewing(origin, io):
        await io.pictures(5)
        origin.broken = {f"p{origin.last + 1}": first_hangs}
        got = await io.pictures(35)
    assert sequences(got) == sorted(sequences(got))
    assert any("did not come" in note for note in io.notes)
    assert not io.feed.closed


async def test_an_init_section_that_is_hinted_is_fetched_ahead(io: FakeIO):
    async with LowLatencyOrigin(edit=lambda text: text + '#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="soon.mp4"\n').running() as origin:
        async with viewing(origin, io):
            await io.pictures(10)
    assert origin.asked["soon"] == 1


async def test_init_sections_that_are_hinted_and_hang_are_not_piled_up_nor_waited_for(io: FakeIO):
    """A server names another with every list, and answers none."""
    waiting = most = 0

    async def hangs(request: web.Request) -> web.StreamResponse:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        try:
            return await never(request)
        finally:
            waiting -= 1

    origin = LowLatencyOrigin(broken={f"soon{n}": hangs for n in range(1000)})
    origin.edit = lambda text: text + f'#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="soon{len(origin.queries)}.mp4"\n'
    async with origin.running():
        async with viewing(origin, io):
            assert in_a_row(await io.pictures(30))
            began = io.clock.now()
        assert io.clock.now() - began < NS
    assert sum(name.startswith("soon") for name in origin.asked) > 5 and most <= 3


async def test_a_hint_that_names_something_else_is_dropped(io: FakeIO):
    async with LowLatencyOrigin(edit=lambda text: text.replace('TYPE=PART,URI="p', 'TYPE=PART,URI="wrong-p')).running() as origin:
        async with viewing(origin, io):
            assert in_a_row(await io.pictures(12))
    assert any("hinted" in note for note in io.notes)


async def test_a_gap_is_left_out_and_play_goes_on_at_the_next_independent_part(io: FakeIO):
    async with LowLatencyOrigin(gaps=frozenset({47})).running() as origin, viewing(origin, io):
        got = sequences(await io.pictures(20))
    assert [n for n in got if 94 <= n < 100] == []
    assert got[-1] > 100


async def test_a_delta_against_what_was_never_listed_is_asked_for_in_full(io: FakeIO):
    def lying(text: str) -> str:
        return text.replace("SKIPPED-SEGMENTS=", "SKIPPED-SEGMENTS=40")

    async with LowLatencyOrigin(edit=lying).running() as origin, viewing(origin, io):
        assert in_a_row(await io.pictures(16))
    assert any("never listed" in note for note in io.notes)
    assert "_HLS_skip" not in origin.queries[-1]


async def test_part_numbers_that_jump_are_gone_along_with(io: FakeIO):
    async with LowLatencyOrigin(jump_at=46).running() as origin, viewing(origin, io):
        got = sequences(await io.pictures(25))
    assert max(b - a for a, b in pairwise(got)) <= PER_PART
    assert got[-1] > 92


async def test_where_blocking_fails_the_list_is_asked_plainly(io: FakeIO, quick: None):
    async def refuse(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=503) if "_HLS_msn" in request.query else None

    async with LowLatencyOrigin(broken={"media": refuse}, hold_back=0.8).running() as origin, viewing(origin, io):
        assert in_a_row(await io.pictures(16))
    assert any("plainly" in note for note in io.notes)
    assert "_HLS_msn" not in origin.queries[-1]


async def test_a_list_that_stops_is_frozen_once_everything_was_shown(io: FakeIO, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hls_viewer, "FROZEN", NS)
    monkeypatch.setattr(hls_viewer, "STALE_TARGETS", 1)
    async with LowLatencyOrigin(moving=False, block=False).running() as origin, viewing(origin, io):
        _, failure = await io.until_closed()
    assert (failure.phase, failure.reason) == (Phase.PLAYING, "frozen")


async def test_a_blocking_list_that_hangs_for_ever_is_found_to_stand(io: FakeIO, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"FROZEN": NS, "STALE_TARGETS": 1}.items():
        monkeypatch.setattr(hls_viewer, name, value)
    monkeypatch.setattr(ll_hls, "_BLOCKED_MIN", 0.2)
    monkeypatch.setattr(ll_hls, "_BLOCKED_MAX", 0.2)
    async with LowLatencyOrigin().running() as origin, viewing(origin, io):
        await io.pictures(5)
        origin.freeze()
        _, failure = await io.until_closed()
        told = await wait_until(lambda: [d for d in io.of(Delivery) if d.unmoved > 0.5])
    assert (failure.phase, failure.reason) == (Phase.PLAYING, "frozen")
    assert told


async def test_a_token_that_expires_is_told_when_the_buffer_is_played_out(io: FakeIO):
    async with LowLatencyOrigin().running() as origin, viewing(origin, io):
        await io.pictures(5)
        origin.broken = {"media": status(403), "part": status(403)}
        _, failure = await io.until_closed()
    assert (failure.phase, failure.reason) == (Phase.AUTH, "http_403")


async def test_a_viewer_cancelled_in_mid_stream_leaves_nothing(io: FakeIO):
    async with LowLatencyOrigin().running() as origin:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                async with viewing(origin, io):
                    while True:
                        await io.feed.get()


# --- refused


def listing(*lines: str) -> Broken:
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-PART-INF:PART-TARGET=0.1\n"
    return body((head + "\n".join(lines) + "\n").encode())


async def dribbling(request: web.Request) -> web.StreamResponse:
    """Chunked, and never at its end."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"#\n")
        await asyncio.sleep(0.01)


async def bomb(request: web.Request) -> web.StreamResponse:
    return web.Response(body=gzip.compress(b"#EXTM3U\n" * (1 << 20)), headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    ("what", "answer", "phase", "reason"),
    [
        ("media", bomb, Phase.PLAYLIST, "too_large"),
        ("media", listing('#EXT-X-PART:DURATION=0.1,URI="file:///etc/passwd"'), Phase.PLAYLIST, "address_refused"),
        ("media", listing('#EXT-X-PRELOAD-HINT:TYPE=PART,URI="file:///etc/passwd"'), Phase.PLAYLIST, "address_refused"),
        ("media", listing("#EXT-X-PART:DURATION=0.1"), Phase.PLAYLIST, "malformed"),
        ("media", listing("#EXT-X-SKIP:SKIPPED-SEGMENTS=3", "#EXTINF:1,", "3.m4s"), Phase.PLAYLIST, "malformed"),
        ("part", endless, Phase.PART, "too_large"),
        ("part", body(b"garbage" * 100), Phase.PART, "malformed"),
        ("part", body(b""), Phase.PART, "malformed"),
        ("part", status(404), Phase.PART, "http_404"),
        ("part", status(503), Phase.PART, "http_503"),
        ("init", status(404), Phase.INIT, "http_404"),
        ("part", body(part(1)), Phase.KEYFRAME, "none"),
        ("part", status(401), Phase.AUTH, "http_401"),
    ],
    ids=[
        "gzip-bomb", "file", "file-hint", "no-uri", "delta-of-nothing", "endless", "garbage", "nothing", "404", "503", "no-init",
        "no-keyframe", "token",
    ],
)  # fmt: skip
async def test_each_fault_has_one_phase_and_one_reason(
    io: FakeIO, quick: None, monkeypatch: pytest.MonkeyPatch, what: str, answer: Broken, phase: Phase, reason: str
):
    monkeypatch.setattr("probe.drivers.hls_source.SEGMENT_LIMIT", 1 << 20)
    async with LowLatencyOrigin(broken={what: answer}).running() as origin:
        assert await refused(origin, io) == (phase, reason)


async def test_a_part_at_a_private_address_is_refused(io: FakeIO, quick: None):
    private = LowLatencyOrigin(edit=lambda text: text.replace('URI="p', 'URI="http://169.254.169.254/p'))
    async with private.running() as origin:
        assert await refused(origin, io) == (Phase.PART, "address_refused")


async def test_another_codec_is_unsupported_and_says_what_was_offered(io: FakeIO):
    async with LowLatencyOrigin(codecs="hvc1.1.6.L93.B0").running() as origin:
        with pytest.raises(Unsupported, match="hvc1"):
            async with viewing(origin, io):
                pass


async def test_sound_alone_has_no_variant(io: FakeIO):
    async with LowLatencyOrigin(codecs="mp4a.40.2").running() as origin:
        assert await refused(origin, io) == (Phase.PLAYLIST, "no_variant")


@pytest.mark.parametrize(("what", "answer"), [("media", never), ("media", dribbling), ("init", never), ("part", dribbling)])
async def test_a_server_that_hangs_is_left_when_cancelled(io: FakeIO, what: str, answer: Broken):
    async with LowLatencyOrigin(broken={what: answer}).running() as origin:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                async with viewing(origin, io):
                    await io.pictures(1)
    assert io.stages.current is (Stage.PLAYLIST if what == "media" else Stage(what))


# --- sound of its own rendition


async def test_sound_of_its_own_rendition_that_cannot_be_had_ends_nothing_and_is_told(io: FakeIO, quick: None):
    sound = '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en",DEFAULT=YES,URI="/c/nothing.m3u8"'
    async with LowLatencyOrigin(audio=sound).running() as origin, viewing(origin, io):
        assert in_a_row(await io.pictures(12))
        await wait_until(lambda: io.notes)
    assert any("the sound is not listened to: playlist/http_404" in note for note in io.notes)


async def test_requests_are_told_with_their_purpose(io: FakeIO):
    async with LowLatencyOrigin().running() as origin, viewing(origin, io):
        await io.pictures(10)
    assert {request.purpose for request in io.of(RequestDone)} == {"playlist", "init", "part"}
    assert clip().init
