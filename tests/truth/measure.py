"""Runs of the whole probe, and what it reports of viewers whose path we know: the truth is planted in link/, or in the kernel.

Viewers of both kinds watch the same stream at the same time. Those of link/ start first; then a step of the journey makes
the router impair whatever comes after it.
"""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.platform import Platform
from tests.truth.namespaces import Cable

HEAD = """scenario: truth
owner: tests
regions: [local]
platform:
  url: "${{env.PLATFORM_URL}}"
  allow: [{allow}]
  secrets:
    broadcaster_password: {{env: BROADCASTER_PASSWORD, for: "${{platform.url}}"}}
    viewer_password: {{env: VIEWER_PASSWORD, for: "${{platform.url}}"}}
deadlines: {{reconnect: 5s, run: 55s}}
journey:
  - login:
      http: POST /auth/login
      service: auth
      json: {{user: probe, password: "${{secret.broadcaster_password}}"}}
      keep: {{broadcaster_token: token}}
  - viewer-login:
      http: POST /auth/login
      service: auth
      json: {{user: viewer, password: "${{secret.viewer_password}}"}}
      keep: {{viewer_token: token}}
  - room:
      http: POST /rooms
      as: broadcaster
      json: {{unlisted: true, synthetic: true, tag: "${{run.tag}}"}}
      keep: {{room: id}}
      undo: "DELETE /rooms?tag=${{run.tag}}"
  - publish: {{via: whip, url: "/rooms/${{room}}/whip", as: broadcaster, bitrate: 800kbps}}
  - first: {{view: [{first}], phase: 100ms, optional: true}}
"""
PLANT = """  - plant: {{http: "POST {hook}", within: 5s}}
  - second: {{view: [{second}], phase: 100ms, optional: true}}
"""
TAIL = """  - stay: {{wait: {seconds}s}}
finally:
  - end: {{http: "DELETE /rooms/${{room}}", service: room, as: broadcaster, within: 5s}}
"""


@dataclass(frozen=True)
class Viewer:
    """One viewer of a run. `network`: of link/, in a scenario's words. `edge`: an HLS viewer's."""

    name: str
    via: str
    network: str = ""
    edge: str = ""
    kernel: bool = False

    def body(self, platform: Platform) -> str:
        words = [f"via: {self.via}", "as: viewer", f"device: {self.name}"]
        if self.via == "hls":
            words.append(f'url: "{platform.ready["edges"][self.edge]}/hls/${{room}}/media.m3u8"')
        return "{" + ", ".join(words) + "}"


@dataclass(frozen=True)
class Measured:
    """What the probe said of each viewer (of its verdict, and from its records), and what the kernel counted."""

    sessions: dict[str, dict[str, Any]]
    records: list[dict[str, Any]]
    counted: list[int]
    shaped: list[tuple[int, int, int]]

    def facts(self, name: str, what: str) -> dict[str, int]:
        """A fact such as `1200 packets, 60 nacks` as numbers by their names."""
        return {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", self.sessions[name].get("facts", {}).get(what, ""))}

    def sound_lost(self, name: str) -> float | None:
        """Share of RTP packets of sound that never came: nobody asks for those again, so this is the path's loss."""
        found = self.facts(name, "rtp sound")
        return found.get("lost", 0) / (found["packets"] + found.get("lost", 0)) if found else None

    def bytes_per_second(self, name: str) -> float | None:
        """Encoded bytes of picture that came, over the whole stay but its first two seconds."""
        windows = [r for r in self.records if r["kind"] == "Window" and r["session"] == self.sessions[name]["session_id"]][2:]
        return sum(w["bytes"] for w in windows) / (sum(w["took"] for w in windows) / 1e9) if windows else None

    def segment_rate(self, name: str) -> float | None:
        """bit/s of all segments' bytes over all segments' time, those of the first second left out."""
        mine = [r for r in self.records if r["kind"] == "RequestDone" and r["session"] == self.sessions[name]["session_id"]]
        segments = [r for r in mine if r["purpose"] == "segment" and r["status"] == 200][1:]
        return sum(r["size"] for r in segments) * 8e9 / sum(r["took"] for r in segments) if segments else None


@contextmanager
def behind(cable: Cable, directory: Path) -> Iterator[Platform]:
    """A sandbox at the far end of the cable."""
    command = [*cable.prefix(), sys.executable, "-m", "probe.sandbox", "--parent-pipe"]
    command += ["--host", cable.there, "--state", str(directory)]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        assert process.stdin is not None and process.stdout is not None
        try:
            yield Platform(json.loads(process.stdout.readline()), process.pid)
        finally:
            process.stdin.close()
            process.stdout.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def hook(host: str, do: Callable[[], None]) -> Iterator[str]:
    """An address at which a POST does `do`. What that raised is raised again at the end."""
    raised: list[BaseException] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                do()
            except BaseException as error:
                raised.append(error)
            self.send_response(500 if raised else 204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
    if raised:
        raise raised[0]


def measure(
    cable: Cable, platform: Platform, viewers: list[Viewer], plant: Callable[[int], None], seconds: float, out: Path
) -> Measured:
    """One run. `plant` is given the port of edge-b and called once the viewers of link/ have started."""
    out.mkdir(parents=True, exist_ok=True)
    cable.learn()
    port = int(platform.ready["edges"]["edge-b"].rpartition(":")[2])
    kernel = [v for v in viewers if v.kernel]
    with hook(cable.here, lambda: plant(port)) as address:
        text = HEAD.format(
            allow=f"{cable.there}/32, {cable.here}/32", first=", ".join(v.body(platform) for v in viewers if not v.kernel)
        )
        if kernel:
            text += PLANT.format(hook=address, second=", ".join(v.body(platform) for v in kernel))
        text += TAIL.format(seconds=seconds)
        text += "devices:\n" + "".join(f"  {v.name}: {{network: {{{v.network}}}}}\n" for v in viewers)
        file = out / "truth.yaml"
        file.write_text(text)
        ran = platform.smoke(file, out)
    assert ran.verdict, f"no verdict (exit {ran.exit}):\n{ran.stderr[-4000:]}"
    sessions = {s["device"]: s for run in ran.verdict["runs"] for s in run["sessions"]}
    records = [json.loads(line) for line in (out / "observations.jsonl").read_text().splitlines()]
    return Measured(sessions, records, cable.counted() if kernel else [], cable.shaped())
