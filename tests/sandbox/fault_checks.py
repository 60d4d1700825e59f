"""What each fault of the newer ways in and out looks like from outside. `stage` is a room on air by WHIP."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from functools import partial
from urllib.parse import urljoin

from probe.errors import Failure
from probe.model.stage import Phase
from tests.sandbox.clients import Watching, watching
from tests.sandbox.ways import Playlist, Rtmp, Seen, codes, flv, on_rtmp, playlist, read, rtmp, variants
from tests.tools import wait_until


async def rtmp_refuses(stage) -> None:
    room = await stage.probe.room()
    for at, phase in (("connect", Phase.SIGNAL), ("publish", Phase.JOIN)):
        await stage.plant("rtmp_refuses", at=at, times=1)
        async with rtmp(stage.probe, f"{room}?token={stage.probe.token}") as one, asyncio.timeout(3):
            await one.ended.wait()
        assert one.refusal is not None and one.refusal.phase is phase, at


async def rtmp_hangs(stage) -> None:
    room = await stage.probe.room()
    for at, phase in (("handshake", Phase.HANDSHAKE), ("connect", Phase.SIGNAL), ("publish", Phase.JOIN)):
        await stage.plant("rtmp_hangs", at=at, times=1)
        async with rtmp(stage.probe, f"{room}?token={stage.probe.token}") as one:
            await wait_until(partial(reached, one, phase), 3, at)
            await asyncio.sleep(0.3)
            assert one.client.phase is phase and not one.joined.is_set() and not one.ended.is_set()


def reached(one: Rtmp, phase: Phase) -> bool:
    return one.client.phase is phase


async def rtmp_ends(stage) -> None:
    room = await stage.probe.room()
    await stage.plant("rtmp_ends", seconds=0.5, room=room)
    async with on_rtmp(stage.probe, room) as one:
        assert not one.ended.is_set()
        async with asyncio.timeout(3):
            await one.ended.wait()


async def media_broken(stage) -> None:
    for how in ("grey", "torn"):  # a torn one is known for broken by whom the whole one was shown before
        await stage.plant("media_broken", of="whep", how=how, after=0 if how == "grey" else 1)
        async with watching(stage.viewer, stage.room) as seen:
            await wait_until(partial(judged, seen, [False] * 10), 5, how)
            assert (how == "torn") is any(picture.intact for picture in seen.ours)
            sequences = [code.sequence for code in codes(seen.ours[-10:])]
            assert sequences == sorted(set(sequences))
            await stage.sandbox.heal()
            await wait_until(partial(judged, seen, [True]))


def judged(seen: Watching, last: list[bool]) -> bool:
    """Were the last pictures judged so?"""
    return [picture.intact for picture in seen.ours[-len(last) :]] == last


@contextlib.asynccontextmanager
async def by_flv(stage, fault: str, **params: str) -> AsyncIterator[Seen]:
    await stage.plant(fault, of="http-flv", **params)
    async with flv(stage.viewer, stage.room) as seen:
        yield seen


async def media_silent(stage) -> None:
    async with by_flv(stage, "media_silent") as seen:
        await wait_until(lambda: len(seen.ours) > 30)
        assert {packet.kind for packet in seen.packets} == {"video"}
        await stage.sandbox.heal()
        await wait_until(lambda: seen.chirps)


async def media_noise(stage) -> None:
    async with by_flv(stage, "media_noise") as seen:
        await wait_until(lambda: len([p for p in seen.packets if p.kind == "audio"]) > 100, 8)
        assert not seen.chirps
        assert len(seen.ours) > 30
        await stage.sandbox.heal()
        await wait_until(lambda: seen.chirps)


async def flv_garbage(stage) -> None:
    for at in ("header", "tag"):
        await stage.plant("flv_garbage", at=at)
        failures: list[BaseException] = []
        try:
            async with flv(stage.viewer, stage.room):
                await asyncio.sleep(3)
        except* Failure as group:
            failures += group.exceptions
        assert failures, at
        await stage.sandbox.heal()


async def low_latency(stage) -> tuple[Playlist, str]:
    """The source's media playlist, and the small one's address."""
    media, small = await variants(stage.viewer, stage.room)
    return await playlist(stage.viewer, media), small


async def part_missing(stage) -> None:
    media, _ = await low_latency(stage)
    await stage.plant("part_missing")
    name = list(media.parts().values())[-1][0]
    assert (await stage.viewer.call("GET", urljoin(media.url, name))).status == 404
    assert (await stage.viewer.call("GET", urljoin(media.url, media.segments[-1]))).status == 200
    await stage.sandbox.heal()
    assert (await stage.viewer.call("GET", urljoin(media.url, name))).status == 200


async def part_hangs(stage) -> None:
    media, _ = await low_latency(stage)
    await stage.plant("part_hangs", times=1)
    name = list(media.parts().values())[-1][0]
    try:
        async with asyncio.timeout(0.5):
            await stage.viewer.call("GET", urljoin(media.url, name))
        raise AssertionError("it was answered")
    except TimeoutError:
        assert (await stage.viewer.call("GET", urljoin(media.url, name))).status == 200


async def hint_never_comes(stage) -> None:
    await stage.plant("hint_never_comes")
    media, _ = await low_latency(stage)
    assert media.hint.startswith("never-")
    assert (await stage.viewer.call("GET", urljoin(media.url, media.hint))).status == 404
    await stage.sandbox.heal()
    media, _ = await low_latency(stage)
    assert (await stage.viewer.call("GET", urljoin(media.url, media.hint))).status == 200


async def delta_lies(stage) -> None:
    media, _ = await low_latency(stage)

    async def long() -> bool:
        return len((await playlist(stage.viewer, media.url)).segments) >= 9

    await wait_until(long, 12)
    msn = media.next[0]
    truth = await playlist(stage.viewer, f"{media.url}?_HLS_msn={msn}&_HLS_skip=YES")
    await stage.plant("delta_lies")
    lie = await playlist(stage.viewer, f"{media.url}?_HLS_msn={msn}&_HLS_skip=YES")
    assert int(lie["SKIP"].partition("=")[2]) == int(truth["SKIP"].partition("=")[2]) + 3


async def rendition_missing(stage) -> None:
    for folder in ("hls", "ll"):
        media, small = await variants(stage.viewer, stage.room, folder)
        await stage.plant("rendition_missing")
        assert (await stage.viewer.call("GET", small)).status == 404
        assert (await stage.viewer.call("GET", media)).status == 200
        await stage.sandbox.heal()
        assert (await stage.viewer.call("GET", small)).status == 200


async def rendition_half_rate(stage) -> None:
    await stage.plant("rendition_half_rate")
    _, small = await low_latency(stage)

    async def rate() -> float:
        media = await playlist(stage.viewer, small)
        seen = await read(stage.viewer, media, media.segments[-1:])
        return len(seen.ours) / float(re.findall(r"#EXTINF:([\d.]+)", media.text)[-1])

    async def halved() -> bool:
        return 13 < await rate() < 17

    async def whole() -> bool:
        return await rate() > 28

    await wait_until(halved, 6)
    await stage.sandbox.heal()
    await wait_until(whole, 6)


CHECKS = (
    *(rtmp_refuses, rtmp_hangs, rtmp_ends, media_broken, media_silent, media_noise, flv_garbage, part_missing, part_hangs),
    *(hint_never_comes, delta_lies, rendition_missing, rendition_half_rate),
)
