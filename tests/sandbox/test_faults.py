"""Every fault of the table has an effect that shows from outside, and healing takes it away."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import aiohttp
import pytest
import pytest_asyncio

from probe.errors import Failure
from probe.media.demux import Demuxer
from probe.model.frames import Reading
from probe.rtc.peer import Link, new_peer
from probe.sandbox.faults import TABLE
from probe.sandbox.launch import Sandbox, SandboxError
from tests.sandbox import fault_checks, outage_checks
from tests.sandbox.clients import RUN, SDP, Reply, User, offer, on_air, user, watching
from tests.tools import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Stage:
    """A sandbox with a room on air, its owner and a viewer."""

    sandbox: Sandbox
    probe: User
    viewer: User
    room: str

    async def plant(self, fault: str, **params: Any) -> None:
        await self.sandbox.plant(fault, **params)

    async def post(self, path: str, **body: Any) -> Reply:
        return await self.probe.call("POST", path, json=body)

    async def count(self, path: str) -> int:
        return int((await self.probe.call("GET", path)).json["count"])

    async def coins(self, ref: str) -> Reply:
        return await self.post("/payments/coins", amount=5, currency="TEST", ref=ref)

    async def gift(self, ref: str) -> Reply:
        return await self.post(f"/rooms/{self.room}/gifts", kind="rose", ref=ref)

    async def answer(self, of: str = "whep") -> Reply:
        """What an offer is answered."""
        peer = new_peer(loopback=True)
        try:
            sdp = await offer(peer, lambda kind, unit: None)
            return await self.probe.call("POST", f"/rooms/{self.room}/{of}", data=sdp, headers=SDP)
        finally:
            await peer.close()

    async def comes_up(self, within: float) -> bool:
        """Does a viewer's transport come up?"""
        try:
            async with asyncio.timeout(within), watching(self.viewer, self.room):
                return True
        except (AssertionError, TimeoutError):
            return False

    async def playlist(self) -> Reply:
        """The media playlist as the edge serves it now."""
        replies: list[Reply] = []

        async def master() -> bool:
            replies.append(await self.viewer.call("GET", f"/rooms/{self.room}/hls/index.m3u8"))
            return replies[-1].status == 200

        await wait_until(master, 8)
        self.media, self.small = (line for line in replies[-1].text.split() if line.startswith("http"))
        return await self.viewer.call("GET", self.media)

    async def segment(self) -> tuple[bytes, Reply]:
        """An initialization section and a segment, as the edge serves them now."""
        names = (await self.playlist()).text
        init = re.search(r'MAP:URI="(.+?)"', names)
        assert init
        section = await self.viewer.call("GET", urljoin(self.media, init[1]))
        return section.body, await self.viewer.call("GET", urljoin(self.media, names.split()[-1]))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Stage]:
    async with Sandbox.start() as sandbox, user(sandbox) as probe, user(sandbox, "viewer") as viewer:
        room = await probe.room()
        stage = Stage(sandbox, probe, viewer, room)
        async with on_air(probe, room):
            await stage.playlist()
            yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def stage(running: Stage) -> AsyncIterator[Stage]:
    """Logged in anew, connections of its own, nothing planted."""
    async with user(running.sandbox) as probe, user(running.sandbox, "viewer") as viewer:
        yield Stage(running.sandbox, probe, viewer, running.room)
        await running.sandbox.heal()


async def delay(stage: Stage) -> None:
    await stage.plant("delay", service="auth", seconds=0.5)
    began = time.monotonic()
    await stage.probe.login()
    assert time.monotonic() - began >= 0.5


async def hang(stage: Stage) -> None:
    await stage.plant("hang", service="payment")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await stage.coins("hang")


async def refuse(stage: Stage) -> None:
    await stage.plant("refuse", service="gift", status=500, body="html")
    await stage.plant("refuse", service="auth", status=401)
    reply = await stage.gift("refuse")
    assert (reply.status, reply.headers["Content-Type"].split(";")[0]) == (500, "text/html")
    reply = await stage.probe.call("POST", "/auth/login", json={})
    assert reply.status == 401
    assert "WWW-Authenticate" in reply.headers


