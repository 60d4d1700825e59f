"""What the last run of each schedule said of its gates. A run is judged alone: windows and `for` count as met.

A word holds for as long as the schedule would have brought three newer ones, and one run more; what is older, or was never
said, is inconclusive. Who asks a gate acts on it now: that it was open this morning is nothing to act on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from probe.agent.conclude import Concluded
from probe.agent.job import Job
from probe.agent.loading import Prepared
from probe.agent.service.view import GateState
from probe.model.verdict import Check, Verdict

Gates = Mapping[tuple[str, str, str], GateState]  # by schedule, name and region
_MISSED = 3  # slots without news, after which the last word is old


def gate_states(concluded: Concluded, job: Job, before: Gates, now: int) -> dict[tuple[str, str, str], GateState]:
    """What a run says of its gates, after what was said `before`; `now` Unix ns. A gate that is judged by protocol is as bad as
    the worst of them."""
    named = {gate.name for gate in job.plan.gates}
    worst: dict[tuple[str, str, str], Check] = {}
    for check in concluded.judgement.checks:
        name = check.name.partition("/")[0]  # a protocol may follow
        key = (job.schedule, name, check.region)
        if check.subject or not check.threshold or name not in named:
            continue
        if key not in worst or check.result.rank > worst[key].result.rank:
            worst[key] = check
    states = {}
    for key, check in worst.items():
        last = before.get(key)
        result = check.result.value
        states[key] = GateState(
            name=key[1],
            region=check.region,
            scenario=job.plan.scenario,
            result=result,
            value=check.value,
            since=last.since if last is not None and last.result == result else now,
            evaluated=now,
            reason=check.reason,
            owner=check.owner,
            action=check.action,
        )
    return states


def standing(name: str, prepared: Prepared, region: str, said: Gates, now: int) -> Iterator[GateState]:
    """The gates of the schedule called `name` as they stand at `now`, those of which nothing is known included."""
    for gate in prepared.scenario.gates:
        state = said.get((name, gate.name, region))
        if state is None:
            owner = gate.owner or prepared.scenario.owner
            unsaid = "no run has judged it yet"
            yield GateState(
                gate.name, region, prepared.scenario.name, Verdict.INCONCLUSIVE.value, None, 0, 0, unsaid, owner, gate.action
            )
        elif now > (ends := _holds_until(state, prepared)):
            unsaid = f"no run has judged it lately; the last said {state.result}"
            yield replace(state, result=Verdict.INCONCLUSIVE.value, value=None, since=ends, reason=unsaid)
        else:
            yield state


def _holds_until(state: GateState, prepared: Prepared) -> int:
    at = state.evaluated
    for _ in range(_MISSED):
        at = prepared.entry.when.after(at, 0.0)
    return at + prepared.deadline
