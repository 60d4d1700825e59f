"""Chromium works here: it runs a page, takes pictures, reaches loopback by WebRTC, and its death is told."""

import asyncio
import socket
import time
from pathlib import Path

import av
import pytest
from aiohttp import web

from tests.peers import chromium

# A peer whose other side is said to be on a loopback port: the answer is a second peer's, its candidates left out.
REACH = """
(async port => {
    const here = window.here = new RTCPeerConnection(), there = window.there = new RTCPeerConnection();
    here.createDataChannel("x");
    await here.setLocalDescription();
    await there.setRemoteDescription(here.localDescription);
    const answer = await there.createAnswer();
    await here.setRemoteDescription(answer);
    await here.addIceCandidate({candidate: `candidate:1 1 udp 2130706431 127.0.0.1 ${port} typ host`, sdpMid: "0"});
})
"""


async def test_a_page_is_opened_asked_and_pictured(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<title>here</title><body style='background:#0f0'>hello", content_type="text/html")

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with chromium.running() as browser, browser.page(f"http://127.0.0.1:{port}/") as page:
            assert await page.evaluate("document.title") == "here"
            assert await page.evaluate("new Promise(r => requestAnimationFrame(() => r(document.visibilityState)))") == "visible"
            await page.size(390, 844, mobile=True)
            with av.open(await page.screenshot(tmp_path / "page.png")) as picture:
                frame = next(picture.decode(video=0))
            assert (frame.width, frame.height) == (390, 844)
            assert tuple(frame.to_ndarray(format="rgb24")[600, 200]) == (0, 255, 0)
            with pytest.raises(chromium.PageError, match="threw: Error: no"):
                await page.evaluate("(() => { throw new Error('no') })()")
    finally:
        await runner.cleanup()


async def test_questions_that_will_never_be_answered_end() -> None:
    async with chromium.running() as browser:
        async with browser.page() as page:
            with pytest.raises(chromium.PageError, match="not answered within"):
                await page.evaluate("new Promise(() => {})", 0.2)
            began = time.monotonic()
            with pytest.raises(chromium.PageError, match="crashed"):
                await page.crash()
            assert time.monotonic() - began < 5
        async with browser.page() as page:
            assert await page.evaluate("1 + 1") == 2


async def test_webrtc_reaches_a_port_on_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        async with chromium.running() as browser, browser.page() as page:
            await page.evaluate(f"{REACH}({server.getsockname()[1]})")
            async with asyncio.timeout(5):
                data = await asyncio.get_running_loop().sock_recv(server, 2048)
        assert data[:2] == b"\x00\x01", "not a STUN binding request"
        assert data[4:8] == b"\x21\x12\xa4\x42"
