"""Looks at the agent's gates, and sees to what follows: events, records, figures, actions, questions to Prometheus.

All gates are judged every `LOOK` seconds, and those of a scenario when a run of it has ended. What changed is an event, and what
the next life must know is put among the records with it, in that order, so that both are there or neither is known.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from probe.agent.gate_questions import Questions
from probe.agent.gates import Change, Gates
from probe.agent.judged import Judged, kept
from probe.agent.loading import Loaded
from probe.clock import SystemClock
from probe.decide.actions import OUTCOMES, Actions, Done, Order, from_json
from probe.export.families import Families
from probe.judge.hold import Override, Position
from probe.judge.indicators import Part
from probe.judge.windows import Cell, RunParts
from probe.judge.windows import from_json as parts_from_json
from probe.model.clock import NS
from probe.model.ids import uuid7
from probe.model.verdict import Verdict
from probe.net.redact import Redactor
from probe.store.errors import StoreError
from probe.store.reader import Records
from probe.store.records import GateKept, Record

_log = logging.getLogger(__name__)
Past = Callable[[str, int, int], list[int]]  # the slots of a schedule between two moments, Unix ns
LOOK = 10.0  # s
ALIVE = "*"  # the key under which it is kept when gates were looked at last
_TELL = 60 * NS  # between two of those
_PAGES = 32  # of runs that are read when the agent begins
_LAST = 30.0  # s for actions where the agent ends with its runs


class Told(Protocol):
    """Whoever says what happened; the agent's own name and region where none are given."""

    def __call__(
        self,
        kind: str,
        why: str,
        *,
        subject: str = "",
        region: str = "",
        who: str = "",
        data: Mapping[str, object] | None = None,
        event_id: str = "",
    ) -> None: ...


