"""The chain with nothing in it made up: agents, Prometheus with the rules that ship, Alertmanager, and whom it tells.

`Chain.started` makes rules and routing of a fleet as `probe rules` does (the windows are those that ship; evaluated each second),
runs one agent a region, and gives a `Chain` that says what happens and after how long. What does not come is `Missing`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.agent.agents import address, agent_process
from tests.peers import alertmanager, prometheus
from tests.tools import Child, wait_until

OWNER = "media-sre"
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
Act = tuple[str, Callable[[], object]]  # in words, and how it is done
UP = 90.0  # s, until agents are, three at once on two cores
SPOKEN = 60.0  # s, until a wait says how it stands
SILENCE = 5.0  # s without a beat of the watchdog, which comes every two


class Missing(Exception):
    """Something that was to come did not, or something came that was not to; in words."""


@dataclass
class Chain:
    """What happened when, in seconds since the last thing that was done."""

    receiver: alertmanager.Receiver
    manager: alertmanager.Alertmanager
    server: prometheus.Prometheus
    folder: Path
    agents: Sequence[Child]
    _began: float = field(default_factory=time.monotonic)
    _expected: set[str] = field(default_factory=set)
    _on: dict[tuple[str, str, str], str] = field(default_factory=dict)

    @classmethod
    @contextlib.asynccontextmanager
    async def started(
        cls, folder: Path, scenario: str, schedules: str, regions: Sequence[str], environment: Mapping[str, str]
    ) -> AsyncIterator[Chain]:
        """Around a scenario (its text) and schedules of it (YAML, indented by two), which the agent of each region runs."""
        (folder / "scenario.yaml").write_text(scenario)
        for region in regions:
            (folder / region).mkdir()
            (folder / region / "agent.yaml").write_text(
                f'agent: {region}-1\nregion: {region}\nlisten: "127.0.0.1:0"\nstate: state\nworkers: {{count: 1}}\n'
                f"schedules:\n{schedules}"
            )
        agents = "".join(f"  {region}-1: {{region: {region}, config: {region}/agent.yaml}}\n" for region in regions)
        (folder / "fleet.yaml").write_text(
            f"fleet: show\nowner: {OWNER}\noncall: oncall.yaml\nsla: {{P1: 5m, P2: 4h}}\nagents:\n{agents}"
        )
        async with contextlib.AsyncExitStack() as stack:
            receiver = await stack.enter_async_context(alertmanager.receiving())
            (folder / "oncall.yaml").write_text(ONCALL.replace("PAGER", receiver.url))
            made = folder / "made"
            await _probe("rules", folder / "fleet.yaml", "--out", made, env=environment)
            routing = {file.name: file.read_text() for file in (made / "alertmanager").iterdir()}
            manager = await stack.enter_async_context(alertmanager.running(routing))
            processes = [
                stack.enter_context(agent_process(folder / region / "agent.yaml", env=environment)) for region in regions
            ]
            targets = [(await address(one, UP)).removeprefix("http://") for one in processes]
            rules = {
                file.name: re.sub(r"(interval|keep_firing_for): \S+", r"\1: 1s", file.read_text())
                for file in (made / "rules").glob("*.yaml")
            }
            server = await stack.enter_async_context(
                prometheus.running(targets, rule_files=rules, alertmanagers=[manager.url.removeprefix("http://")])
            )
            yield cls(receiver, manager, server, folder, processes)

    def did(self, what: str) -> None:
        self._began = time.monotonic()
        print(f"\n{time.strftime('%H:%M:%S')}  {what}", flush=True)

    def saw(self, what: str) -> None:
        print(f"  {time.monotonic() - self._began:6.1f} s  {what}", flush=True)

    async def until(self, predicate: Callable[[], Any], what: str, within: float = 600.0) -> Any:
        """What `predicate` says, once it says something. Raises Missing."""
        ends = time.monotonic() + within
        while True:
            try:
                found = await wait_until(predicate, min(SPOKEN, max(0.0, ends - time.monotonic())), what)
            except AssertionError:
                standing = await self._standing()
                if time.monotonic() >= ends:
                    raise Missing(f"{what}: not within {within:g} s ({standing})") from None
                self.saw(f"… {standing}; waiting for: {what}")
                for one in (self.server.child, self.manager.child):
                    if not one.running():
                        raise Missing(f"{what}: {one.popen.args!r} has ended:\n{one.text()[-2000:]}") from None
            else:
                self.saw(what)
                return found

    async def _standing(self) -> str:
        """How many runs were what, of the objectives, and what the probe suffered from: what is tainted counts for nothing."""
        runs = await self._counted("outcome", "objective_runs_total")
        taints = await self._counted("taint", "taints_total")
        return f"judged so far: {runs or 'nothing'}" + (f"; tainted: {taints}" if taints else "")

    async def _counted(self, label: str, name: str) -> str:
        found = await self.server.query(f"sum by ({label}) (streamprobe_{name})")
        return ", ".join(f"{value:g} {dict(labels).get(label)}" for labels, value in sorted(found.items()) if value)

    async def runs(self, slo: str, outcome: str, **labels: str) -> list[float]:
        """How many there were in each cell."""
        picked = ",".join(f'{name}="{value}"' for name, value in {"slo": slo, "outcome": outcome, **labels}.items())
        return list((await self.server.query(f"streamprobe_objective_runs_total{{{picked}}}")).values())

    async def bad(self, slo: str) -> float:
        return sum(await self.runs(slo, "bad"))

    async def goes_bad(self, slo: str, before: float) -> None:
        async def worse() -> bool:
            return await self.bad(slo) > before

        await self.until(worse, "Prometheus has a bad run of it")

    async def well(self, slo: str, cells: int, each: int = 4) -> None:
        """Until each cell of an objective has good runs, and the watchdog is heard."""

        async def good() -> bool:
            found = await self.runs(slo, "good")
            return len(found) >= cells and min(found) >= each

        self.did("all is well")
        await self.until(good, f"{each} runs are good in each of {cells} cells" if cells > 1 else f"{each} runs are good")
        await self.until(lambda: self.receiver.said["outside"], "the watchdog is heard")

    async def page_of(self, slo: str) -> str:
        """The alert that pages for an objective. Raises Missing."""
        groups = (await self.server.get("rules", type="alert"))["groups"]
        for rule in (rule for group in groups for rule in group["rules"]):
            if (rule["labels"].get("slo"), rule["labels"].get("severity")) == (slo, "P1"):
                return str(rule["name"])
        raise Missing(f"nothing pages for {slo}")

    async def fires(self, alert: str) -> bool:
        return bool(await self.server.query(f'ALERTS{{alertname="{alert}",alertstate="firing"}}'))

    async def told(self, alert: str, severity: str, owner: str = OWNER, region: str = "eu", *, over: bool = False) -> None:
        """Waits until whoever is on has been told of it, or that it is over, and nobody else was. Raises Missing."""
        self._expected.add(alert)
        who = await self.whom(severity, owner, region)
        status = "resolved" if over else "firing"

        def places() -> dict[str, set[str]]:
            told = self.receiver.told(status)
            found = {name: {one["region"] for one in labels if one["alertname"] == alert} for name, labels in told.items()}
            return {name: regions for name, regions in found.items() if regions}

        what = "is told that it is over" if over else "is paged" if severity == "P1" else "has it in the queue"
        await self.until(lambda: who in places(), f"{alert}, {severity} in {region}: {who} {what} ({owner}'s, now)")
        if places() != {who: {region}}:
            raise Missing(f"{alert} was to reach {who}, for {region}, and nobody else; it reached {places()}")

    async def whom(self, severity: str, owner: str = OWNER, region: str = "eu") -> str:
        """Who is on, as `probe oncall` says; asked once, and before what is timed."""
        queue = (owner, region, severity)
        if queue not in self._on:
            said = await _probe(
                "oncall", self.folder / "oncall.yaml", "--owner", owner, "--region", region, "--severity", severity, "--json"
            )
            self._on[queue] = str(json.loads(said)[0]["calls"][0]["call"])
        return self._on[queue]

    async def fault(self, planted: Act, healed: Act, slo: str, alert: str, severity: str, owner: str) -> None:
        """One fault from planting to the end of its alert. Raises Missing."""
        await self.whom(severity, owner)
        before = await self.bad(slo)
        self._do(planted)
        await self.goes_bad(slo, before)
        await self.until(lambda: self.fires(alert), f"{alert} fires")
        await self.told(alert, severity, owner)
        self._do(healed)
        await self.ends(alert, severity, owner)

    async def ends(self, alert: str, severity: str, owner: str = OWNER, region: str = "eu") -> None:
        """Until it fires no more, and whoever was told is told; Alertmanager says so with the next word of its group."""

        async def over() -> bool:
            return not await self.fires(alert)

        await self.until(over, f"{alert} fires no more")
        await self.told(alert, severity, owner, region, over=True)

    def _do(self, act: Act) -> None:
        self.did(act[0])
        act[1]()

    async def dies(self) -> None:
        """Prometheus is killed: the watchdog outside hears nothing any more. Raises Missing."""
        self.did("Prometheus is killed")
        self.server.child.popen.kill()
        heard = self.receiver.heard
        try:
            await wait_until(lambda: time.monotonic() - heard["outside"] > SILENCE, 60.0)
        except AssertionError:
            raise Missing("the watchdog goes on without Prometheus") from None
        self.saw(f"the watchdog has not been heard for {SILENCE:g} s")

    def only(self) -> None:
        """Says what else was told. Raises Missing where that paged somebody, or nobody was on for it."""
        others = {
            (name, one["alertname"], one["severity"], one["region"])
            for name, labels in self.receiver.told().items()
            for one in labels
            if name != "outside" and one["alertname"] not in self._expected
        }
        for name, alert, severity, region in sorted(others):
            self.saw(f"besides: {alert}, {severity} in {region}: {name}")
        loud = [alert for name, alert, severity, _ in others if severity == "P1" or name == "phone"]
        if loud:
            raise Missing(f"nobody was to be paged for {', '.join(loud)}")


async def _probe(*arguments: str | Path, env: Mapping[str, str] | None = None) -> str:
    """What a command of ours prints. In a session of its own: Ctrl-C is for us. Raises Missing with what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "probe", *map(str, arguments)),
        env={**os.environ, **(env or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        said, told = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise Missing(f"probe {arguments[0]} ended with {process.returncode}: {told.decode()}{said.decode()}")
    return said.decode()
