"""/gate/{name}?region=: may it go on? And /gate/{name}/override: somebody's word in place of the rule's.

The status alone is an answer that nobody can misread, because the simplest of its readers (`curl --fail` in a pipeline, a Flagger
webhook) look at nothing else:

    200  pass or warn
    412  fail; not one of the statuses that clients try again
    503  inconclusive, with Retry-After: too little was seen in its windows, or nothing
    404  there is no such gate

The body is JSON: {name, region, result, value, n, window, coverage, since, reason, owner, action, override, …} of the gate that
decides (the worst: fail, inconclusive, warn, pass), and `gates`, all there are of that name. Times are RFC 3339, durations
seconds; what there is not is null.

An override is a POST of {"result": "pass" or "fail", "for": "30m", "reason": …, "by": …, "region": …}, and ends by itself; DELETE
(with ?region=) ends it now. Both answer as GET does. They need authentication, or this machine, as /-/reload.

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

import json
import math
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from probe.agent.service.answer import Answer, Refuse, as_json
from probe.agent.service.auth import user_of
from probe.agent.service.query import checked, query
from probe.agent.service.view import GateState, View
from probe.clock import SystemClock
from probe.export.words import printable
from probe.judge.hold import Override
from probe.model.clock import NS
from probe.model.verdict import Verdict
from probe.scenario.gate import LONGEST
from probe.scenario.units import parse_duration

_AGAIN = {"Retry-After": "10"}
_UNKNOWN = "there is no such gate here; the index page lists those there are"
_STATUS = {"pass": 200, "warn": 200, "fail": 412, "inconclusive": 503}
_ON_FAIL = {"pass": 412, "warn": 412, "fail": 200, "inconclusive": 503}


class Gates:
    """How the gates stand."""

    def __init__(self, view: View, clock: SystemClock) -> None:
        self._view, self._clock = view, clock

    async def answer(self, request: web.Request) -> Answer:
        asked = query(request, "region", "status", "when")
        if asked["status"] not in ("", "200") or asked["when"] not in ("", "fail") or (asked["status"] and asked["when"]):
            raise Refuse(400, "status is 200 or not given, when is fail or not given, and not both")
        document, result = self._told(_name(request), asked["region"])
        status = 200 if asked["status"] else (_ON_FAIL if asked["when"] else _STATUS)[result]
        return as_json(document, status, _AGAIN if status == 503 else None)

    async def override(self, request: web.Request) -> Answer:
        query(request)
        name, now = _name(request), self._clock.system()
        said = await _document(request)
        result, region = said.get("result"), _text(said, "region", needed=False)
        if result not in ("pass", "fail"):
            raise Refuse(400, "result is pass or fail")
        try:
            lasts = parse_duration(_text(said, "for"))
        except ValueError:
            raise Refuse(400, "for is how long, such as 30m") from None
        if not 0 < lasts <= LONGEST:
            raise Refuse(400, "for is at most 7d, and more than nothing")
        user, by = user_of(request), _text(said, "by", needed=False)
        if not (user or by):
            raise Refuse(400, "by says who answers for it")
        who = f"{by} (as {user})" if by and user and by != user else by or user
        override = Override(result == "pass", now, now + lasts, who, _text(said, "reason"))
        return self._set(name, region, override)

    async def clear(self, request: web.Request) -> Answer:
        return self._set(_name(request), query(request, "region")["region"], None)

    def _set(self, name: str, region: str, override: Override | None) -> Answer:
        if not self._view.override(name, region, override):
            raise Refuse(404, _UNKNOWN)
        return as_json(self._told(name, region)[0])

    def _told(self, name: str, region: str) -> tuple[dict[str, object], str]:
        """The document, and the result that decides."""
        states = self._view.gates(name, region)
        if not states:
            raise Refuse(404, _UNKNOWN)
        decides = max(states, key=lambda state: Verdict(state.result).rank)
        return {**told(decides), "gates": [told(state) for state in states]}, decides.result


def _name(request: web.Request) -> str:
    return checked(request.match_info["name"], "the gate's name")


async def _document(request: web.Request) -> dict[str, Any]:
    """A JSON object; a form of another site's page cannot say that it is one."""
    if request.content_type != "application/json":
        raise Refuse(415, "say it as application/json")
    try:
        said = json.loads(await request.read())
    except web.HTTPRequestEntityTooLarge:
        raise Refuse(413, "that is too long for a word over a gate") from None
    except (ValueError, RecursionError):
        raise Refuse(400, "that is not JSON") from None
    if not isinstance(said, dict) or not said.keys() <= {"result", "for", "reason", "by", "region"}:
        raise Refuse(400, "it takes result, for, reason, by and region")
    return said


def _text(said: dict[str, Any], name: str, *, needed: bool = True) -> str:
    value = said.get(name, "")
    if not isinstance(value, str) or (needed and not value.strip()):
        raise Refuse(400, f"{name} is needed, as a text")
    return checked(value.strip(), name)


def told(state: GateState) -> dict[str, object]:
    """A gate as JSON has it."""
    return {
        "name": state.name,
        "region": state.region,
        "scenario": state.scenario,
        "result": state.result,
        "publish_region": state.publish_region,
        "protocol": state.protocol,
        "value": state.value if state.value is not None and math.isfinite(state.value) else None,
        "unit": state.unit,
        "n": state.n,
        "min_n": state.min_n,
        "window": state.window,
        "coverage": round(state.coverage, 4),
        "min_coverage": state.min_coverage,
        "since": moment(state.since),
        "evaluated": moment(state.evaluated),
        "reason": printable(state.reason),
        "when": state.rule,
        "resume": state.resume or None,
        "from": state.source,
        "position": state.position,
        "holding": {"towards": state.towards, "held": state.held / NS, "of": state.hold / NS} if state.towards else None,
        "override": overridden(state),
        "owner": state.owner,
        "action": state.action,
    }


def overridden(state: GateState) -> dict[str, object] | None:
    """Whose word holds in place of the rule's, which says `rule`; None where there is none."""
    over = state.override
    if over is None:
        return None
    times = {"since": moment(over.since), "until": moment(over.until)}
    return {
        "result": over.verdict.value,
        "by": printable(over.who),
        "reason": printable(over.why),
        **times,
        "rule": state.beneath,
    }


def moment(unix_ns: int | None) -> str | None:
    """RFC 3339, to the millisecond; None for what has not been."""
    if not unix_ns:
        return None
    return datetime.fromtimestamp(unix_ns / NS, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
