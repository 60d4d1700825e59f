"""A gate: a rule on indicators with an owner and an action; and those that come along, by name.

A gate is closed by `when` and opened by `resume`, which is to be the stricter of the two: with one threshold for both, a platform
that stands on it would open and close the gate with every run. In one run (`smoke`) windows and `for` count as met; an agent
evaluates them over its own runs or asks Prometheus (`from`).

Those that come along are a start, made so that one run in ten minutes that fails does not close them: thresholds are for whoever
knows the platform's objectives to change (`{use: payment, when: "payment[15m] < 90%"}`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from probe.scenario.fields import Model, Name, OneOrMany, one_of
from probe.scenario.gates import Expression, parse_gate
from probe.scenario.indicators import IN_A_DRILL, INDICATORS, Indicator
from probe.scenario.units import Ratio, describe

LONGEST = 7 * 86_400 * 10**9  # ns of a window that an agent looks back; more is what a budget is for

BUILT_IN: Mapping[str, Mapping[str, Any]] = {
    "room-start": {
        "when": "room_start[10m] < 90% and failures >= 3 for 2m",
        "resume": "room_start[15m] > 99% for 15m",
        "action": "pause campaign expansion",
        "min_n": 3,
    },
    "first-frame": {
        "when": "first_frame.p95[10m] > 3s and attempts >= 6 for 2m",
        "resume": "first_frame.p95[15m] <= 2s for 10m",
        "action": "hold the rollout of players and the onboarding of audience",
        "min_n": 3,
    },
    "edge-errors": {
        "when": "edge_errors[5m] > 2% for 2m",
        "resume": "edge_errors[10m] < 0.5% for 5m",
        "action": "move viewers off the edge that the last runs' reports name",
        "min_n": 20,
    },
    "payment": {
        "when": "payment[15m] < 95% and failures >= 2 for 1m",
        "resume": "payment[15m] > 99% for 10m",
        "action": "prompt the alternate payment method and throttle risky offers",
        "min_n": 3,
    },
    "gift": {
        "when": "gift[15m] < 95% and failures >= 2 for 1m",
        "resume": "gift[15m] > 99% for 10m",
        "action": "hide paid gifts until the ledger counts them once again",
        "min_n": 3,
    },
    "release": {
        "when": "room_start[15m] < 95% and failures >= 2 for 1m",
        "resume": "room_start[15m] > 99% for 10m",
        "action": "roll back the release",
        "since": "release",
        "min_n": 3,
    },
}  # fmt: skip


def _gate(value: Any, known: Mapping[str, Indicator] = INDICATORS) -> Expression:
    if isinstance(value, Expression):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected an expression such as room_start[10m] < 90%, got {describe(value)}")
    return parse_gate(value, known)


def _looked_back(value: Any) -> Any:
    """No further than an agent remembers."""
    longest = max((term.window or 0 for term in value.terms), default=0) if isinstance(value, Expression) else 0
    if longest > LONGEST or (isinstance(value, Expression) and (value.hold or 0) > LONGEST):
        raise ValueError("looks back further than 7d; what is promised for longer is an objective")
    return value


def _whole(value: Any) -> Any:
    """A text alone, or `use`, is a gate that comes along, with what is said beside it in place of its own."""
    if isinstance(value, str):
        value = {"use": value}
    if not isinstance(value, dict) or "use" not in value:
        return value
    used = value["use"]
    if not isinstance(used, str):
        raise ValueError(f"use names a gate that comes along: {', '.join(BUILT_IN)}; got {describe(used)}")
    own = {name: said for name, said in value.items() if name != "use"}
    return {"name": used, **BUILT_IN[one_of(used, tuple(BUILT_IN))], **own}


GateExpression = Annotated[
    Expression,
    BeforeValidator(lambda value: value),
    PlainValidator(lambda value: _looked_back(_gate(value))),
    WithJsonSchema({"type": "string", "examples": ["room_start[10m] < 90% and failures >= 3 for 2m"]}),
]
DrillExpression = Annotated[  # the same, and of a drill's own audience too
    Expression,
    BeforeValidator(lambda value: value),
    PlainValidator(lambda value: _looked_back(_gate(value, IN_A_DRILL))),
    WithJsonSchema({"type": "string", "examples": ["playing >= 90% and start[30s] >= 99%"]}),
]


class Gate(Model):
    """A rule with an action and an owner."""

    name: Name = Field(description="Its name.", examples=["hold-campaign"])
    when: GateExpression = Field(description="What makes it close; the grammar is in the documentation of gates.")
    resume: GateExpression | None = Field(
        None, description="What opens it again; default: that `when` has not been so for as long as its `for`."
    )
    by: Annotated[tuple[Literal["region", "publish_region", "protocol"], ...], OneOrMany()] = Field(
        ("region",), description="Judged apart for each.", examples=["region", ["region", "protocol"]]
    )
    owner: str = Field("", description="Who decides; default: the scenario's owner.", examples=["growth-lead"])
    action: str = Field(min_length=1, description="What to do when it closes.", examples=["pause campaign expansion"])
    severity: Literal["fail", "warn"] = Field("fail", description="What a closed gate makes of a run.", examples=["warn"])
    min_n: int = Field(1, ge=1, description="Fewer untainted attempts than this are inconclusive.", examples=[20])
    min_coverage: Ratio = Field(
        0.5, description="Fewer runs than this share of those due in a window are inconclusive.", examples=["50%"]
    )
    source: Literal["agent", "prometheus"] = Field(
        "agent",
        alias="from",
        description="Where an agent takes it from: its own runs, or Prometheus (agent.yaml says where that is), for all regions.",
        examples=["prometheus"],
    )
    since: Literal["release"] | None = Field(
        None, description="Windows do not reach back before the last release that the agent was told of.", examples=["release"]
    )

    @model_validator(mode="after")
    def _asked(self) -> Gate:
        if self.source == "prometheus" and self.since is not None:
            raise ValueError("since: release is of an agent's own runs; Prometheus is not asked about releases")
        return self


class GateShape:
    """Annotates Gate: a text alone is the name of one that comes along, and `use` in a mapping is, with changes."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_whole, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        gate = handler(schema)
        known = {"type": "string", "enum": list(BUILT_IN), "description": "A gate that comes along.", "examples": ["room-start"]}
        own = dict(handler.resolve_ref_schema(gate)["properties"])
        changed = {"type": "object", "properties": {"use": known, **own}, "required": ["use"], "additionalProperties": False}
        return {"anyOf": [known, changed, gate]}


AnyGate = Annotated[Gate, GateShape()]
