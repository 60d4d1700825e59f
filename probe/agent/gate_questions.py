"""What Prometheus is asked for gates, again and again, and what its answers come to.

Every gate has a query of its own, a few at a time. An answer is good for a minute; what is older, did not come, or is no number
is not known, with the reason. Runs elsewhere are taken to be due as often as this agent's own: all of a fleet run the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from probe.agent.gates import Answers, Gates
from probe.agent.loading import Loaded
from probe.clock import SystemClock
from probe.decide.asking import Away, session
from probe.decide.prometheus import Asking, Sample
from probe.judge.hold import GAP
from probe.judge.reading import Seen, terms
from probe.model.clock import NS
from probe.net.redact import Redactor
from probe.rules.gate_queries import PARTS, query
from probe.scenario.schema import Gate, Scenario

_log = logging.getLogger(__name__)
_AT_ONCE = 4
_IDLE = 10.0  # s between looks at the settings, where there is no Prometheus


class Questions:
    """`look` judges the gates of some scenarios anew."""

    def __init__(
        self,
        loaded: Callable[[], Loaded],
        gates: Gates,
        look: Callable[[Iterable[str]], None],
        clock: SystemClock,
        redactor: Redactor,
    ) -> None:
        self._loaded, self._gates, self._look, self._clock, self._redactor = loaded, gates, look, clock, redactor
        self._answers: dict[tuple[str, str], tuple[int, Answers | str]] = {}

    def answer(self, scenario: str, gate: Gate) -> Answers | str:
        """What it last said, or why that is not known."""
        asked = self._answers.get((scenario, gate.name))
        if asked is None:
            return "Prometheus was not asked yet"
        return asked[1] if self._clock.now() - asked[0] <= GAP else "Prometheus was not asked lately"

    async def run(self) -> None:
        """Until cancelled."""
        async with session() as client:
            while True:
                settings = self._loaded().config.prometheus
                if settings is not None:
                    asking = Asking(settings, client, self._redactor)
                    try:
                        await self._round(asking)
                    except Exception:
                        _log.exception("the gates of Prometheus could not be asked")
                await asyncio.sleep(_IDLE if settings is None else settings.every / NS)

    async def _round(self, asking: Asking) -> None:
        gates = list(self._gates.asked())
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(scenario: Scenario, gate: Gate) -> None:
            async with slots:
                try:
                    samples = await asking.ask(query(gate, scenario.name, scenario.objectives))
                    answers: Answers | str = self._seen(scenario, gate, samples)
                except Away as away:
                    answers = f"Prometheus: {away}"
            self._answers[scenario.name, gate.name] = (self._clock.now(), answers)

        async with asyncio.TaskGroup() as group:
            for scenario, gate in gates:
                group.create_task(one(scenario, gate))
        known = {(scenario.name, gate.name) for scenario, gate in gates}
        self._answers = {key: answers for key, answers in self._answers.items() if key in known}
        self._look({scenario.name for scenario, _ in gates})

    def _seen(self, scenario: Scenario, gate: Gate, samples: Iterable[Sample]) -> Answers:
        """What was answered, by term and group. A term without a finite value is there, and says so."""
        found: dict[tuple[int, str, tuple[str, str, str]], float | None] = {}
        for sample in samples:
            labels = sample.labels
            group = (labels.get("region", ""), labels.get("publish_region", ""), labels.get("protocol", ""))
            asked_for, part = labels.get("term", ""), labels.get("part", "")
            if asked_for.isascii() and asked_for.isdecimal() and len(asked_for) < 3 and part in PARTS:
                found[int(asked_for), part, group] = sample.value
        answers: dict[tuple[int, tuple[str, str, str]], Seen] = {}
        everywhere = 1 if "region" in gate.by else len(scenario.regions)
        for number, (_, window) in enumerate(terms(gate)):
            due = self._gates.expected(scenario.name, window or 0, self._clock.now()) * everywhere
            for group in {group for asked, name, group in found if asked == number and name != "made"}:
                value, n = found.get((number, "value", group)), found.get((number, "n", group))
                made = found.get((number, "made", (group[0], group[1], "")))
                why = "" if value is not None and n is not None else "Prometheus answered with what is no number"
                answers[number, group] = Seen(value, round(n or 0), round(made or 0), due, why)
        return answers
