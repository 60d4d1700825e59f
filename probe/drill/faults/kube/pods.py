"""Pods deleted. There is no undo: their controller makes new ones, and as many must be ready again as were before."""

from __future__ import annotations

import random
from typing import Any

from probe.drill.faults.base import Command, FaultIO, Klass, Observed, Prepared, Preparing, Record, Refused, State
from probe.drill.faults.kube.cluster import Denied, asked, connected, listed, ready, selector
from probe.model.clock import NS


async def prepare(record: dict[str, Any], given: Preparing) -> Prepared:
    from lightkube.resources.core_v1 import Pod

    async with connected(record) as client:
        found = await listed(client.list(Pod, labels=dict(selector(record["pods"]))).__aiter__())
    alive = sorted((pod for pod in found if pod.metadata.deletionTimestamp is None), key=lambda pod: pod.metadata.name)
    if not alive:
        raise Refused(f"no pod matches {record['pods']} in {record['namespace']}", "pods")
    most, share = record.pop("most"), record.pop("share")
    count = min(len(alive), max(1, int(len(alive) * share)) if share is not None else most)
    hit = sorted(random.Random(given.token).sample(alive, count), key=lambda pod: pod.metadata.name)
    owners = sorted({f"{o.kind}/{o.name}" for pod in hit for o in pod.metadata.ownerReferences or () if o.controller})
    if orphans := [p.metadata.name for p in hit if not any(o.controller for o in p.metadata.ownerReferences or ())]:
        raise Refused(f"{orphans[0]} has no controller: nothing would bring it back", "pods")
    record |= {
        "victims": {pod.metadata.name: pod.metadata.uid for pod in hit},
        "ready": sum(map(ready, alive)),
    }
    names = [pod.metadata.name for pod in hit]
    return Prepared(
        klass=Klass.IRREVERSIBLE,
        targets=tuple(f"kubernetes:{record['namespace']}/pod/{name}" for name in names),
        of=len(alive),
        record=record,
        commands=tuple(
            Command(
                do=f"kubectl -n {record['namespace']} delete pod {name} --grace-period={record['grace'] // NS}",
                undo=f"none: {', '.join(owners)} makes another; {record['ready']} are to be ready again",
            )
            for name in names
        ),
        restored_by=", ".join(owners),
    )


async def inject(record: Record, io: FaultIO) -> None:
    from lightkube.resources.core_v1 import Pod

    async with connected(record) as client:
        for name, uid in record["victims"].items():
            try:
                pod = await asked(client.get(Pod, name))
                if pod.metadata.uid == uid:
                    await asked(client.delete(Pod, name, grace_period=record["grace"] // NS))
            except Denied as denied:
                if denied.status != 404:  # it went by itself
                    raise


async def restore(record: Record, io: FaultIO) -> None:
    """Nothing: whether its controller made another is for `observe` to say."""


async def observe(record: Record, io: FaultIO) -> Observed:
    """Injected: one of them is gone, and fewer are ready than before."""
    from lightkube.resources.core_v1 import Pod

    async with connected(record) as client:
        found = await listed(client.list(Pod, labels=dict(selector(record["pods"]))).__aiter__())
    uids = {pod.metadata.uid for pod in found if pod.metadata.deletionTimestamp is None}
    gone = [name for name, uid in record["victims"].items() if uid not in uids]
    serving = sum(map(ready, found))
    if not gone:
        return Observed(State.RESTORED, "the pods are as they were")
    if serving >= record["ready"]:
        return Observed(State.RESTORED, f"{len(gone)} replaced, {serving} ready")
    return Observed(State.INJECTED, f"{len(gone)} of {len(record['victims'])} deleted, {serving} of {record['ready']} ready")