async def redirect(stage: Stage) -> None:
    await stage.plant("redirect", service="room")
    reply = await stage.probe.call("GET", "/rooms")
    assert reply.status == 307
    assert reply.headers["Location"] == stage.sandbox.url.replace("127.0.0.1", "localhost") + "/rooms"
    assert (await stage.probe.call("GET", reply.headers["Location"])).status == 401  # there, and without a token
    await stage.sandbox.heal()
    await stage.plant("redirect", service="room", to="http://elsewhere.example/")
    reply = await stage.probe.call("GET", "/rooms?tag=x")
    assert reply.headers["Location"] == "http://elsewhere.example/rooms?tag=x"


async def endless(stage: Stage) -> None:
    await stage.plant("endless", service="room")
    async with stage.probe.http.get(f"{stage.sandbox.url}/rooms") as response:
        assert response.content_length == 10 * 1024**3
        assert len(await response.content.readexactly(5_000_000)) == 5_000_000
        response.close()
    url = (await stage.playlist(), stage.media)[1]
    await stage.plant("endless", service="hls", what="playlist")
    async with stage.probe.http.get(url) as response:
        assert response.content_length == 10 * 1024**3
        response.close()


async def expired_token(stage: Stage) -> None:
    await stage.plant("expired_token", times=1)
    await stage.probe.login()
    reply = await stage.probe.call("GET", "/rooms")
    assert (reply.status, reply.json["error"]) == (401, "token_expired")


async def payment_twice(stage: Stage) -> None:
    await stage.plant("payment_twice")
    assert (await stage.coins("twice")).status == 201
    assert await stage.count("/payments?ref=twice") == 2


async def payment_lost(stage: Stage) -> None:
    await stage.plant("payment_lost")
    assert (await stage.coins("lost")).status == 201
    assert await stage.count("/payments?ref=lost") == 0


async def gift_twice(stage: Stage) -> None:
    await stage.coins("gift_twice")
    await stage.plant("gift_twice")
    assert (await stage.gift("twice")).status == 201
    assert await stage.count(f"/rooms/{stage.room}/gifts?ref=twice") == 2


async def gift_lost(stage: Stage) -> None:
    await stage.coins("gift_lost")
    await stage.plant("gift_lost")
    assert (await stage.gift("lost")).status == 201
    assert await stage.count(f"/rooms/{stage.room}/gifts?ref=lost") == 0


async def gift_unseen(stage: Stage) -> None:
    await stage.coins("gift_unseen")
    await stage.plant("gift_unseen")
    async with stage.probe.socket(stage.room) as socket:
        assert (await stage.gift("unseen")).status == 201
        await socket.send_str("what comes next is not the gift")
        assert (await socket.receive_json(timeout=2))["type"] == "chat"
    assert await stage.count(f"/rooms/{stage.room}/gifts?ref=unseen") == 1


async def chat_lost(stage: Stage) -> None:
    await stage.plant("chat_lost", times=1)
    async with stage.probe.socket(stage.room) as socket:
        await socket.send_str("lost")
        await socket.send_str("not lost")
        assert (await socket.receive_json(timeout=2))["text"] == "not lost"


async def flag_ignored(stage: Stage) -> None:
    await stage.plant("flag_ignored", times=1)
    ignored, acted = [(await stage.post(f"/rooms/{stage.room}/flags", reason="r", ref=ref)).json["flag"] for ref in "ab"]

    async def state(flag: str) -> str:
        return str((await stage.probe.call("GET", f"/rooms/{stage.room}/flags/{flag}")).json["state"])

    async def done() -> bool:
        return await state(acted) == "acted"

    await wait_until(done, 2)
    assert await state(ignored) == "open"


async def sdp_html(stage: Stage) -> None:
    await stage.plant("sdp_html")
    reply = await stage.answer()
    assert (reply.status, reply.headers["Content-Type"].split(";")[0]) == (201, "text/html")


async def sdp_garbage(stage: Stage) -> None:
    await stage.plant("sdp_garbage")
    reply = await stage.answer()
    assert reply.status == 201
    assert b"m=" not in reply.body


async def sdp_no_video(stage: Stage) -> None:
    await stage.plant("sdp_no_video")
    text = (await stage.answer()).text
    assert "m=audio" in text
    assert "m=video" not in text
    assert re.search(r"a=group:BUNDLE \d\r\n", text)


async def sdp_high_only(stage: Stage) -> None:
    await stage.plant("sdp_high_only")
    assert set(re.findall(r"profile-level-id=(\w+)", (await stage.answer()).text)) == {"640c1f"}


