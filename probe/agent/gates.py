"""What the last run said of each gate. A run is judged alone: windows and `for` count as met."""

from __future__ import annotations

from collections.abc import Mapping

from probe.agent.conclude import Concluded
from probe.agent.service.view import GateState
from probe.plan import Plan

Gates = Mapping[tuple[str, str], GateState]


def gate_states(concluded: Concluded, plan: Plan, before: Gates, now: int) -> dict[tuple[str, str], GateState]:
    """What a run says of its gates, by name and region, after what was said `before`; `now` Unix ns."""
    named = {gate.name for gate in plan.gates}
    states = {}
    for check in concluded.judgement.checks:
        if check.subject or check.name not in named:
            continue
        key = (check.name, check.region)
        last = before.get(key)
        result = check.result.value
        states[key] = GateState(
            name=check.name,
            region=check.region,
            scenario=plan.scenario,
            result=result,
            value=check.value,
            since=last.since if last is not None and last.result == result else now,
            evaluated=now,
            reason=check.reason,
            owner=check.owner,
            action=check.action,
        )
    return states
