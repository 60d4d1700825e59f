"""An agent as its HTTP service sees it, whose words tests choose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import aiohttp
from prometheus_client import CollectorRegistry

from probe.agent.handed import Handed
from probe.agent.service.listening import serving
from probe.agent.service.view import GateState, Planned, Probed, Refused
from probe.clock import SystemClock
from probe.export.families import Families
from probe.export.prometheus import MetricsSink
from probe.judge.hold import Override
from probe.model.clock import NS
from probe.store.errors import StoreError
from probe.store.reader import Records
from probe.store.rows import RunRow


def row(number: int, **changes: Any) -> RunRow:
    values: dict[str, Any] = {
        "run_id": f"01900000-0000-7000-8000-{number:012d}", "agent": "jakarta-1", "schedule": "room-start",
        "scenario": "room-start",
        "mode": "scheduled", "publish_region": "eu", "region": "apac", "target": "https://live.example", "seed": number,
        "run_number": number, "trace_id": f"{number:032x}", "due_ns": 0, "began_ns": 1_790_000_000 * NS + number * 60 * NS,
        "probe_version": "0.1.0", "state": "ended", "verdict": "pass", "cause": "",
        "ended_ns": 1_790_000_000 * NS + number * 60 * NS + 21_400_000_000, "attempts": {"done": 4}, "crashed": "",
    }  # fmt: skip
    return RunRow(**{**values, **changes})


class Rows:
    """Records in a list, newest first."""

    def __init__(self, rows: Sequence[RunRow] = ()) -> None:
        self.rows = list(rows)
        self.reports: dict[str, str] = {}
        self.verdicts: dict[str, str] = {}
        self.away = False

    async def runs(self, limit: int = 50, before: str = "", **wanted: str) -> list[RunRow]:
        if self.away:
            raise StoreError("records.sqlite: no answer within 5 s")
        found = [r for r in self.rows if all(not value or getattr(r, name) == value for name, value in wanted.items())]
        return [r for r in found if not before or r.run_id < before][:limit]

    async def run(self, run_id: str) -> RunRow | None:
        return next((r for r in self.rows if r.run_id == run_id), None)

    async def report(self, run_id: str) -> str | None:
        return self.reports.get(run_id)

    async def verdict(self, run_id: str) -> str | None:
        return self.verdicts.get(run_id)


class Desk:
    """Says what its fields hold."""

    def __init__(self) -> None:
        self.metrics = MetricsSink()
        self.rows = Rows()
        self.registry: CollectorRegistry = self.metrics.registry
        self.figures: Families = self.metrics.figures
        self.unready: list[str] = []
        self.stuck = ""
        self.refused: list[str] = []
        self.reloads = 0
        self.states: list[GateState] = []
        self.planned: list[Planned] = []
        self.probing: Callable[[str, str, float | None], Probed | Refused] | None = None
        self.hold: asyncio.Event | None = None
        self.asked: list[tuple[str, str, float | None]] = []

    @property
    def records(self) -> Records:
        return cast(Records, self.rows)

    def about(self) -> Mapping[str, str]:
        return {"agent": "jakarta-1", "region": "apac", "version": "0.1.0"}

    def not_ready(self) -> Sequence[str]:
        return self.unready

    def not_alive(self) -> str:
        return self.stuck

    async def reload(self) -> Sequence[str]:
        self.reloads += 1
        return self.refused

    async def take(self, handed: Handed) -> bool | Refused:
        return False

    async def probe(self, scenario: str, target: str, within: float | None) -> Probed | Refused:
        self.asked.append((scenario, target, within))
        if self.hold is not None:
            await self.hold.wait()
        assert self.probing is not None
        return self.probing(scenario, target, within)

    def gates(self, name: str, region: str) -> Sequence[GateState]:
        return [s for s in self.states if name in ("", s.name) and region in ("", s.region)]

    def override(self, name: str, region: str, override: Override | None) -> bool:
        found = self.gates(name, region)
        for state in found:
            said = override.verdict.value if override is not None else state.beneath or state.result
            changed = replace(state, override=override, result=said, beneath=state.beneath or state.result)
            self.states[self.states.index(state)] = changed
        return bool(found)

    def schedules(self) -> Sequence[Planned]:
        return self.planned

    def count(self, name: str, **labels: str) -> float:
        """What the service has counted."""
        return self.registry.get_sample_value(f"streamprobe_{name}", labels) or 0.0


@asynccontextmanager
async def served(
    desk: Desk, web: Path | None = None, host: str = "127.0.0.1", **settings: Any
) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A client, and the address."""
    async with serving(desk, (host, 0), web, SystemClock(), **settings) as port:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as client:
            yield client, f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
