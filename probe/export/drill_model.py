"""The `drill` section of verdict.json: what was broken, whether it was seen, put back and noticed. The whole of it is in
scorecard.json beside it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(description="seconds")]
Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DrilledFaultDoc(_Part):
    name: str
    kind: str
    targets: list[str]
    touched: bool
    seen_injected: bool
    seen_restored: bool = Field(description="or its target is gone, and the fault with it")
    undone_by: str | None = Field(default=None, description="runner, watchdog or target")


class DrillDoc(_Part):
    """`verdict` in the drill's own words; `result` of the document is pass for pass, fail for weakness and not_restored, else
    inconclusive."""

    drill: str
    run: str
    verdict: Literal["pass", "weakness", "inconclusive", "invalid", "aborted", "not_restored"]
    reason: str
    owner: str
    faults: list[DrilledFaultDoc]
    time_to_detect_seconds: Seconds | None = Field(default=None, description="absent: nobody noticed, or nothing was seen broken")
    detected_by: str | None = None
    time_to_mitigate_seconds: Seconds | None = None
    mitigated_by: Literal["platform", "restore"] | None = None
    viewers_hit: Count
    viewers_hit_outside: Count | None = Field(default=None, description="absent: nobody watched outside")
    change: Literal["better", "same", "worse", "cannot_tell"] | None = Field(
        default=None, description="against the last run of the same drill; absent: there was none"
    )
    scorecard: str = Field(description="file beside this one")