async def no_candidates(stage: Stage) -> None:
    await stage.plant("no_candidates")
    assert "a=candidate" not in (await stage.answer()).text
    assert not await stage.comes_up(1.0)


async def black_hole(stage: Stage) -> None:
    healthy = re.findall(r"a=candidate:.*? (\S+ \d+) typ", (await stage.answer()).text)
    await stage.plant("black_hole")
    assert len(set(re.findall(r"a=candidate:.*? (\S+ \d+) typ", (await stage.answer()).text))) == 1
    assert healthy
    assert not await stage.comes_up(1.0)


async def wrong_fingerprint(stage: Stage) -> None:
    await stage.plant("wrong_fingerprint")
    assert not await stage.comes_up(3.0)


async def private_location(stage: Stage) -> None:
    await stage.plant("private_location")
    assert (await stage.answer()).headers["Location"].startswith("http://169.254.169.254/")


async def media_none(stage: Stage) -> None:
    await stage.plant("media_none", of="whep")
    async with watching(stage.viewer, stage.room) as seen:
        await asyncio.sleep(0.5)
        assert seen.units == {"video": 0, "audio": 0}
        await stage.sandbox.heal()
        await wait_until(lambda: seen.ours)


async def media_no_keyframe(stage: Stage) -> None:
    await stage.plant("media_no_keyframe", of="whep")
    async with watching(stage.viewer, stage.room) as seen:
        await wait_until(lambda: seen.units["audio"] > 60)
        assert not seen.pictures
        await stage.sandbox.heal()
        await wait_until(lambda: seen.ours)


async def media_black(stage: Stage) -> None:
    await stage.plant("media_black", of="whep")
    async with watching(stage.viewer, stage.room) as seen:
        await wait_until(lambda: len(seen.pictures) > 10)
        assert all(picture.black and picture.reading is Reading.NONE for picture in seen.pictures)
        assert (seen.pictures[0].width, seen.pictures[0].height) == (640, 360)
        await stage.sandbox.heal()
        await wait_until(lambda: seen.ours)


async def media_frozen(stage: Stage) -> None:
    await stage.plant("media_frozen", of="whep", after=0.5)
    async with watching(stage.viewer, stage.room) as seen:

        def still() -> bool:
            return len(seen.ours) > 15 and len({picture.code for picture in seen.ours[-10:]}) == 1

        await wait_until(still)
        assert len({picture.code for picture in seen.ours[:5]}) == 5
        await stage.sandbox.heal()
        await wait_until(lambda: not still())


async def media_foreign(stage: Stage) -> None:
    await stage.plant("media_foreign", of="whep")
    async with watching(stage.viewer, stage.room) as seen:
        await wait_until(lambda: len(seen.pictures) > 10)
        assert all(picture.code and picture.code.run != RUN for picture in seen.pictures)
        assert len({picture.code for picture in seen.pictures}) > 5
        await stage.sandbox.heal()
        await wait_until(lambda: seen.ours)


async def media_stale(stage: Stage) -> None:
    await stage.plant("media_stale", of="whep", seconds=1.5)
    async with watching(stage.viewer, stage.room) as seen:
        await wait_until(lambda: len(seen.ours) > 10)
        ages = [time.time() * 1000 - picture.code.stamp_ms for picture in seen.ours[-1:] if picture.code]
        assert ages[0] > 1400
        await stage.sandbox.heal()
        before = len(seen.ours)
        await wait_until(lambda: len(seen.ours) > before + 10)
        ages = [time.time() * 1000 - picture.code.stamp_ms for picture in seen.ours[-1:] if picture.code]
        assert ages[0] < 1000


async def media_garbage(stage: Stage) -> None:
    await stage.plant("media_garbage", of="whep")
    async with watching(stage.viewer, stage.room) as seen:
        await wait_until(lambda: len(seen.undecodable) > 3)
        assert not seen.ours
        await stage.sandbox.heal()
        await wait_until(lambda: seen.ours)


async def media_stalls(stage: Stage) -> None:
    await stage.plant("media_stalls", of="whep", after=0.5, times=1)
    async with watching(stage.viewer, stage.room) as seen:
        await wait_until(lambda: len(seen.ours) > 5)
        await asyncio.sleep(0.7)
        before = dict(seen.units)
        await asyncio.sleep(0.3)
        assert seen.units == before
        assert Link.ENDED not in seen.links
        async with watching(stage.viewer, stage.room) as other:  # `times` counts sessions
            await wait_until(lambda: len(other.ours) > 30)


