"""A calendar, drills that there are, and what was done."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from probe.drill.core.calendar import HELD, Done, Kind, Known
from probe.drill.core.campaigns import Campaigns

S = 10**9
DAY = 86_400 * S


def at(text: str) -> int:
    """Unix ns of a moment, UTC."""
    return int(datetime.fromisoformat(text + "+00:00").timestamp()) * S


NOW = at("2026-12-01T12:00")
ORIGIN = Known(name="origin", kind="drill", owner="media-sre", tags=("network", "payment"))
GIFTS = Known(name="gifts", kind="drill", owner="growth", tags=("payment",))
ROOM = Known(name="war-room", kind="people", owner="lead")
KNOWN = (ORIGIN, GIFTS, ROOM)


def calendar(**changes: Any) -> Campaigns:
    return Campaigns.model_validate({"calendar": "live", "policy": [{"every": "30d"}], **changes})


def campaign(**changes: Any) -> dict[str, Any]:
    failures = [{"failure": "The origin dies", "drill": "origin", "owner": "sre-on-duty"}]
    return {
        "from": "2026-12-10T18:00", "to": "2026-12-11T02:00", "tz": "UTC", "owner": "growth-lead", "failures": failures,
        **changes,
    }  # fmt: skip


def done(name: str, when: str, verdict: str = "pass", kind: Kind = "drill", **more: Any) -> Done:
    return Done(name=name, kind=kind, at=at(when), verdict=HELD if kind == "people" else verdict, **more)
