"""`edges: each`: a name that stands for several addresses, of which one is bad, and the verdict that names it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from probe.clock import SystemClock
from probe.drivers.base import SessionIO, Spec
from probe.drivers.table import table
from probe.errors import Failure
from probe.judge import Judgement, fold, judge
from probe.model.bounds import MOST_ADDRESSES as MOST
from probe.model.clock import NS, Wall
from probe.model.observation import HealthSample, RequestDone, Role, SessionBegan, SessionEnded
from probe.model.outcome import Done, Failed
from probe.model.stage import Phase
from probe.net.client import AddressPolicy, Client
from probe.plan import ViewSpec, ViewStep, WaitStep
from probe.run.edges import ANY, Pin, each
from tests.drivers.hls_origin import Origin
from tests.net.conftest import Names, names
from tests.run.test_engine import Platform, World, platform, view

__all__ = ["names", "platform"]

GOOD, BAD = "127.0.0.1", "127.0.0.2"
HLS = table().sessions[Role.VIEWER, "hls"]
WHEP = table().sessions[Role.VIEWER, "whep"]


@pytest.fixture
def world(platform: Platform, tmp_path: Path) -> World:
    return World(platform, tmp_path)


def here(request: web.Request) -> str:
    """The address a request came to."""
    assert request.transport is not None
    return str(request.transport.get_extra_info("sockname")[0])


@asynccontextmanager
async def two_addresses(names: Names) -> AsyncIterator[Origin]:
    """`cdn.test` stands for both addresses and serves the media; at the second every segment is answered 503. The master is
    `platform.test`'s."""

    async def unless_good(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=503) if here(request) == BAD else None

    origin = Origin(broken={"segment": unless_good})
    names.update({"cdn.test": [GOOD, BAD], "platform.test": [GOOD]})
    async with origin.running():
        app = web.Application()
        app.router.add_get("/{name}", origin._serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, BAD, origin.port).start()
            origin.media_url = f"http://cdn.test:{origin.port}/media.m3u8"
            yield origin
        finally:
            await runner.cleanup()


def judged(world: World) -> Judgement:
    """The verdict, however this machine was meanwhile: that a busy one makes it inconclusive is asked elsewhere."""
    return judge(fold([fact for fact in world.facts if not isinstance(fact, HealthSample)]), (), Wall(0, None))


