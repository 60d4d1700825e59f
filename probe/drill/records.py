"""What is kept of a drill in the records: that it began, each fault, and how it ended, with its score; events like any other.

Put twice they count once (their ids come of the drill's run). A score is JSON of the usual size: texts beyond 4,000 characters,
lists beyond 500 items and what lies deeper than eight levels are cut by the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from probe.drill.core.facts import FaultDid
from probe.store.reader import Records
from probe.store.records import Event
from probe.store.store import Store

BEGAN, FAULT, ENDED = "drill_began", "drill_fault", "drill_ended"
_LAST = 50  # of the drill, looked through for the one before


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """A drill that is over. `score` as it was put."""

    drill: str
    run: str
    at_ns: int
    owner: str
    verdict: str
    reason: str
    score: Mapping[str, Any]


def record_began(store: Store, *, drill: str, run: str, at_ns: int, owner: str, about: Mapping[str, Any]) -> bool:
    """`about`: scenario, regions, targets and what else is worth keeping. As Store.put: never raises, never waits."""
    return store.put(_event(BEGAN, drill, run, at_ns, who=owner, data=about, key="began"))


def record_fault(store: Store, *, drill: str, run: str, at_ns: int, fact: FaultDid) -> bool:
    """`at_ns` is the fact's in Unix ns."""
    about = {"fault": fact.fault, "kind": fact.kind, "did": str(fact.did), "targets": list(fact.targets), "by": fact.by}
    return store.put(_event(FAULT, drill, run, at_ns, why=fact.detail, data=about, key=f"{fact.fault}-{fact.did}-{fact.at}"))


def record_drill(
    store: Store, *, drill: str, run: str, at_ns: int, owner: str, verdict: str, reason: str, score: Mapping[str, Any]
) -> bool:
    """It is over."""
    about = {"verdict": verdict, "score": score}
    return store.put(_event(ENDED, drill, run, at_ns, who=owner, why=reason, data=about, key="ended"))


async def last_drill(records: Records, drill: str, *, before: str = "") -> Drilled | None:
    """How it ended last; of runs that came before the run `before`, which need not have ended. None where it never ran. Raises
    StoreError."""
    for event in await records.events(ENDED, _LAST, subject=drill):
        run = str(event.data.get("run", ""))
        if not before or run < before:
            return Drilled(
                drill=drill,
                run=run,
                at_ns=event.at_ns,
                owner=event.who,
                verdict=str(event.data.get("verdict", "")),
                reason=event.why,
                score=_mapping(event.data.get("score")),
            )
    return None


def _event(
    kind: str, drill: str, run: str, at_ns: int, *, data: Mapping[str, Any], key: str, who: str = "", why: str = ""
) -> Event:
    about = {"run": run, **data}
    return Event(event_id=f"{run}-{key}", at_ns=at_ns, agent="drill", kind=kind, subject=drill, who=who, why=why, data=about)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