async def media_ends(stage: Stage) -> None:
    await stage.plant("media_ends", of="whep", after=0.5)
    async with watching(stage.viewer, stage.room) as seen:
        await wait_until(lambda: seen.ours)
        await wait_until(lambda: Link.ENDED in seen.links)
        assert (await stage.viewer.call("DELETE", seen.location)).status == 404


async def playlist_stale(stage: Stage) -> None:
    await stage.plant("playlist_stale")
    first = await stage.playlist()
    url = stage.media
    await asyncio.sleep(1.6)
    assert (await stage.viewer.call("GET", url)).body == first.body
    await stage.sandbox.heal()
    assert (await stage.viewer.call("GET", url)).body != first.body


async def playlist_html(stage: Stage) -> None:
    await stage.plant("playlist_html")
    reply = await stage.playlist()
    assert (reply.status, reply.body[:9]) == (200, b"<!doctype")


async def playlist_huge(stage: Stage) -> None:
    await stage.plant("playlist_huge")
    assert (await stage.playlist()).body.count(b"\n") > 1_000_000


async def playlist_private(stage: Stage) -> None:
    await stage.plant("playlist_private")
    assert (await stage.playlist()).text.split()[-1].startswith("http://169.254.169.254/")


async def edge_refuses(stage: Stage) -> None:
    await stage.plant("edge_refuses", edge="edge-b", status=503)
    replies = [await stage.playlist() for _ in range(2)]
    assert {(reply.headers["X-Edge"], reply.status) for reply in replies} == {("edge-a", 200), ("edge-b", 503)}


async def segment_slow(stage: Stage) -> None:
    await stage.plant("segment_slow", seconds=0.6)
    began = time.monotonic()
    section, reply = await stage.segment()
    assert time.monotonic() - began > 0.5
    assert Demuxer().feed(section, reply.body)


async def segment_truncated(stage: Stage) -> None:
    healthy = await stage.segment()
    await stage.plant("segment_truncated", times=1)
    section, reply = await stage.segment()
    assert reply.status == 200
    try:
        assert len(Demuxer().feed(section, reply.body)) < len(Demuxer().feed(*with_body(healthy)))
    except Failure:
        pass
    await stage.plant("segment_truncated", cut=True)
    with pytest.raises(aiohttp.ClientPayloadError):
        await stage.segment()


def with_body(fetched: tuple[bytes, Reply]) -> tuple[bytes, bytes]:
    return fetched[0], fetched[1].body


async def segment_garbage(stage: Stage) -> None:
    await stage.plant("segment_garbage")
    section, reply = await stage.segment()
    assert reply.status == 200
    with pytest.raises(Failure):
        Demuxer().feed(section, reply.body)


async def segment_missing(stage: Stage) -> None:
    await stage.plant("segment_missing")
    _, reply = await stage.segment()
    assert (reply.status, reply.headers["X-Edge"][:5]) == (404, "edge-")


CHECKS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    check.__name__: check
    for check in (
        *(delay, hang, refuse, redirect, endless, expired_token, payment_twice, payment_lost, gift_twice, gift_lost),
        *(gift_unseen, chat_lost, flag_ignored, sdp_html, sdp_garbage, sdp_no_video, sdp_high_only, no_candidates),
        *(black_hole, private_location, media_none, media_no_keyframe, media_black, media_frozen),
        *(media_foreign, media_stale, media_garbage, media_stalls, media_ends, playlist_stale, playlist_html),
        *(playlist_huge, playlist_private, edge_refuses, segment_slow, segment_truncated, segment_garbage),
        segment_missing,
        *fault_checks.CHECKS,
        *outage_checks.EARLY,
        wrong_fingerprint,  # last: to the server that session is up until consent runs out
        *outage_checks.LATE,
    )
}


@pytest.mark.parametrize("fault", CHECKS)
async def test_its_effect_shows_from_outside(stage: Stage, fault: str) -> None:
    await CHECKS[fault](stage)


async def test_every_fault_of_the_table_is_checked() -> None:
    assert set(CHECKS) | {"killed"} == set(TABLE)


