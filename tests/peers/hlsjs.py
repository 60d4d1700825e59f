"""A page that plays one HLS address with hls.js, a player that knows nothing of us, and says how it goes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from tests.peers.chromium import Browser, Page
from tests.peers.nodejs import MODULES
from tests.tools import missing

SCRIPT = MODULES / "hls.js" / "dist" / "hls.min.js"

PAGE = """<!doctype html><title>hls.js</title><video id=v muted playsinline></video><script src=/hls.js></script><script>
const video = document.getElementById("v");
const said = {fatal: [], errors: {}, levels: 0, switched: [], parts: 0, fragments: 0, delta: 0, waiting: 0};
video.addEventListener("waiting", () => { if (video.currentTime > 0) said.waiting++; });
let hls;
function watch(url, token, level) {
  hls = new Hls({lowLatencyMode: true, startLevel: level, xhrSetup: (xhr, to) => {
    if (to === url) xhr.setRequestHeader("Authorization", "Bearer " + token);
  }});
  hls.on(Hls.Events.ERROR, (_, data) => {
    said.errors[data.details] = (said.errors[data.details] || 0) + 1;
    if (data.fatal) said.fatal.push(data.details);
  });
  hls.on(Hls.Events.MANIFEST_PARSED, (_, data) => { said.levels = data.levels.length; if (level >= 0) hls.loadLevel = level; });
  hls.on(Hls.Events.LEVEL_SWITCHED, (_, data) => said.switched.push(data.level));
  hls.on(Hls.Events.FRAG_LOADED, (_, data) => data.part ? said.parts++ : said.fragments++);
  hls.on(Hls.Events.LEVEL_LOADED, (_, data) => { if (data.details.skippedSegments) said.delta++; });
  hls.loadSource(url);
  hls.attachMedia(video);
  video.play();
}
function state() {
  const quality = video.getVideoPlaybackQuality();
  return {...said, time: video.currentTime, frames: quality.totalVideoFrames, dropped: quality.droppedVideoFrames,
    width: video.videoWidth, height: video.videoHeight, latency: hls ? hls.latency : 0, target: hls ? hls.targetLatency : 0,
    behind: hls && hls.playingDate ? (Date.now() - hls.playingDate.getTime()) / 1000 : null,
    audio: video.webkitAudioDecodedByteCount};
}
</script>"""


class Player:
    """One page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def watch(self, url: str, token: str, level: int = -1) -> None:
        await self.page.evaluate(f"watch({url!r}, {token!r}, {level})")

    async def state(self) -> dict[str, Any]:
        """What it has done so far: seconds played, frames, latency by the player's own count, behind the wall clock by
        program-date-time, its errors by name, the fatal ones."""
        answer: dict[str, Any] = await self.page.evaluate("state()")
        return answer


@contextlib.asynccontextmanager
async def player(browser: Browser) -> AsyncIterator[Player]:
    """A page with hls.js in it, from a server of its own."""
    if not SCRIPT.exists():
        missing("hls.js is not installed: make peers")
    application = web.Application()

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def script(_: web.Request) -> web.Response:
        return web.Response(body=SCRIPT.read_bytes(), content_type="text/javascript")

    application.router.add_get("/", page)
    application.router.add_get("/hls.js", script)
    runner = web.AppRunner(application, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with browser.page(f"http://127.0.0.1:{runner.addresses[0][1]}/") as one:
            yield Player(one)
    finally:
        await runner.cleanup()
