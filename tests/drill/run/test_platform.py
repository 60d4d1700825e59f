"""Drills against the embedded platform, as a user runs them: with its traffic, its watchdog, its files and its signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from probe.cli.serve import environment
from probe.clock import SystemClock
from probe.drill.conduct import Asked, conduct
from probe.drill.core.facts import Did, FaultDid, Verdict
from probe.drill.core.policy import Own
from probe.drill.load import load_whole
from probe.drill.policy_file import load_policy
from probe.media.decoder import warm_up
from probe.model.clock import NS
from probe.model.observation import Resumed, RunBegan, Window
from probe.net.redact import Redactor
from probe.run.health import Bounds
from probe.sandbox.launch import Sandbox
from tests.tools import Child, spawn, wait_until

# What this machine's other work does to it is not what is tested.
PATIENT = Bounds(
    loop_lag=99, decode_backlog=99, run_delay=99, throttled=99, late=99, clock_step=99, pressure=99
)  # fmt: skip

ROOM = """
scenario: small-room
owner: media-sre
regions: [eu]
platform:
  url: "${env.PLATFORM_URL:-sandbox}"
  secrets:
    broadcaster_password: {env: BROADCASTER_PASSWORD, for: "${platform.url}"}
    viewer_password: {env: VIEWER_PASSWORD, for: "${platform.url}"}
deadlines: {reconnect: 20s, run: 40s, start: {whep: 20s, whip: 20s}}
journey:
  - login: {http: POST /auth/login, service: auth, json: {user: probe, password: "${secret.broadcaster_password}"},
            keep: {broadcaster_token: token}}
  - viewer-login: {http: POST /auth/login, service: auth, json: {user: viewer, password: "${secret.viewer_password}"},
                   keep: {viewer_token: token}}
  - room: {http: POST /rooms, as: broadcaster, json: {unlisted: true, synthetic: true, tag: "${run.tag}"}, keep: {room: id},
           undo: "DELETE /rooms?tag=${run.tag}"}
  - publish: {via: whip, url: "/rooms/${room}/whip", as: broadcaster, programme: 360p30, bitrate: 400kbps}
  - view: [{via: whep, as: viewer, count: 2}]
  - cut: {of: viewers, kind: flap, for: 1s}
finally:
  - end: {http: "DELETE /rooms/${room}", service: room, as: broadcaster}
"""
DRILL = """
drill: rehearsal
owner: media-sre
scenario: room
traffic: {{starts: {{every: 1s, most: 1}}}}
min_n: 1
steady: {{of: ["{steady}"], within: 40s}}
method:
  - it: {{fault: fake, for: {lasts}, with: {{file: "{file}", does: {does}, departs: "{departs}"}}}}
abort: [{{incident: true}}]
recovery:
  - {{reconnect: 95%, within: 20s}}
"""
POLICY = 'drill_policy: tests\nowner: me\nallow: [{targets: ["fake:*"]}]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "room.yaml").write_text(ROOM)
    (tmp_path / "policy.yaml").write_text(POLICY)
    return tmp_path


def write(folder: Path, *, steady: str = "attempts >= 1", lasts: str = "60s", does: str = "works", departs: str = "") -> Path:
    text = DRILL.format(steady=steady, lasts=lasts, does=does, departs=departs, file=folder / "fake.json")
    (folder / "drill.yaml").write_text(text)
    return folder / "drill.yaml"


def left(folder: Path) -> dict[str, Any]:
    """What of the fault is there, as anybody else sees it."""
    file = folder / "fake.json"
    return dict(json.loads(file.read_text())) if file.exists() else {}


async def test_the_audience_comes_back_and_rooms_go_on_when_the_publisher_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, redactor = SystemClock(), Redactor()
    await asyncio.to_thread(warm_up, clock)
    async with Sandbox.start() as sandbox:
        for name, value in environment(sandbox).items():
            monkeypatch.setenv(name, value)
        file = write(folder, steady="playing >= 100% and room_start >= 99%", lasts="2s", departs="publisher")
        asked = Asked(
            loaded=load_whole(file, env=os.environ), policy=load_policy(folder / "policy.yaml", env={}), own=Own(), clock=clock,
            redactor=redactor, state=folder / "state", out=folder / "out", bounds=PATIENT,
        )  # fmt: skip
        done = await conduct(asked)
        assert (await sandbox.state())["rooms"] in ([], {}, 0), "what the runs made is gone"
    assert done.ended.verdict is Verdict.PASS, done.ended.reason
    facts = {fact.did: fact.at for fact in done.facts if isinstance(fact, FaultDid)}
    observed = done.traffic.everything()
    stay = done.traffic.stays["eu"]
    away = [f for f in observed if isinstance(f, Window) and f.run == stay and not f.verified and f.at > facts[Did.INJECTED]]
    assert away, "nobody missed the publisher"
    returns = [f for f in observed if isinstance(f, Resumed) and f.kind == "drill"]
    assert len(returns) >= 2
    assert {one.step for one in returns} == {"it"}
    assert all(one.outage is not None and one.outage >= NS for one in returns if one.session in {w.session for w in away})
    began = [f.at for f in observed if isinstance(f, RunBegan) and f.run != stay]
    assert any(at > facts[Did.SEEN_INJECTED] for at in began), "no room began meanwhile, or after it"
    assert not any(isinstance(f, Resumed) and f.kind == "flap" for f in observed), "the journey's own cuts are left out"
    assert left(folder) == {}
    assert done.score is not None
    assert (done.cost.cpu_seconds > 0) and done.cost.memory_bytes > 0


@contextmanager
def running(folder: Path, **drill: str) -> Iterator[Child]:
    """`probe drill run`, up to the fault being in place."""
    file = write(folder, **drill)
    command: list[str | Path] = [sys.executable, "-m", "probe", "drill", "run", file]
    command += ["--policy", folder / "policy.yaml", "--state", folder / "state", "--out", folder / "out"]
    env = {"PLATFORM_URL": "sandbox"}
    with spawn(command, folder / "printed", env=env) as child:
        yield child


async def test_ctrl_c_puts_it_back_first_and_says_so(folder: Path) -> None:
    with running(folder) as child:
        await child.says("it: held", 40)
        assert left(folder)
        os.kill(child.pid, signal.SIGINT)
        assert await child.exit(30) == 128 + signal.SIGINT
        assert left(folder) == {}
        assert "rehearsal: aborted: interrupted" in child.text()
    ended = (folder / "out" / "drill.jsonl").read_text().splitlines()[-1]
    assert json.loads(ended)["verdict"] == "aborted"


async def test_a_second_signal_leaves_it_to_the_watchdog_and_says_so(folder: Path) -> None:
    with running(folder, does="sticks") as child:
        await child.says("it: held", 40)
        os.kill(child.pid, signal.SIGTERM)
        await child.says("it: restoring", 10)
        os.kill(child.pid, signal.SIGTERM)
        assert await child.exit(10) == 5
        assert "left to the watchdog" in child.text()
        await wait_until(lambda: not left(folder), 20, "the watchdog's undo")