async def watched(world: World, view: ViewSpec) -> Judgement:
    """The verdict on one look at every address."""
    tables = world.table()
    world.table = lambda: type(tables)({**tables.sessions, (Role.VIEWER, "hls"): HLS}, tables.steps)  # type: ignore[method-assign]
    step = ViewStep(name="view", views=(view,), phase=0)
    await world.engine(step, WaitStep(name="stay", duration=NS // 2), allow=("127.0.0.0/8",)).run()
    return judged(world)


async def test_the_verdict_names_the_one_bad_address_of_a_cdns_name(world: World, names: Names) -> None:
    async with two_addresses(names) as origin:
        url = f"http://platform.test:{origin.port}/master.m3u8"
        view = ViewSpec(protocol="hls", url=url, edges="each", verify="moving", start=4 * NS)
        judgement = await watched(world, view)
    began = {fact.session: fact.name for fact in world.all(SessionBegan)}
    assert list(began.values()) == [f"hls-1@{GOOD}", f"hls-2@{BAD}"]
    ended = {began[fact.session]: fact for fact in world.all(SessionEnded)}
    assert ended[f"hls-1@{GOOD}"].outcome == Done()
    failed = ended[f"hls-2@{BAD}"].outcome
    assert isinstance(failed, Failed) and failed.phase is Phase.SEGMENT
    assert {fact.facts["family"] for fact in ended.values()} == {"ipv4"}
    assert judgement.cause is not None and judgement.cause.fields["edge"] == BAD, judgement.cause
    assert BAD in judgement.cause.words
    for request in world.all(RequestDone):
        if request.session and request.purpose == "segment":
            assert f"@{request.edge}" in began[request.session] and "cdn.test" in request.url, "the pinned address is the edge"


async def test_an_address_that_refuses_is_named_as_well(world: World, names: Names) -> None:
    origin = Origin()
    async with origin.running():
        names["cdn.test"] = [GOOD, BAD]  # nobody listens at the second
        view = ViewSpec(
            protocol="hls", url=f"http://cdn.test:{origin.port}/media.m3u8", edges="each", verify="moving", start=4 * NS
        )
        judgement = await watched(world, view)
    outcomes = [fact.outcome for fact in world.all(SessionEnded)]
    assert sorted(outcome.kind for outcome in outcomes) == ["done", "failed"]
    assert judgement.cause is not None
    assert judgement.cause.fields["edge"] == BAD and judgement.cause.fields["phase"] == "connect"


async def test_where_no_request_tells_of_it_a_bad_address_is_named_all_the_same(world: World, names: Names) -> None:
    names["live.test"] = [GOOD, BAD]
    world.air.on = True
    opened = world.viewer.open

    def open_(spec: Spec, io: SessionIO) -> AbstractAsyncContextManager[None]:
        if spec.pin == BAD:
            raise Failure(Phase.CONNECT, "refused")
        return opened(spec, io)

    world.viewer.open = open_  # type: ignore[method-assign, assignment]
    await world.engine(view(url="rtmp://live.test/app", edges="each", verify="moving"), allow=("127.0.0.0/8",)).run()
    judgement = judged(world)
    assert judgement.cause is not None and judgement.cause.fields["edge"] == BAD, judgement.cause


@asynccontextmanager
async def a_client() -> AsyncIterator[Client]:
    made = Client(clock=SystemClock(), trace_id="0" * 32, new_span=lambda: "0" * 16, allow=AddressPolicy.of("127.0.0.0/8"))
    try:
        yield made
    finally:
        await made.close()


def hls(url: str) -> Spec:
    return Spec(role=Role.VIEWER, protocol="hls", url=url)


async def test_a_name_without_an_address_is_left_to_a_viewer_to_fail_at(names: Names) -> None:
    names["cdn.test"] = OSError(-2, "nobody")
    async with a_client() as client:
        assert await each(HLS, hls("http://cdn.test:80/x.m3u8"), client) == ([ANY], "")


async def test_no_more_than_sixteen_addresses_are_watched_and_that_is_said(names: Names) -> None:
    names["cdn.test"] = [f"127.0.1.{n}" for n in range(1, 40)]
    async with a_client() as client:
        pins, note = await each(WHEP, hls("http://cdn.test:9/whep"), client)
    assert [pin.ip for pin in pins] == [f"127.0.1.{n}" for n in range(1, MOST + 1)] and pins[0].host == "cdn.test"
    assert "more than 16" in note


async def test_the_first_look_asks_a_whep_address_nothing_and_an_endless_stream_for_its_beginning(names: Names) -> None:
    asked: list[str] = []

    async def endless(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"FLV" * 100)
            await asyncio.sleep(0.01)

    names["cdn.test"] = [GOOD]
    app = web.Application()
    app.router.add_get("/{name}", endless)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, GOOD, 0).start()
        url = f"http://cdn.test:{runner.addresses[0][1]}/live"
        async with a_client() as client, asyncio.timeout(2):
            assert (await each(WHEP, hls(url), client))[0] == [Pin(GOOD, "cdn.test")] and asked == []
            assert (await each(HLS, hls(url), client))[0] == [Pin(GOOD, "cdn.test")] and asked == ["/live"]
    finally:
        await runner.cleanup()


async def test_a_dash_manifest_leads_to_the_host_of_its_media(names: Names) -> None:
    manifest = b"""<?xml version="1.0"?>
    <MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" availabilityStartTime="2026-01-01T00:00:00Z">
    <Period id="1" start="PT0S"><BaseURL>http://cdn.test:81/live/</BaseURL><AdaptationSet mimeType="video/mp4">
    <SegmentTemplate media="$Number$.m4s" initialization="i.mp4" duration="2"/>
    <Representation id="v" codecs="avc1.42c01e" bandwidth="1"/></AdaptationSet></Period></MPD>"""

    async def live(request: web.Request) -> web.StreamResponse:
        return web.Response(body=manifest)

    names.update({"platform.test": [GOOD], "cdn.test": [GOOD, BAD]})
    origin = Origin(broken={"live": live})
    async with origin.running(), a_client() as client:
        dash = table().sessions[Role.VIEWER, "dash"]
        pins, _ = await each(dash, hls(f"http://platform.test:{origin.port}/live.mpd"), client)
    assert pins == [Pin(GOOD, "cdn.test"), Pin(BAD, "cdn.test")]


@pytest.mark.parametrize(
    "answer", [b"#EXTM3U", b"<MPD", b"<MPD/>", b"#EXTM3U\n#EXTINF:x,\nhttp://[", b"#EXTM3U\n" * 500_000, b"", b"\x1f\x8b\0"]
)
async def test_a_first_look_that_comes_to_nothing_takes_the_addresss_own_host(answer: bytes, names: Names) -> None:
    async def bad(request: web.Request) -> web.StreamResponse:
        return web.Response(body=answer)

    names["cdn.test"] = [GOOD]
    origin = Origin(broken={"master": bad})
    async with origin.running(), a_client() as client:
        pins, _ = await each(HLS, hls(f"http://cdn.test:{origin.port}/master.m3u8"), client)
    assert pins == [Pin(GOOD, "cdn.test")]
