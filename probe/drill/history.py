"""What the records say of drills that were run and rehearsals that were held; and a rehearsal as a record.

Retention takes events in the end (90 days unless the agent says otherwise): what is older has never been, and is due.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from probe.drill.core.calendar import HELD, Done
from probe.drill.core.people import Rehearsal
from probe.drill.records import ENDED
from probe.store.reader import Records
from probe.store.records import Event

REHEARSED = "rehearsal"
_MOST = 1_000


def rehearsed(rehearsal: Rehearsal, *, took_part: Sequence[str], learned: Sequence[str], at: int) -> Event:
    """That it was held, at Unix ns `at`. `took_part`: names, each with a role or without: `anna`, `anna=scribe`. Said twice in
    the same words it counts once."""
    about = {"took_part": list(took_part), "learned": list(learned), "owner": rehearsal.owner, "tags": list(rehearsal.tags)}
    said = json.dumps([rehearsal.name, at, about], sort_keys=True)
    return Event(
        event_id=f"rehearsal-{hashlib.sha256(said.encode()).hexdigest()[:32]}",
        at_ns=at,
        agent="drill",
        kind=REHEARSED,
        subject=rehearsal.name,
        who=", ".join(took_part),
        why="; ".join(learned),
        data=about,
    )


async def history(records: Records) -> tuple[Done, ...]:
    """Drills that ended and rehearsals that were held, newest first, each at most the last thousand. Raises StoreError."""
    ended = await records.events(ENDED, _MOST)
    held = await records.events(REHEARSED, _MOST)
    drills = [
        Done(name=one.subject, kind="drill", at=one.at_ns, verdict=str(one.data.get("verdict", "")), reason=one.why)
        for one in ended
    ]
    people = [
        Done(
            name=one.subject, kind="people", at=one.at_ns, verdict=HELD,
            people=_texts(one.data.get("took_part")), learned=_texts(one.data.get("learned")),
        )
        for one in held
    ]  # fmt: skip
    return tuple(sorted((*drills, *people), key=lambda one: one.at, reverse=True))


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list) else ()
