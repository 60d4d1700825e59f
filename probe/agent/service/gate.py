"""/gate/{name}?region=: may it go on?

The status alone is an answer that nobody can misread, because the simplest of its readers (`curl --fail` in a pipeline, a Flagger
webhook) look at nothing else:

    200  pass or warn
    412  fail; not one of the statuses that clients try again
    503  inconclusive, with Retry-After: no run has judged it, or not lately, or too little was seen
    404  there is no such gate

The body is JSON: {name, region, result, value, since, evaluated, reason, owner, action, scenario} of the gate that decides (the
worst: fail, inconclusive, warn, pass), and `gates`, all there are of that name. Times are RFC 3339; what there is not is null.

- Flagger: `url: http://agent:9464/gate/hold-campaign?region=eu` as a confirm-rollout, pre-rollout or rollout webhook (it POSTs,
  and takes 2xx as yes). As a *rollback* webhook, where 2xx means roll back, add `&when=fail`: 200 on fail alone, else 412 or 503.
- Argo Rollouts' web metric takes any status but 2xx for an error of the measurement, and reads the body itself. Add
  `&status=200`, then `jsonPath: "{$.result}"`, `successCondition: result in ["pass", "warn"]`, `failureCondition: result ==
  "fail"`: what is neither pauses the rollout as inconclusive. Without it a failed gate ends the rollout as an error, never as a
  success.
- CI: `curl --fail --retry 5 http://agent:9464/gate/hold-campaign?region=eu` exits 22 on all but pass and warn, and
  asks again where it was inconclusive.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from aiohttp import web

from probe.agent.service.answer import Answer, Refuse, as_json
from probe.agent.service.query import checked, query
from probe.agent.service.view import GateState, View
from probe.export.words import printable
from probe.model.clock import NS
from probe.model.verdict import Verdict

_AGAIN = {"Retry-After": "10"}
_STATUS = {"pass": 200, "warn": 200, "fail": 412, "inconclusive": 503}
_ON_FAIL = {"pass": 412, "warn": 412, "fail": 200, "inconclusive": 503}


class Gates:
    """The gates' last words."""

    def __init__(self, view: View) -> None:
        self._view = view

    async def answer(self, request: web.Request) -> Answer:
        asked = query(request, "region", "status", "when")
        if asked["status"] not in ("", "200") or asked["when"] not in ("", "fail") or (asked["status"] and asked["when"]):
            raise Refuse(400, "status is 200 or not given, when is fail or not given, and not both")
        name = checked(request.match_info["name"], "the gate's name")
        states = self._view.gates(name, asked["region"])
        if not states:
            raise Refuse(404, "there is no such gate here; the index page lists those there are")
        decides = max(states, key=lambda state: Verdict(state.result).rank)
        status = 200 if asked["status"] else (_ON_FAIL if asked["when"] else _STATUS)[decides.result]
        return as_json({**told(decides), "gates": [told(state) for state in states]}, status, _AGAIN if status == 503 else None)


def told(state: GateState) -> dict[str, object]:
    """A gate as JSON has it."""
    return {
        "name": state.name,
        "region": state.region,
        "scenario": state.scenario,
        "result": state.result,
        "value": state.value if state.value is not None and math.isfinite(state.value) else None,
        "since": moment(state.since),
        "evaluated": moment(state.evaluated),
        "reason": printable(state.reason),
        "owner": state.owner,
        "action": state.action,
    }


def moment(unix_ns: int | None) -> str | None:
    """RFC 3339, to the millisecond; None for what has not been."""
    if not unix_ns:
        return None
    return datetime.fromtimestamp(unix_ns / NS, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
