"""`python -m tests.chain.show`: the chain with nothing in it made up, and its times.

A real agent runs a broadcast on the sandbox every few seconds; Prometheus scrapes it each second, with the rules that `probe
rules` makes of the fleet (windows as they ship, evaluated each second); Alertmanager pages whoever `probe oncall` says. Faults
are planted in the sandbox and healed; the agent and Prometheus are ended. It takes five minutes, and eleven more with --silence:
that is how long a region must be silent to page. A machine under load taints runs, and they count for nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.agent.agents import address, agent_process
from tests.faults.platform import Platform
from tests.peers import alertmanager as peer
from tests.peers import prometheus
from tests.tools import ROOT, wait_until

EVERY = 4  # s
SCENARIO = (
    (ROOT / "tests" / "agent" / "short.yaml")
    .read_text()
    .replace("scenario: short", "scenario: room-start")
    .replace("owner: tests", "owner: media-sre", 1)
    .replace("regions: [local]", "regions: [eu]")
    .partition("finally:")[0]
    + """\
  - payment:
      http: POST /payments/coins
      as: viewer
      json: {amount: 10, currency: TEST, ref: "${run.id}"}
      expect: {status: [200, 201]}
      within: 2s
finally:
  - end: {http: "DELETE /rooms/${room}", service: room, as: broadcaster, within: 2s}
objectives:
  - {name: start, indicator: room_start, target: 95%, window: 30d, action: "drain the ingest, or roll back the last release"}
  - {name: payment, indicator: payment, target: 80%, window: 30d, owner: payments, action: "prompt the alternate method"}
"""
)
AGENT = f"""\
agent: eu-1
region: eu
listen: "127.0.0.1:0"
state: state
workers: {{count: 1}}
schedules:
  room-start: {{scenario: room-start.yaml, every: {EVERY}s, run_on_start: true}}
"""
FLEET = """\
fleet: show
owner: media-sre
oncall: oncall.yaml
agents: {eu-1: {region: eu, config: agent.yaml}}
sla: {P1: 5m, P2: 4h}
"""
ONCALL = """\
oncall: show
receivers:
  media-asia: {webhook: {url: "PAGER/media-asia"}}
  media-europe: {webhook: {url: "PAGER/media-europe"}}
  media-america: {webhook: {url: "PAGER/media-america"}}
  money: {webhook: {url: "PAGER/money"}}
  phone: {webhook: {url: "PAGER/phone"}}
  outside: {webhook: {url: "PAGER/outside"}}
fallback: phone
watchdog: {call: outside, every: 2s}
escalation:
  P1: {within: 5m, wait: 1s}
  P2: {within: 4h, wait: 1s}
queues:
  media:
    owners: [media-sre]
    shifts:
      - {shift: apac, from: "08:00", tz: Asia/Tokyo, call: media-asia}
      - {shift: eu, from: "08:00", tz: Europe/Berlin, call: media-europe}
      - {shift: us, from: "10:00", tz: America/New_York, call: media-america}
  money: {owners: [payments], shifts: [{shift: always, tz: Europe/Berlin, call: money}]}
