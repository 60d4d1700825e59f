"""Where media is to be had is said by a server: in a list that is gone through, a redirect, a playlist, a manifest. Whatever it
says, nothing is asked in our own network, no file is read, and the step ends with a reason."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest
from aiohttp import web

from probe.model.observation import SessionEnded
from probe.model.outcome import Failed
from tests.hostile.engine import Run, run
from tests.net.servers import serving

VIAS = ("whep", "rtmp", "srt", "hls", "ll-hls", "http-flv", "ws-flv", "http-ts", "dash")
PRIVATE = "127.0.0.2"
ODD = (
    "file:///etc/passwd",
    "gopher://a/b",
    "http://[::1",
    "//10.0.0.1/x",
    "rtmp://x:99999/a/b",
    "srt://:/",
    "http://user:pw@10.0.0.1:80/x",
    "rtmp://a b/c",
    "x" * 9000,
)


async def watched(items: object, tmp_path: Path, *vias: str, url: str = "${item}", more: str = "") -> Run:
    """A run that watches what a server lists, each item over each of `vias`."""

    async def rooms(_: web.Request) -> web.Response:
        return web.Response(text=json.dumps({"rooms": items}), content_type="application/json")

    views = ", ".join(f"{{via: {via}, over: rooms, at_most: 20, url: '{url}', verify: moving, start: 1s{more}}}" for via in vias)
    journey = "  - list: {http: GET /rooms, service: room, keep: {rooms: rooms}}\n"
    journey += f"  - view: {{phase: 0s, view: [{views}]}}\n"
    async with serving({"/rooms": rooms}) as server:
        return await run(journey, server, tmp_path)


async def test_addresses_in_our_network_are_refused_over_every_protocol(tmp_path: Path) -> None:
    """A listener and a datagram socket stand there: nobody comes."""
    came: list[object] = []
    server = await asyncio.start_server(lambda r, w: came.append(w), PRIVATE, 0)
    port = server.sockets[0].getsockname()[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind((PRIVATE, port))
        datagrams.setblocking(False)
        async with server:
            at = f"{PRIVATE}:{port}/a/b"
            ran = await watched([f"http://{at}"], tmp_path, *(via for via in VIAS if via not in ("rtmp", "srt")))
            ended = ran.ended() + (await watched([f"rtmp://{at}"], tmp_path, "rtmp")).ended()
            ended += (await watched([f"srt://{at}"], tmp_path, "srt")).ended()
            assert [end.split("/")[1] for end in ended] == ["address_refused"] * len(VIAS)
        with pytest.raises(BlockingIOError):
            datagrams.recv(1)
    assert came == []


@pytest.mark.parametrize("via", VIAS)
async def test_what_is_no_address_of_the_protocol_ends_in_a_reason(via: str, tmp_path: Path) -> None:
    schemes = [f"{scheme}://{PRIVATE}:9/a/b" for scheme in ("http", "https", "ws", "rtmp", "rtmps", "srt", "turn")]
    ran = await watched([*ODD, *schemes], tmp_path, via)
    ended = [fact.outcome for fact in ran.facts if isinstance(fact, SessionEnded)]
    assert len(ended) == len(ODD) + len(schemes)
    assert [outcome for outcome in ended if not isinstance(outcome, Failed) or "Error" in outcome.detail] == []


@pytest.mark.parametrize("item", ["../../admin", "a/../../x", "a\r\nX-Evil: 1", "\u009b31m", "\ud800", "", ".."], ids=repr)
async def test_an_item_is_a_piece_of_an_address_and_nothing_else(item: str, tmp_path: Path) -> None:
    for vias, url in ((("hls", "dash", "ws-flv"), "/live/${item}/x"), (("rtmp",), "rtmp://127.0.0.1:9/live/${item}")):
        ran = await watched([item], tmp_path, *vias, url=url)
        assert ran.failed("view") == "room/unexpected" and len(ran.requests()) == 1


async def test_a_stream_id_from_a_list_is_bounded(tmp_path: Path) -> None:
    ran = await watched(["x" * 5000], tmp_path, "srt", url="srt://127.0.0.1:9", more=", streamid: 'read:${item}'")
    outcome = ran.outcome("view")
    assert "stream id of more than 512 bytes" in repr(outcome)


@pytest.mark.parametrize(
    "where", ["file:///etc/passwd", f"http://{PRIVATE}:9/", "//192.168.0.1/x", "rtmp://127.0.0.1/a/b", "/again"]
)
@pytest.mark.parametrize("via", ["http-flv", "ws-flv", "http-ts", "dash", "ll-hls"])
async def test_redirects_of_media_lead_nowhere_else(via: str, where: str, tmp_path: Path) -> None:
    async def again(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": where})

    async with serving({"/again": again}) as url:
        ran = await run(f"  - get: {{view: {{via: {via}, url: /again, start: 500ms, verify: moving}}}}\n", url, tmp_path)
    assert ran.failed("get").split("/")[1] in (
        "address_refused",
        "redirect_refused",
        "redirect_loop",
        "too_many_redirects",
        "malformed",
    )


@pytest.mark.parametrize(
    "spoil",
    [
        f"<BaseURL>http://{PRIVATE}:9/</BaseURL>",
        "<BaseURL>file:///etc/</BaseURL>",
        "<BaseURL>//169.254.169.254/</BaseURL>",
        '<!DOCTYPE MPD [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
    ],
)
async def test_a_manifest_that_points_into_our_network_gets_nothing(spoil: str, tmp_path: Path) -> None:
    asked: list[str] = []
    body = (
        '<MPD type="dynamic" availabilityStartTime="2024-01-01T00:00:00Z" minimumUpdatePeriod="PT1S"><Period><AdaptationSet '
        'mimeType="video/mp4"><SegmentTemplate media="$Number$.m4s" initialization="i.mp4" duration="1"/>'
        '<Representation id="a" codecs="avc1.42e01e"/></AdaptationSet></Period></MPD>'
    )
    text = spoil + body if spoil.startswith("<!") else body.replace("<Period>", spoil + "<Period>")

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return (
            web.Response(text=text, content_type="application/dash+xml") if request.path == "/x.mpd" else web.Response(status=404)
        )

    async with serving({"/{path:.*}": answer}) as url:
        ran = await run("  - get: {view: {via: dash, url: /x.mpd, start: 1500ms, verify: moving}}\n", url, tmp_path)
    assert ran.failed("get").split("/")[1] in ("address_refused", "malformed"), ran.outcome("get")
    assert "/passwd" not in " ".join(asked)
