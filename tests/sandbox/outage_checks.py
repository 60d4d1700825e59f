"""What an outage of a service, an edge or a region looks like from outside, and the weaknesses that show after one. `stage` is
a room on air by WHIP."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from probe.rtc import Link
from tests.sandbox.clients import Reply, watching
from tests.tools import wait_until

CLOSED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


async def where(stage, region: str) -> str:
    return str((await stage.viewer.call("GET", f"/edges?region={region}")).json["edge"])


async def health(stage, edge: str) -> int:
    """The status of its health page, 0 where it closes without an answer."""
    try:
        return (await stage.viewer.call("GET", f"{stage.sandbox.edges[edge]}/healthz")).status
    except CLOSED:
        return 0


async def media(stage, region: str) -> str:
    """The address of the media playlist that a viewer of that region is given."""
    master = await stage.viewer.call("GET", f"/rooms/{stage.room}/hls/index.m3u8?region={region}")
    assert master.status == 200
    return next(line for line in master.text.split() if line.startswith("http"))


async def rejoin(stage, room: str) -> Reply:
    return await stage.viewer.call("GET", f"/rooms/{room}/live.flv")


async def down(stage) -> None:
    async with stage.probe.socket(stage.room) as socket:
        await stage.plant("down", service="chat")
        assert (await socket.receive(timeout=2)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    with pytest.raises(aiohttp.ClientError):
        async with stage.probe.socket(stage.room):
            pass
    assert (await stage.probe.call("GET", "/rooms")).status == 200


async def edge_down(stage) -> None:
    assert (await where(stage, "eu"), await health(stage, "edge-a")) == ("edge-a", 200)
    await stage.plant("edge_down", edge="edge-a")
    assert (await health(stage, "edge-a"), await health(stage, "edge-b")) == (0, 200)

    async def steered() -> bool:
        return await where(stage, "eu") == "edge-b"

    assert not await steered()
    await wait_until(steered, 5)
    assert (await media(stage, "eu")).startswith(stage.sandbox.edges["edge-b"])
    assert await where(stage, "us") == "edge-b"
    await stage.sandbox.heal()
    assert (await where(stage, "eu"), await health(stage, "edge-a")) == ("edge-a", 200)


async def steering_stuck(stage) -> None:
    await stage.plant("steering_stuck")
    await stage.plant("edge_down", edge="edge-a")
    await asyncio.sleep(2.2)  # longer than steering takes
    assert await where(stage, "eu") == "edge-a"


async def region_isolated(stage) -> None:
    async with watching(stage.viewer, stage.room, "?region=eu") as inside, watching(stage.viewer, stage.room) as outside:
        await wait_until(lambda: inside.ours and outside.ours)
        await stage.plant("region_isolated", region="eu")
        with pytest.raises(CLOSED):
            await where(stage, "eu")
        with pytest.raises(CLOSED):
            await stage.viewer.call("GET", f"/rooms/{stage.room}/ll/index.m3u8?region=eu")
        assert await where(stage, "us") == "edge-b"
        assert (await health(stage, "edge-a"), await health(stage, "edge-b")) == (0, 200)
        before, seen = len(inside.ours), len(outside.ours)
        await wait_until(lambda: len(outside.ours) > seen + 10)
        assert len(inside.ours) - before < 5  # what was under way
        await stage.sandbox.heal()
        before = len(inside.ours)
        await wait_until(lambda: len(inside.ours) > before)


async def region_moved(stage) -> None:
    own = await media(stage, "eu")
    assert own.startswith(stage.sandbox.edges["edge-a"])
    async with watching(stage.viewer, stage.room, "?region=eu") as inside, watching(stage.viewer, stage.room) as outside:
        await wait_until(lambda: inside.ours and outside.ours)
        await stage.plant("region_moved", region="eu")
        await wait_until(lambda: Link.ENDED in inside.links)
        assert Link.ENDED not in outside.links
    redirect = await stage.viewer.call("GET", own)
    assert redirect.status == 307
    assert (await stage.viewer.call("GET", redirect.headers["Location"])).headers["X-Edge"] == "edge-b"
    assert await health(stage, "edge-a") == 200
    moved = await media(stage, "eu")
    assert moved.startswith(stage.sandbox.edges["edge-b"])
    assert (await stage.viewer.call("GET", moved)).status == 200
    await stage.sandbox.heal()
    assert (await stage.viewer.call("GET", own)).status == 200


async def stale_after_down(stage) -> None:
    own = await media(stage, "eu")
    await stage.plant("stale_after_down", edge="edge-a")
    had = (await stage.viewer.call("GET", own)).body

    async def goes_on() -> bool:
        return (await stage.viewer.call("GET", own)).body != had

    await wait_until(goes_on)  # not yet: it has not been down
    fault = await stage.sandbox.plant("edge_down", edge="edge-a")
    assert await health(stage, "edge-a") == 0
    await stage.sandbox.heal(fault)
    had = (await stage.viewer.call("GET", own)).body
    await asyncio.sleep(1.6)
    assert not await goes_on()


async def rejoin_refused(stage) -> None:
    async with watching(stage.viewer, stage.room, "?region=us") as seen:
        await wait_until(lambda: seen.ours)
        await stage.plant("rejoin_refused")
        await stage.plant("region_moved", region="us")
        await wait_until(lambda: Link.ENDED in seen.links)
    assert (await rejoin(stage, stage.room)).status == 403
    other = await stage.probe.room()
    assert (await rejoin(stage, other)).status == 404  # nothing is on air there, which is another matter


async def tokens_revoked(stage) -> None:
    canary = (await stage.probe.call("POST", "/auth/canary")).json["token"]
    check = {"Authorization": f"Bearer {canary}"}
    assert (await stage.probe.call("GET", "/auth/canary", headers=check)).status == 200
    assert (await stage.probe.call("GET", "/rooms", headers=check)).status == 403  # it opens nothing
    room = await stage.probe.room()  # of its own: sessions end
    async with stage.probe.socket(room) as socket:
        await stage.plant("tokens_revoked")
        await socket.receive(timeout=2)
        assert socket.closed
    for path, headers in (("/auth/canary", check), ("/rooms", None)):
        reply = await stage.probe.call("GET", path, headers=headers)
        assert (reply.status, reply.json["error"]) == (401, "token_expired")
    old = stage.probe.token
    await stage.probe.login()
    assert (await stage.probe.call("GET", "/rooms")).status == 200
    await stage.sandbox.heal()
    assert (await stage.probe.call("GET", "/rooms", headers={"Authorization": f"Bearer {old}"})).status == 200


async def not_back(stage) -> None:
    await stage.plant("not_back", service="payment")
    assert (await stage.probe.call("GET", "/payments")).status == 200  # it has not been restarted since


async def sham(stage) -> None:
    await stage.plant("sham")
    await stage.plant("refuse", service="room", by="a-drill")
    await stage.plant("media_none")
    listed = (await stage.sandbox.state())["faults"]
    assert [(fault["name"], fault["hits"]) for fault in listed[1:]] == [("refuse", 0), ("media_none", 0)]
    assert (await stage.probe.call("GET", "/rooms")).status == 200


async def brief(stage) -> None:
    await stage.plant("brief", seconds=0.3)
    await stage.plant("refuse", service="room", **{"for": 60})

    async def over() -> bool:
        return (await stage.probe.call("GET", "/rooms")).status == 200

    assert not await over()
    await wait_until(over, 2)


EARLY = (down, edge_down, steering_stuck, region_isolated, region_moved, stale_after_down, rejoin_refused, not_back, sham, brief)
LATE = (tokens_revoked,)  # the room's own publisher goes with everybody