async def test_the_killed_process_comes_back() -> None:
    async with Sandbox.start() as sandbox, user(sandbox) as probe:
        old = (await sandbox.state())["server_pid"]
        await sandbox.plant("killed", down=0.2, after=0.2)

        async def another() -> bool:
            try:
                return bool((await sandbox.state())["server_pid"] != old)
            except SandboxError:
                return False

        await wait_until(another, 10)
        assert (await probe.call("GET", "/rooms")).status == 200


async def test_a_service_that_does_not_come_back_from_a_restart_refuses_ever_after() -> None:
    async with Sandbox.start() as sandbox, user(sandbox) as probe:
        await sandbox.plant("not_back", service="payment")
        await sandbox.plant("rejoin_refused")
        room = await probe.room()
        old = (await sandbox.state())["server_pid"]
        await sandbox.restart(0)

        async def another() -> bool:
            try:
                return bool((await sandbox.state())["server_pid"] != old)
            except SandboxError:
                return False

        await wait_until(another, 10)
        assert [(await probe.call("GET", path)).status for path in ("/payments", "/rooms")] == [503, 200]
        assert (await probe.call("GET", f"/rooms/{room}/live.flv")).status == 404  # first of all, nothing is on air there


async def test_who_planted_a_fault_heals_its_own_and_no_others(stage: Stage) -> None:
    await stage.plant("refuse", service="room", by="sp-1")
    await stage.plant("refuse", service="payment", by="sp-2")
    assert (await stage.sandbox.admin("DELETE", "/admin/faults?by=sp-1"))["healed"] == 1
    assert (await stage.sandbox.admin("DELETE", "/admin/faults?by=sp-1"))["healed"] == 0
    assert (await stage.probe.call("GET", "/rooms")).status == 200
    assert (await stage.probe.call("GET", "/payments")).status == 503


async def test_what_could_be_planted_is_told_without_planting_it(stage: Stage) -> None:
    assert await stage.sandbox.admin("POST", "/admin/faults?check", {"fault": "edge_down", "edge": "edge-a"}) == {}
    with pytest.raises(SandboxError, match="edge-c"):
        await stage.sandbox.admin("POST", "/admin/faults?check", {"fault": "edge_down", "edge": "edge-c"})
    assert (await stage.sandbox.state())["faults"] == []


async def test_a_fault_ends_by_itself(stage: Stage) -> None:
    await stage.plant("refuse", service="room", times=2)
    statuses = [(await stage.probe.call("GET", "/rooms")).status for _ in range(3)]
    assert statuses == [503, 503, 200]
    await stage.plant("refuse", service="room", **{"for": 0.3})

    async def over() -> bool:
        return (await stage.probe.call("GET", "/rooms")).status == 200

    assert not await over()
    await wait_until(over, 2)
    assert (await stage.sandbox.state())["faults"] == []


async def test_a_fault_of_one_room_leaves_the_others_alone(stage: Stage) -> None:
    other = await stage.probe.room()
    await stage.plant("refuse", service="room", room=other)
    assert (await stage.probe.call("GET", f"/rooms/{other}")).status == 503
    assert (await stage.probe.call("GET", f"/rooms/{stage.room}")).status == 200


async def test_one_fault_is_healed_by_its_id(stage: Stage) -> None:
    first = await stage.sandbox.plant("refuse", service="room")
    await stage.sandbox.plant("refuse", service="payment")
    await stage.sandbox.heal(first)
    assert (await stage.probe.call("GET", "/rooms")).status == 200
    assert (await stage.probe.call("GET", "/payments")).status == 503


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"fault": "no-such-fault"},
        {"fault": "delay"},
        {"fault": "delay", "service": "auth", "seconds": "long"},
        {"fault": "delay", "service": "weather", "seconds": 1},
        {"fault": "delay", "service": "auth", "seconds": 1, "colour": "red"},
        {"fault": "gift_twice", "times": 0},
        {"fault": "redirect", "service": "auth", "to": "elsewhere"},
        {"fault": "refuse", "service": "auth", "status": True},
    ],
)
async def test_a_fault_that_is_not_in_the_table_is_refused(stage: Stage, body: dict[str, Any]) -> None:
    with pytest.raises(SandboxError, match="400"):
        await stage.sandbox.admin("POST", "/admin/faults", body)
    assert (await stage.sandbox.state())["faults"] == []


async def test_the_table_explains_itself(stage: Stage) -> None:
    table = (await stage.sandbox.admin("GET", "/admin/faults"))["table"]
    assert set(table) == set(TABLE)
    assert all(row["about"] for row in table.values())
