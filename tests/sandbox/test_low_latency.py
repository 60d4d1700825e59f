"""LL-HLS as RFC 8216bis has it, by plain requests: parts, blocking, hints, delta updates, reports, and what edges keep."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast
from urllib.parse import urljoin

import pytest
import pytest_asyncio

from probe.clock import TestClock
from probe.media.demux import Demuxer
from probe.sandbox.launch import Sandbox
from probe.sandbox.live import SMALL_IDLE, Live
from probe.sandbox.playlists import Listed
from probe.sandbox.segments import Window
from tests.sandbox.clients import User, on_air, user
from tests.sandbox.ways import Playlist, first, playlist, read, variants
from tests.tools import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Stage:
    sandbox: Sandbox
    probe: User
    viewer: User
    room: str
    media: str
    small: str

    async def now(self, query: str = "") -> Playlist:
        return await playlist(self.viewer, self.media + query)

    async def status(self, query: str) -> int:
        return (await self.viewer.call("GET", self.media + query)).status


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Stage]:
    async with Sandbox.start() as sandbox, user(sandbox) as probe, user(sandbox, "viewer") as viewer:
        room = await probe.room()
        async with on_air(probe, room):
            media, small = await variants(viewer, room)
            yield Stage(sandbox, probe, viewer, room, media, small)


@pytest_asyncio.fixture(loop_scope="module")
async def stage(running: Stage) -> AsyncIterator[Stage]:
    """Connections of its own."""
    async with user(running.sandbox, "viewer") as viewer:
        yield replace(running, viewer=viewer)


async def test_the_playlist_says_what_a_player_needs(stage: Stage) -> None:
    await wait_until(lambda: long(stage, 3), 8)
    media = await stage.now()
    target = float(first(r"PART-TARGET=([\d.]+)", media["PART-INF"]))
    control = media["SERVER-CONTROL"]
    assert "CAN-BLOCK-RELOAD=YES" in control
    assert float(first(r"PART-HOLD-BACK=([\d.]+)", control)) >= 3 * target
    assert float(first(r"CAN-SKIP-UNTIL=([\d.]+)", control)) >= 6 * int(media["TARGETDURATION"])
    durations = [float(d) for d in re.findall(r"#EXT-X-PART:DURATION=([\d.]+)", media.text)]
    assert max(durations) <= target
    whole = re.findall(r"((?:#EXT-X-PART:.*\n)+)#EXTINF", media.text)
    for parts in whole:
        lengths = [float(d) for d in re.findall(r"DURATION=([\d.]+)", parts)]
        assert all(length >= 0.85 * target for length in lengths[:-1])
        assert "INDEPENDENT=YES" in parts.split("\n")[0]
    assert media.text.count("PROGRAM-DATE-TIME") >= len(media.segments)


async def long(stage: Stage, count: int) -> bool:
    return len((await stage.now()).segments) >= count


async def test_a_segment_is_its_parts_in_a_row(stage: Stage) -> None:
    await wait_until(lambda: long(stage, 3), 8)
    media = await stage.now()
    name, parts = list(media.parts().items())[-1]

    async def body(name: str) -> bytes:
        return (await stage.viewer.call("GET", urljoin(stage.media, name))).body

    assert await body(name) == b"".join([await body(part) for part in parts])
    init = await body(first(r'MAP:URI="(.*?)"', media.text))
    for part in parts:  # each can be read alone
        assert Demuxer().feed(init, await body(part))


async def test_a_blocking_reload_is_answered_when_its_part_is_there(stage: Stage) -> None:
    for _ in range(6):
        media = await stage.now()
        msn, part = media.next
        began = time.monotonic()
        after = await stage.now(f"?_HLS_msn={msn}&_HLS_part={part}")
        assert after.next > media.next
        assert time.monotonic() - began < 0.6
    msn, _ = after.next
    whole = await stage.now(f"?_HLS_msn={msn}")
    assert whole.next[0] > msn
    assert (await stage.now(f"?_HLS_msn={msn - 2}")).next >= whole.next  # long there: at once


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?_HLS_msn={far}", 400),
        ("?_HLS_msn={msn}&_HLS_part=99", 400),
        ("?_HLS_part=0", 400),
        ("?_HLS_msn=-1", 400),
        ("?_HLS_msn=x", 400),
        ("?_HLS_msn=" + "9" * 50, 400),
        ("?_HLS_msn=%26", 400),
        ("?whatever=1", 200),
    ],
)
async def test_what_cannot_be_asked_for_is_refused_at_once(stage: Stage, query: str, status: int) -> None:
    msn = (await stage.now()).next[0]
    began = time.monotonic()
    assert await stage.status(query.format(far=msn + 3, msn=msn)) == status
    assert time.monotonic() - began < 1


async def test_nobody_waits_for_ever(stage: Stage) -> None:
    async with user(stage.sandbox) as probe:
        room = await probe.room("b-test")
        async with on_air(probe, room):
            url = (await variants(probe, room))[0]
        media = await playlist(probe, url)
        began = time.monotonic()
        msn, part = media.next
        reply = await probe.call("GET", f"{url}?_HLS_msn={msn}&_HLS_part={part + 1}")
        assert reply.status == 503
        assert 2.5 < time.monotonic() - began < 4
        waiting = asyncio.create_task(probe.call("GET", f"{url}?_HLS_msn={msn + 1}"))
        await asyncio.sleep(0.1)
        await probe.call("DELETE", f"/rooms/{room}")
        async with asyncio.timeout(2):
            assert (await waiting).status in (404, 503)


async def test_the_part_hinted_at_comes_when_it_is_there(stage: Stage) -> None:
    for _ in range(6):
        media = await stage.now()
        hinted = await stage.viewer.call("GET", urljoin(stage.media, media.hint))
        assert hinted.status == 200 and len(hinted.body) > 500
        msn, part = media.next
        after = await stage.now(f"?_HLS_msn={msn}&_HLS_part={part}")
        assert f'URI="{media.hint}"' in after.text.partition("#EXT-X-PRELOAD-HINT")[0]
    number = int(first(r"(\d+)", media.hint))
    assert (await stage.viewer.call("GET", urljoin(stage.media, f"part-{number + 500}.m4s"))).status == 404


async def test_a_delta_update_is_the_playlist_without_its_older_segments(stage: Stage) -> None:
    await wait_until(lambda: long(stage, 10), 15)
    whole, delta = await stage.now(), await stage.now("?_HLS_skip=YES")
    skipped = int(delta["SKIP"].partition("=")[2])
    assert skipped >= 1
    shift = delta.sequence - whole.sequence
    assert whole.segments[skipped + shift :][: len(delta.segments)] == delta.segments[: len(whole.segments) - skipped - shift]
    kept = sum(float(d) for d in re.findall(r"#EXTINF:([\d.]+)", delta.text))
    assert kept >= 6 * int(whole["TARGETDURATION"]) - 1.1


async def test_renditions_report_each_other_and_begin_their_segments_together(stage: Stage) -> None:
    small = await playlist(stage.viewer, stage.small)
    assert re.search(r'URI="media.m3u8",LAST-MSN=\d+,LAST-PART=\d+', small["RENDITION-REPORT"])
    await wait_until(lambda: many(stage, 3), 8)
    source, small = await asyncio.gather(stage.now(), playlist(stage.viewer, stage.small))
    assert re.search(r'URI="small.m3u8",LAST-MSN=\d+', source["RENDITION-REPORT"])
    dates = [dict(zip(numbers(p), re.findall(r"DATE-TIME:(\S+)", p.text), strict=False)) for p in (source, small)]
    common = set(dates[0]) & set(dates[1])
    assert len(common) >= 2
    assert all(dates[0][n] == dates[1][n] for n in common)
    name = f"{max(common)}.m4s"
    big, little = await read(stage.viewer, source, [name]), await read(stage.viewer, small, [f"small-{name}"])
    assert big.times == pytest.approx(little.times)
    assert [code.sequence for code in big.codes] == [code.sequence for code in little.codes]
    assert (little.pictures[0].width, little.pictures[0].height) == (320, 180)


def numbers(media: Playlist) -> list[int]:
    return [int(first(r"(\d+)\.m4s", name)) for name in media.segments]


async def many(stage: Stage, count: int) -> bool:
    return len((await playlist(stage.viewer, stage.small)).segments) >= count


async def test_the_master_tells_the_truth_of_both(stage: Stage) -> None:
    text = (await stage.viewer.call("GET", f"/rooms/{stage.room}/ll/index.m3u8")).text
    lines = re.findall(r"#EXT-X-STREAM-INF:(.*)\n(\S+)", text)
    for said, url in lines:
        await wait_until(lambda: many(stage, 3), 8)
        media = await playlist(stage.viewer, url)
        init = (await stage.viewer.call("GET", urljoin(url, first(r'MAP:URI="(.*?)"', media.text)))).body
        codec = first(r'CODECS="avc1\.(\w+),mp4a\.40\.2"', said)
        at = init.index(b"avcC")
        assert init[at + 5 : at + 8].hex() == codec
        durations = [float(d) for d in re.findall(r"#EXTINF:([\d.]+)", media.text)]
        rates = []
        for name, duration in list(zip(media.segments, durations, strict=True))[-3:]:
            body = (await stage.viewer.call("GET", urljoin(url, name))).body
            rates.append(8 * len(body) / duration)
        assert max(rates) <= int(first(r"BANDWIDTH=(\d+)", said)) * 1.02
        assert "FRAME-RATE=30.000" in said
        size = first(r"RESOLUTION=(\w+)", said)
        assert size == ("320x180" if "small" in url else "640x360")


async def test_the_small_one_is_made_only_while_somebody_wants_it(stage: Stage) -> None:
    async with user(stage.sandbox) as probe:
        room = await probe.room("c-test")
        async with on_air(probe, room):
            media, small = await variants(probe, room)
            assert "RENDITION-REPORT" not in (await playlist(probe, media)).text
            assert (await probe.call("GET", urljoin(small, "small-part-1.m4s"))).status == 404
            await playlist(probe, small)
            assert "RENDITION-REPORT" in (await playlist(probe, f"{media}?_HLS_skip=YES")).text
        await probe.call("DELETE", "/rooms?tag=c-test")


async def test_many_who_ask_at_once_are_one_to_the_origin(stage: Stage) -> None:
    trace = "1af7651916cd43dd8448eb211c80319c"
    msn, part = (await stage.now()).next
    url, headers = f"{stage.media}?_HLS_msn={msn}&_HLS_part={part}", {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    replies = await asyncio.gather(*(stage.viewer.call("GET", url, headers=headers) for _ in range(8)))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1
    assert sorted(reply.headers["X-Cache"] for reply in replies) == ["HIT"] * 7 + ["MISS"]
    again = await stage.viewer.call("GET", url + "&utm=1")
    assert again.headers["X-Cache"] == "HIT" and again.body == replies[0].body  # nothing else in a query makes it another
    assert len([span for span in await stage.sandbox.spans(trace) if span["service.name"] == "sandbox-origin"]) == 1


async def test_who_leaves_early_spoils_it_for_nobody(stage: Stage) -> None:
    msn, _ = (await stage.now()).next
    url = f"{stage.media}?_HLS_msn={msn + 1}"
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(stage.viewer.call("GET", url))
        await asyncio.sleep(0.05)
        second = tasks.create_task(stage.viewer.call("GET", url))
        await asyncio.sleep(0.05)
        first.cancel()
    assert second.result().status == 200


async def test_a_new_publisher_is_a_discontinuity_in_both_renditions(stage: Stage) -> None:
    async with user(stage.sandbox) as probe:
        room = await probe.room("d-test")
        found: list[Playlist] = []

        async def changed(url: str) -> bool:
            found.append(await playlist(probe, url))
            text = found[-1].text
            return "#EXT-X-DISCONTINUITY\n" in text and "#EXTINF" in text.partition("#EXT-X-DISCONTINUITY\n")[2]

        async with on_air(probe, room, delete=False):
            media, small = await variants(probe, room)
            await playlist(probe, small)
            async with on_air(probe, room, publish=1):
                for url in (media, small):
                    await wait_until(partial(changed, url), 8, url)
                    before, _, after = found[-1].text.partition("#EXT-X-DISCONTINUITY\n")
                    head = after.partition("#EXT-X-PRELOAD-HINT")[0]
                    seen = await read(probe, Playlist(url, head), [line for line in head.split() if line.endswith(".m4s")][:1])
                    assert {code.publish for code in seen.codes} == {1}
                    assert len(set(re.findall(r'MAP:URI="(.*?)"', found[-1].text))) == 2
                    assert "#EXTINF" in before
                common = set(numbers(found[-1])) & set(numbers(await playlist(probe, media)))
                assert common
        await probe.call("DELETE", "/rooms?tag=d-test")


class Nothing:
    """A platform as far as an idle room needs one."""

    clock = TestClock()

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: Any, **__: Any) -> None: ...


async def test_a_small_rendition_that_nobody_asks_for_any_more_is_stopped() -> None:
    live = Live("room", cast(Any, Nothing()))
    source = Window(cast(Any, Nothing()), live, "hls", live.timeline, 0, 0)
    live.windows["hls"] = source
    assert live.small("hls") is None  # nothing to make it of yet
    source._segments.append(Listed(number=0, name="0.m4s", unix_ns=0, init="init-0.mp4", discontinuity=False))
    window = live.small("hls")
    assert window is not None and window is live.small("hls")
    Nothing.clock.advance(SMALL_IDLE // 2)
    live._look_after_small()
    assert live.small_running("hls") is window
    Nothing.clock.advance(SMALL_IDLE + 1)
    live._look_after_small()
    assert live.small_running("hls") is None and window.closed
    await live.end()
