"""hls.js in Chromium plays what the sandbox serves: our server is not only judged by our own viewer."""

from __future__ import annotations

import asyncio
from typing import Any

from probe.sandbox.launch import Sandbox
from tests.peers import chromium, hlsjs
from tests.sandbox.clients import User, on_air, user
from tests.sandbox.ways import on_rtmp, variants
from tests.tools import wait_until

LEVELS = ((320, 180), (640, 360))  # hls.js sorts by bandwidth
BEHIND = 6.0  # seconds: as many segments as a list holds; it plays parts, which `parts` and `delta` say


async def plays(browser: chromium.Browser, viewer: User, room: str, level: int) -> None:
    """One rendition, at low latency, by its parts and its delta updates, with sound, without a fatal error."""
    last: dict[str, Any] = {}
    async with hlsjs.player(browser) as player:
        await player.watch(f"{viewer.sandbox.url}/rooms/{room}/ll/index.m3u8", viewer.token, level)

        async def enough() -> bool:
            last.update(await player.state())
            return last["frames"] > 150 and last["parts"] > 10 and last["delta"] > 0

        try:
            await wait_until(enough, 25, "hls.js playing")
            before = last["frames"]
            await wait_until(lambda: goes_on(player, before + 30), 5, "more frames")
            assert last["fatal"] == []
            assert (last["levels"], (last["width"], last["height"])) == (2, LEVELS[level])
            # Where it began, it stays: it does not hurry, and the change to the level asked for may begin with a whole segment.
            assert 0 < last["latency"] < BEHIND and 0 < last["behind"] < BEHIND
            assert last["time"] > 3 and last["audio"] > 1000
        except AssertionError as error:
            error.add_note(f"hls.js said {last}")
            raise


async def goes_on(player: hlsjs.Player, frames: int) -> bool:
    return bool((await player.state())["frames"] > frames)


async def test_hls_js_plays_what_came_by_whip_and_a_small_one_of_what_came_by_rtmp() -> None:
    async with Sandbox.start() as sandbox, user(sandbox) as probe, user(sandbox, "viewer") as viewer:
        rooms = [await probe.room(), await probe.room()]
        async with on_air(probe, rooms[0]), on_rtmp(probe, rooms[1]), chromium.running() as browser:
            for room in rooms:
                await variants(viewer, room)
            await asyncio.gather(plays(browser, viewer, rooms[0], 1), plays(browser, viewer, rooms[1], 0))
