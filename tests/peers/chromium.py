"""Headless Chromium over its own debugging protocol, by aiohttp alone: pages opened, asked, and looked at.

Each page has a browser context of its own, since tabs of one window go hidden and stop their frame callbacks. An answer
that a crashed renderer will never give is failed at once. Flags: loopback candidates without mDNS names, so that WebRTC
finds a server on this machine; nothing that looks for Google's hosts.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.tools import Child, requires, spawn, wait_until

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--metrics-recording-only",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns,MediaRouter,OptimizationHints,Translate",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)


class PageError(AssertionError):
    """The page threw, crashed, or did not answer in time."""


@dataclass
class Page:
    """One page in a context of its own."""

    browser: Browser
    session: str
    console: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    """Its last console lines and uncaught exceptions."""
    crashed: bool = False

    async def open(self, url: str, deadline: float = 15.0) -> None:
        """Go to `url` and wait until it is loaded. PageError where it cannot be had."""
        answer = await self._call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise PageError(f"{url}: {answer['errorText']}")
        await wait_until(lambda: self.evaluate("document.readyState === 'complete'"), deadline, f"the loading of {url}")

    async def evaluate(self, expression: str, deadline: float = 10.0) -> Any:
        """The value of a JavaScript expression as JSON carries it; a promise is awaited. PageError when it throws."""
        answer = await self._call(
            "Runtime.evaluate", deadline, expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            said = details.get("exception", {}).get("description") or details.get("text")
            raise PageError(f"the page threw: {said}; console: {list(self.console)[-5:]}")
        return answer["result"].get("value")

    async def until(self, expression: str, deadline: float = 10.0) -> Any:
        """Wait until a JavaScript expression is truthy; returns its value."""
        try:
            return await wait_until(lambda: self.evaluate(expression), deadline, expression)
        except AssertionError as error:
            error.add_note(f"console: {list(self.console)[-10:]}")
            raise

    async def size(self, width: int, height: int, *, scale: float = 1.0, mobile: bool = False) -> None:
        """Make the viewport `width` × `height` CSS pixels."""
        await self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile)

    async def scheme(self, name: str) -> None:
        """Prefer `light` or `dark`."""
        await self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    async def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """A PNG of the viewport, or of the `whole` page."""
        answer = await self._call("Page.captureScreenshot", 30.0, format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    async def crash(self) -> None:
        """Kill the renderer. Raises the PageError that everything asked of the page raises from then on."""
        await self._call("Page.crash")

    async def _call(self, method: str, deadline: float = 10.0, **parameters: Any) -> dict[str, Any]:
        if self.crashed:
            raise PageError("the renderer crashed")
        return await self.browser.call(method, deadline, session=self.session, **parameters)


class Browser:
    """A running browser. `call` speaks the protocol; most tests need `page` alone."""

    def __init__(self, child: Child, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.child = child
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[str, asyncio.Future[dict[str, Any]]]] = {}
        self._pages: dict[str, Page] = {}

    @contextlib.asynccontextmanager
    async def page(self, url: str = "about:blank") -> AsyncIterator[Page]:
        """A page at `url`, focused and visible, in a context of its own; both gone afterwards."""
        context = (await self.call("Target.createBrowserContext", disposeOnDetach=True))["browserContextId"]
        try:
            target = (await self.call("Target.createTarget", url="about:blank", browserContextId=context))["targetId"]
            session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
            page = self._pages[session] = Page(self, session)
            for domain in ("Page", "Runtime", "Inspector"):
                await self.call(f"{domain}.enable", session=session)
            await self.call("Emulation.setFocusEmulationEnabled", session=session, enabled=True)
            if url != "about:blank":
                await page.open(url)
            yield page
        finally:
            with contextlib.suppress(PageError):
                await self.call("Target.disposeBrowserContext", browserContextId=context)

    async def call(self, method: str, deadline: float = 10.0, *, session: str = "", **parameters: Any) -> dict[str, Any]:
        """One command and its answer. PageError when it is refused, or not answered within `deadline` seconds."""
        number = next(self._ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (session, answer)
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        try:
            async with asyncio.timeout(deadline):
                await self._socket.send_json(message)
                return await answer
        except TimeoutError:
            raise PageError(f"{method} was not answered within {deadline} s") from None
        except ConnectionError as error:
            raise PageError(f"{method}: the browser is gone") from error
        finally:
            del self._waiting[number]

    async def listen(self) -> None:
        """Hand answers to their callers until the browser closes the socket."""
        try:
            async for message in self._socket:
                self._receive(json.loads(message.data))
        finally:
            self._fail(None, "the browser is gone")

    def _receive(self, message: dict[str, Any]) -> None:
        if "id" in message:
            _, answer = self._waiting.get(message["id"], ("", None))
            if answer is not None and not answer.done():
                if "error" in message:
                    answer.set_exception(PageError(str(message["error"].get("message"))))
                else:
                    answer.set_result(message["result"])
            return
        session, parameters = message.get("sessionId", ""), message.get("params", {})
        page = self._pages.get(session)
        if page is None:
            return
        match message["method"]:
            case "Runtime.consoleAPICalled":
                words = [str(a.get("value", a.get("description", ""))) for a in parameters["args"]]
                page.console.append(f"{parameters['type']}: {' '.join(words)}"[:2000])
            case "Runtime.exceptionThrown":
                page.console.append(
                    f"uncaught: {parameters['exceptionDetails'].get('exception', {}).get('description', '')}"[:2000]
                )
            case "Inspector.targetCrashed":
                page.crashed = True
                self._fail(session, "the renderer crashed")

    def _fail(self, session: str | None, why: str) -> None:
        for of, answer in self._waiting.values():
            if session in (None, of) and not answer.done():
                answer.set_exception(PageError(why))


@contextlib.asynccontextmanager
async def running(*flags: str) -> AsyncIterator[Browser]:
    """A browser with an empty profile; `flags` are added to FLAGS."""
    command = requires("chromium", "chromium-headless-shell", "google-chrome")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        home = {"HOME": name, "XDG_CONFIG_HOME": name, "XDG_CACHE_HOME": name}
        with spawn([command, *FLAGS, *flags, f"--user-data-dir={folder}/profile"], folder / "chromium.log", env=home) as child:
            address = folder / "profile" / "DevToolsActivePort"

            def listening() -> list[str]:
                assert child.running(), child.text()
                lines = address.read_text().split("\n") if address.exists() else []
                return lines if len(lines) == 2 else []

            port, path = await wait_until(listening, 20, "Chromium's debugging port")
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=64 * 1024 * 1024) as socket,
            ):
                browser = Browser(child, socket)
                # Not a TaskGroup: a fixture is entered in one task and left in another.
                listener = asyncio.get_running_loop().create_task(browser.listen())
                try:
                    yield browser
                finally:
                    listener.cancel()
                    await asyncio.wait([listener])
                    child.stop(grace=0.05)  # its profile is thrown away: nothing to save
