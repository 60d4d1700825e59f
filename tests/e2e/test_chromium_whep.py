"""A real browser watches the sandbox by WHEP, from a page on another origin: the code in its pixels is this run's, and fresh."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from probe.clock import SystemClock
from probe.drivers.whip import WhipPublisher
from probe.model.frames import FrameCode, Reading
from probe.net.client import Credential, origin_of
from probe.sandbox.launch import Sandbox
from probe.wire.finder import Finder
from tests.drivers.rtc_session import RUN, TRACE, publisher, session
from tests.peers import chromium
from tests.sandbox.clients import user

PAGE = """<!doctype html><title>a viewer</title><video muted autoplay playsinline></video><script>
async function watch(url, token) {
    const peer = window.peer = new RTCPeerConnection(), video = document.querySelector("video");
    const stream = new MediaStream();
    peer.ontrack = ({track}) => { stream.addTrack(track); video.srcObject = stream; };
    for (const kind of ["video", "audio"]) peer.addTransceiver(kind, {direction: "recvonly"});
    await peer.setLocalDescription();
    if (peer.iceGatheringState !== "complete")
        await new Promise(r => peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && r());
    const answer = await fetch(url, {
        method: "POST",
        headers: {"Content-Type": "application/sdp", "Authorization": `Bearer ${token}`},
        body: peer.localDescription.sdp,
    });
    if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
    window.leave = () => fetch(new URL(answer.headers.get("Location"), url),
        {method: "DELETE", headers: {"Authorization": `Bearer ${token}`}}).then(gone => gone.status);
    await peer.setRemoteDescription({type: "answer", sdp: await answer.text()});
}
// The next picture shown: its size and its luma, in base64.
async function picture() {
    const video = document.querySelector("video");
    await new Promise(r => video.requestVideoFrameCallback(r));
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight), context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const {data, width, height} = context.getImageData(0, 0, canvas.width, canvas.height);
    let luma = "";
    for (let n = 0; n < data.length; n += 4)
        luma += String.fromCharCode(Math.round(0.2126 * data[n] + 0.7152 * data[n + 1] + 0.0722 * data[n + 2]));
    return {width, height, luma: btoa(luma)};
}
</script>"""


@asynccontextmanager
async def page_server() -> AsyncIterator[str]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield "http://{}:{}/".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


def code_in(picture: dict[str, Any], finder: Finder) -> FrameCode:
    plane = np.frombuffer(base64.b64decode(picture["luma"]), np.uint8).reshape(picture["height"], picture["width"])
    reading, code = finder.find(plane)
    assert reading is Reading.CODE and code is not None, f"{reading} in {picture['width']}x{picture['height']}"
    return code


@pytest.mark.timing
async def test_a_browser_shows_this_broadcast_and_now() -> None:
    clock, finder = SystemClock(), Finder()
    async with (
        Sandbox.start() as sandbox,
        user(sandbox) as broadcaster,
        user(sandbox, "viewer") as viewer,
        page_server() as url,
        session(sandbox.url) as io,
        chromium.running() as browser,
        browser.page(url) as page,
    ):
        room = await broadcaster.room()
        credential = Credential(broadcaster.token, frozenset({origin_of(sandbox.url)}))
        async with WhipPublisher().open(publisher(f"{sandbox.url}/rooms/{room}/whip", credential), io):
            await io.acknowledged()
            whep = f"{sandbox.url}/rooms/{room}/whep"
            with pytest.raises(chromium.PageError, match="401"):
                await page.evaluate(f"watch('{whep}', 'nonsense')")
            await page.evaluate(f"watch('{whep}', '{viewer.token}')")
            await page.until("document.querySelector('video').videoWidth > 0")
            codes, ages = [], []
            for _ in range(5):
                codes.append(code_in(await page.evaluate("picture()"), finder))
                ages.append(clock.wall().unix_ns / 1e9 - codes[-1].stamp_ms / 1000)
            assert {(code.run, code.trace, code.publish) for code in codes} == {(RUN, TRACE, 3)}
            assert [code.sequence for code in codes] == sorted({code.sequence for code in codes}), "the picture stands"
            assert all(-0.05 < age < 2 for age in ages), ages
            kinds = {one["role"] for one in (await sandbox.state())["sessions"]}
            assert kinds == {"publisher", "viewer"}
            assert await page.evaluate("leave()") == 200
            assert [one["role"] for one in (await sandbox.state())["sessions"]] == ["publisher"]