"""


class Show:
    """What happened when, in seconds since the last thing that was done."""

    def __init__(self, receiver: peer.Receiver, server: prometheus.Prometheus, folder: Path) -> None:
        self._receiver, self._server, self._folder, self._began = receiver, server, folder, time.monotonic()

    def did(self, what: str) -> None:
        self._began = time.monotonic()
        print(f"\n{what}", flush=True)

    def saw(self, what: str) -> None:
        print(f"  {time.monotonic() - self._began:6.1f} s  {what}", flush=True)

    async def until(self, predicate: Callable[[], Any], what: str, within: float = 600.0) -> Any:
        found = await wait_until(predicate, within, what)
        self.saw(what)
        return found

    async def is_bad(self, slo: str) -> bool:
        found = await self._server.query(f'sum(streamprobe_objective_runs_total{{slo="{slo}",outcome="bad"}})')
        return sum(found.values()) > 0

    async def fires(self, alert: str) -> bool:
        return bool(await self._server.query(f'ALERTS{{alertname="{alert}",alertstate="firing"}}'))

    def on(self, owner: str, severity: str) -> str:
        """Who is on, as `probe oncall` says."""
        command = [sys.executable, "-m", "probe", "oncall", str(self._folder / "oncall.yaml"), "--owner", owner, "--region", "eu"]
        done = subprocess.run([*command, "--severity", severity, "--json"], capture_output=True, text=True, check=True)
        return str(json.loads(done.stdout)[0]["calls"][0]["call"])

    async def told(self, alert: str, owner: str, severity: str, status: str = "firing") -> None:
        """Waits until whoever is on has been told, and nobody else."""
        who = self.on(owner, severity)

        def names() -> set[str]:
            told = self._receiver.told(status)
            return {name for name, labels in told.items() if any(one["alertname"] == alert for one in labels)}

        await self.until(lambda: who in names(), f"{alert} {status}: {who} is told ({owner}, {severity}, in eu)")
        assert names() == {who}, names()

    async def fault(self, platform: Platform, slo: str, service: str, alert: str, owner: str, severity: str) -> None:
        self.did(f"planted: {service} answers 503")
        platform.admin("POST", "/admin/faults", {"fault": "refuse", "service": service})
        await self.until(lambda: self.is_bad(slo), f"Prometheus has a bad run of {slo}")
        await self.until(lambda: self.fires(alert), f"{alert} fires")
        await self.told(alert, owner, severity)
        self.did(f"healed: {service}")
        platform.admin("DELETE", "/admin/faults")
        await self.told(alert, owner, severity, "resolved")


async def show(folder: Path, *, silence: bool) -> None:
    for name, text in (("room-start.yaml", SCENARIO), ("agent.yaml", AGENT), ("fleet.yaml", FLEET)):
        (folder / name).write_text(text)
    (folder / "sandbox").mkdir()
    async with contextlib.AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(peer.receiving())
        (folder / "oncall.yaml").write_text(ONCALL.replace("PAGER", receiver.url))
        platform = stack.enter_context(Platform.started(folder / "sandbox"))
        made = folder / "made"
        command = [sys.executable, "-m", "probe", "rules", str(folder / "fleet.yaml"), "--out", str(made)]
        subprocess.run(command, check=True, env={**platform.environment, "PATH": ""}, stdout=subprocess.DEVNULL)
        routing = {file.name: file.read_text() for file in (made / "alertmanager").iterdir()}
        manager = await stack.enter_async_context(peer.running(routing))
        with agent_process(folder / "agent.yaml", env=platform.environment) as agent:
            target = (await address(agent)).removeprefix("http://")
            rules = {
                file.name: re.sub(r"interval: \S+", "interval: 1s", file.read_text()) for file in (made / "rules").glob("*.yaml")
            }
            running = prometheus.running([target], rule_files=rules, alertmanagers=[manager.url.removeprefix("http://")])
            async with running as server:
                one = Show(receiver, server, folder)
                one.did("all is well")

                async def good() -> bool:
                    runs = await server.query('sum(streamprobe_objective_runs_total{outcome="good"})')
                    return sum(runs.values()) >= 8

                await one.until(good, "four runs are good, of both objectives")
                await one.until(lambda: receiver.said["outside"], "the watchdog is heard")
                await one.fault(platform, "start", "room", "RoomStartStartPage", "media-sre", "P1")
                await one.fault(platform, "payment", "payment", "RoomStartPaymentTriage", "payments", "P2")
                if silence:
                    one.did("the agent is killed")
                    agent.popen.kill()
                    await one.until(lambda: one.fires("RegionSilent"), "RegionSilent fires", 900.0)
                    await one.told("RegionSilent", "media-sre", "P1")
            one.did("Prometheus has ended")
            await one.until(lambda: time.monotonic() - receiver.heard["outside"] > 5.0, "the watchdog has not been heard for 5 s")
    assert "phone" not in receiver.told()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chain.show", description=__doc__)
    parser.add_argument("--silence", action="store_true", help="also kill the agent, and wait until that pages")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chain-") as folder:
        # Whatever ends it, what it started is ended.
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        try:
            asyncio.run(show(Path(folder), silence=options.silence))
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