class GateWatch:
    """`loaded` says what is in force; `put` keeps a record, `tell` an event."""

    def __init__(
        self,
        loaded: Callable[[], Loaded],
        *,
        figures: Families,
        put: Callable[[Record], object],
        tell: Told,
        clock: SystemClock,
        redactor: Redactor,
    ) -> None:
        self._loaded, self._figures, self._put, self._tell = loaded, figures, put, tell
        self._clock, self._redactor = clock, redactor
        self.gates = Gates(loaded())
        self._questions = Questions(loaded, self.gates, self.look, clock, redactor)
        self.gates.ask(self._questions.answer)
        self._actions = Actions(lambda: loaded().config.actions, self._acted, clock, redactor)
        self._told_at: int | None = None
        self._past: tuple[Records, Past] | None = None
        self._unread: dict[str, int] = {}  # schedules whose past is to be read, and since when (Unix ns) they are told of
        self._declare()

    # -- what is told

    async def begin(self, records: Records, past: Past) -> None:
        """Take up what the life before knew, and the runs of the time before."""
        self._past = records, past
        found: Mapping[str, Mapping[str, object]] = {}
        try:
            found = {one.key: one.data for one in await records.gates(self._loaded().config.agent)}
            await self._remember(dict.fromkeys(self._loaded().schedules, self._clock.system()))
        except StoreError as error:
            _log.warning("what gates knew is not known: %s", error)
            self.gates.unknown()
        else:
            self.gates.restore(found, self._clock.now(), self._clock.system())
        self._forget(key for key, data in found.items() if key != ALIVE and not data.get("gone"))
        self.look()  # what was let through before is nothing to go by now
        for one in self.gates:
            self._show(one)
            self._reorder(one)

    async def _remember(self, wanted: Mapping[str, int]) -> None:
        """The runs of these schedules that ended before the Unix ns given for each, and the slots there were."""
        if self._past is None:
            return
        (records, past), before = self._past, ""
        now, unix, back = self._clock.now(), self._clock.system(), self.gates.longest
        for name in wanted:
            slots = await asyncio.to_thread(past, name, unix - back, unix)
            self.gates.was_due(name, [now - (unix - slot) for slot in slots])
        for _ in range(_PAGES):
            page = await records.measures(self._loaded().config.agent, unix - back, before)
            for run in page:
                scheduled = self._loaded().schedules.get(run.schedule)
                if scheduled is None or run.mode != scheduled.settings.mode or run.ended_ns > wanted.get(run.schedule, 0):
                    continue
                try:
                    parts = parts_from_json(run.data)
                except (ValueError, TypeError, AttributeError):
                    continue  # of another version: a run that is not known was not made
                at, took = now - (unix - run.ended_ns), max(0, run.ended_ns - (run.due_ns or run.ended_ns))
                self.gates.ran(run.schedule, RunParts(at, at - took, parts), now, unix)
            if not page:
                break
            before = page[-1].run_id

    def ran(self, schedule: str, parts: Mapping[Cell, Part], due: int) -> None:
        """A run has ended; `due` Unix ns, 0 where nobody planned it."""
        now, unix = self._clock.now(), self._clock.system()
        self.gates.ran(schedule, RunParts(now, now - max(0, unix - (due or unix)), parts), now, unix)
        self.look([self.gates.scenario(schedule)])

    def due(self, counts: Mapping[str, int]) -> None:
        """How many slots of each schedule have come in all."""
        now = self._clock.now()
        for name, count in counts.items():
            self.gates.due(name, count, now)

    def released(self, schedule: str, unix: int) -> None:
        """A release of the platform was first seen at Unix ns `unix`."""
        self.gates.released(schedule, self._clock.now() - (self._clock.system() - unix))

    def taken(self) -> None:
        """Another configuration is in force."""
        before = list(self.gates)
        self._unread |= dict.fromkeys(self.gates.take(self._loaded()), self._clock.system())
        self._forget(one.key for one in before)
        for one in before:
            if self.gates.get(one.key) is None:
                self._figures.set("gate_overridden", one.labels, 0)
                for verdict in Verdict:
                    self._figures.set("gate_state", {**one.labels, "verdict": verdict.value}, 0)
        self._declare()
        for one in self.gates:
            self._show(one)

    def _forget(self, keys: Iterable[str]) -> None:
        """Of these gates those that there are no longer: nobody may take what they said last for what they say."""
        for key in keys:
            if self.gates.get(key) is None:
                unix = self._clock.system()
                self._put(GateKept(agent=self._loaded().config.agent, key=key, at_ns=unix, data={"gone": True}))

    # -- what is asked

    def look(self, scenarios: Iterable[str] | None = None) -> None:
        """Judge, and see to what follows."""
        self._follow(self.gates.look(self._clock.now(), self._clock.system(), scenarios))

    def override(self, name: str, region: str, override: Override | None) -> bool:
        """Whether there is such a gate."""
        changes = self.gates.override(name, region, override, self._clock.now(), self._clock.system())
        if changes is not None:
            self._follow(changes)
        return changes is not None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._actions.run(), name="actions")
            group.create_task(self._questions.run(), name="gates of Prometheus")
            group.create_task(self._read_up(), name="what gates missed")
            while True:
                await asyncio.sleep(LOOK)
                try:
                    for scenario in {prepared.scenario.name for prepared in self._loaded().schedules.values()}:
                        self.look([scenario])
                        await asyncio.sleep(0)  # a thousand gates are not to hold the loop
                except Exception:
                    _log.exception("the gates could not be judged")

    async def _read_up(self) -> None:
        """A schedule that is new, or whose gates now ask for more, has a past too. Until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            wanted, self._unread = self._unread, {}
            try:
                if known := {name: at for name, at in wanted.items() if name in self._loaded().schedules}:
                    await self._remember(known)
            except StoreError:
                self._unread = wanted | self._unread
            except Exception:
                _log.exception("the runs of before could not be read")

    async def act(self) -> None:
        """Do what was ordered and is not done, for as long as that is worth waiting for."""
        if not any(one.pending for one in self.gates):
            return
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._actions.run())
            ends = self._clock.now() + int(_LAST * NS)
            while any(one.pending for one in self.gates) and self._clock.now() < ends:  # noqa: ASYNC110 - each order wakes nobody
                await asyncio.sleep(0.05)
            task.cancel()

    # -- what follows

    def _follow(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._event(change)
            if change.moved is not None:
                self._order(change)
            self._show(change.judged)
            if change.before is not change.after:
                self._figures.add("gate_changes_total", {**change.judged.labels, "verdict": change.after.value})
            self._keep(change.judged)
        unix = self._clock.system()
        if self._told_at is None or not 0 <= unix - self._told_at < _TELL:
            self._told_at = unix
            self._put(GateKept(agent=self._loaded().config.agent, key=ALIVE, at_ns=unix, data={"looked": unix}))

    def _event(self, change: Change) -> None:
        one = change.judged
        answer = one.reading.when if one.reading is not None else None
        data: dict[str, object] = {
            "from": "" if change.before is None else change.before.value,
            "to": change.after.value,
            "value": None if answer is None else answer.value,
            "n": 0 if answer is None else answer.n,
            "coverage": 0.0 if answer is None else answer.coverage,
            "scenario": one.scenario,
            "publish_region": one.group[1],
            "protocol": one.group[2],
        }
        if change.moved is not None:
            data["moved"] = change.moved.value
        if change.override:
            data["override"] = change.override
            if change.override == "set" and one.override is not None:
                data |= {"says": one.override.verdict.value, "until": one.override.until}
        self._tell("gate", change.reason, subject=one.gate.name, region=one.group[0], who=change.who, data=data)

    def _order(self, change: Change) -> None:
        one, unix = change.judged, self._clock.system()
        to = "closed" if change.moved is Position.CLOSED else "opened"
        for name, action in self._loaded().config.actions.items():
            if one.gate.name not in action.gates or to not in action.when:
                continue
            order = Order(
                id=uuid7(unix // 1_000_000, random.SystemRandom()),
                action=name,
                key=one.key,
                gate=one.gate.name,
                scenario=one.scenario,
                region=one.group[0],
                publish_region=one.group[1],
                protocol=one.group[2],
                to=to,
                result=change.after.value,
                reason=change.reason,
                value=None if one.reading is None else one.reading.when.value,
                owner=one.owner,
                what=one.gate.action,
                who=change.who,
                at=unix,
            )
            one.pending = (*one.pending, order.as_json())
            self._actions.order(order)

    def _reorder(self, one: Judged) -> None:
        """What the life before ordered and did not see done."""
        for waiting in one.pending:
            try:
                self._actions.order(from_json(waiting))
            except (TypeError, KeyError, ValueError):
                _log.warning("an action of gate %s that was kept is none", one.gate.name)

    def _acted(self, order: Order, done: Done) -> None:
        """An action came to its end."""
        action = self._loaded().config.actions.get(order.action)
        kind = "removed" if action is None else action.kind
        self._figures.add("gate_actions_total", {"gate": order.gate, "kind": kind, "outcome": done.outcome})
        data = {
            "action": order.action, "kind": kind, "to": order.to, "outcome": done.outcome, "attempts": done.attempts,
            "said": done.said, "ordered": order.at,
        }  # fmt: skip
        self._tell("action", order.reason, subject=order.gate, region=order.region, who=order.who, data=data, event_id=order.id)
        one = self.gates.get(order.key)
        if one is not None:
            one.pending = tuple(waiting for waiting in one.pending if waiting.get("id") != order.id)
            self._keep(one)

    def _keep(self, one: Judged) -> None:
        self._put(GateKept(agent=self._loaded().config.agent, key=one.key, at_ns=self._clock.system(), data=kept(one)))

    # -- figures

    def _declare(self) -> None:
        """Every series of every gate, at 0."""
        actions = self._loaded().config.actions
        for one in self.gates:
            self._figures.touch("gate_overridden", one.labels)
            for verdict in Verdict:
                self._figures.touch("gate_changes_total", {**one.labels, "verdict": verdict.value})
                self._figures.touch("gate_state", {**one.labels, "verdict": verdict.value})
            for action in actions.values():
                for outcome in OUTCOMES if one.gate.name in action.gates else ():
                    self._figures.touch("gate_actions_total", {"gate": one.gate.name, "kind": action.kind, "outcome": outcome})

    def _show(self, one: Judged) -> None:
        for verdict in Verdict:
            standing = float(verdict is (one.result or Verdict.INCONCLUSIVE))
            self._figures.set("gate_state", {**one.labels, "verdict": verdict.value}, standing)
        self._figures.set("gate_overridden", one.labels, float(one.override is not None))
