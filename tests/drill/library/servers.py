"""The first drill of the library against servers that know nothing of us: a process is ended, a supervisor brings it back.

The file is the library's own but for two lines: which scenario its traffic runs, and what is broken."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import psutil

from probe.clock import SystemClock
from probe.drill.conduct import Asked, Conducted, conduct
from probe.drill.core.policy import Own
from probe.drill.load import load_whole
from probe.drill.policy_file import find_policy
from probe.net.redact import Redactor
from probe.run.health import Bounds
from probe.scenario.steps import Wait
from tests.drill.library.play import PATIENT, smaller
from tests.peers import nginx, node_media_server
from tests.tools import ROOT, Child, wait_until

DOWN = 2.0  # s until the supervisor starts it anew


def _server(child: Child) -> int:
    """The process id of what the supervisor runs."""
    return psutil.Process(child.pid).children()[0].pid


def _drill(folder: Path, scenario: str, pid: int, port: int) -> Path:
    text = (ROOT / "scenarios" / "drills" / "origin-restart.yaml").read_text()
    text = text.replace("scenario: drill-room", f"scenario: {ROOT}/scenarios/{scenario}")
    killed = f"""  - origin-killed:
      fault: process
      for: 5s
      with:
        do: stop
        target: {{pid: {pid}}}
        restored_by: {{supervisor: its supervisor starts it anew after {DOWN:g} s}}
        back: {{tcp: "127.0.0.1:{port}", settled: 500ms}}
"""
    text, count = re.subn(r"  - origin-killed: .*\n", killed, text)
    assert count == 1
    file = folder / f"{scenario}-origin-restart.yaml"
    file.write_text(text)
    return file


async def _played(
    out: Path, scenario: str, child: Child, port: int, env: Mapping[str, str], protocols: tuple[str, ...]
) -> Conducted:
    out.mkdir(parents=True, exist_ok=True)
    pid = await wait_until(lambda: _server(child))
    with patch.dict(os.environ, env):
        loaded = load_whole(_drill(out, scenario, pid, port))
        bounds: Bounds | None = None
        if protocols:
            loaded, bounds = smaller(loaded, protocols, tuple(loaded.scenario.regions)), PATIENT
            journey = tuple(step for step in loaded.scenario.journey if not isinstance(step, Wait))
            loaded = replace(loaded, scenario=loaded.scenario.model_copy(update={"journey": journey}))
        return await conduct(
            Asked(
                loaded=loaded,
                policy=find_policy(None, os.environ),
                own=Own(processes=frozenset({pid})),
                clock=SystemClock(),
                redactor=Redactor(),
                state=out / "state",
                out=out,
                bounds=bounds,
            )
        )


async def on_nginx(out: Path, protocols: tuple[str, ...] = ()) -> Conducted:
    """`protocols`: smaller, with viewers of these."""
    async with nginx.running(fragment=1, down=DOWN) as server:
        ports = {"NGINX_RTMP_PORT": str(server.rtmp_port), "NGINX_HTTP_PORT": str(server.http_port)}
        env = {"NGINX_HOST": "127.0.0.1", "NGINX_SETTLE": "4s", "NGINX_WATCH": "2s", **ports}
        return await _played(out, "nginx-rtmp", server.child, server.rtmp_port, env, protocols)


async def on_node_media_server(out: Path, protocols: tuple[str, ...] = ()) -> Conducted:
    async with node_media_server.running(down=DOWN) as server:
        env = {"NMS_HOST": "127.0.0.1", "NMS_RTMP_PORT": str(server.rtmp_port), "NMS_HTTP_PORT": str(server.http_port)}
        return await _played(out, "node-media-server", server.child, server.rtmp_port, env, protocols)
