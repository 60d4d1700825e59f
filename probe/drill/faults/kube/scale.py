"""A deployment scaled. Ours is marked by an annotation; where somebody else has scaled it since, theirs is left."""

from __future__ import annotations

from typing import Any

from probe.drill.faults.base import Command, FaultIO, Klass, Observed, Prepared, Preparing, Record, Refused, State
from probe.drill.faults.kube.cluster import LABEL, Denied, asked, connected, listed


async def prepare(record: dict[str, Any], given: Preparing) -> Prepared:
    from lightkube.resources.apps_v1 import Deployment
    from lightkube.resources.autoscaling_v2 import HorizontalPodAutoscaler

    name, wanted = record["deployment"], record["replicas"]
    async with connected(record) as client:
        deployment = await asked(client.get(Deployment, name))
        scalers = await listed(client.list(HorizontalPodAutoscaler).__aiter__())
    before = deployment.spec.replicas if deployment.spec.replicas is not None else 1
    if before == wanted:
        raise Refused(f"{name} has {before} replicas already", "replicas")
    if LABEL in (deployment.metadata.annotations or {}):
        raise Refused(f"another drill holds {name}: its annotation {LABEL} says so", "deployment")
    owner = next((s.metadata.name for s in scalers if (t := s.spec.scaleTargetRef).kind == "Deployment" and t.name == name), None)
    if owner is not None and wanted != 0:  # at 0 an autoscaler is off
        raise Refused(f"the autoscaler {owner} would scale it back", "deployment")
    record |= {"before": before, "ready": deployment.status.readyReplicas or 0 if deployment.status else 0}
    scale = f"kubectl -n {record['namespace']} scale deployment {name} --replicas="
    return Prepared(
        klass=Klass.REVERSIBLE,
        targets=(f"kubernetes:{record['namespace']}/deployment/{name}",),
        of=1,
        record=record,
        commands=(Command(do=f"{scale}{wanted}", undo=f"{scale}{before}"),),
    )


async def inject(record: Record, io: FaultIO) -> None:
    await _set(record, record["replicas"], io.token)


async def restore(record: Record, io: FaultIO) -> None:
    try:
        if await _holder(record) == io.token:
            await _set(record, record["before"], None)
    except Denied as denied:
        if denied.status != 404:
            raise


async def observe(record: Record, io: FaultIO) -> Observed:
    from lightkube.resources.apps_v1 import Deployment

    async with connected(record) as client:
        try:
            deployment = await asked(client.get(Deployment, record["deployment"]))
        except Denied as denied:
            if denied.status == 404:
                return Observed(State.GONE, "the deployment is no more")
            raise
    ours = (deployment.metadata.annotations or {}).get(LABEL) == io.token
    status = deployment.status
    # What is said of a generation before ours is said of another size.
    settled = status is not None and (status.observedGeneration or 0) >= (deployment.metadata.generation or 0)
    there = ((status.replicas or 0) if status else 0, (status.readyReplicas or 0) if status else 0)
    if not ours:
        if deployment.spec.replicas != record["before"]:
            return Observed(State.RESTORED, f"somebody else has scaled it to {deployment.spec.replicas}; left as it is")
        if settled and there[1] >= record["ready"]:
            return Observed(State.RESTORED, f"{there[1]} ready")
        return Observed(State.UNKNOWN, f"scaled back, {there[1]} of {record['ready']} ready")
    if settled and there[0] == record["replicas"]:
        return Observed(State.INJECTED, f"{there[0]} replicas")
    return Observed(State.UNKNOWN, f"{there[0]} replicas on the way to {record['replicas']}")


async def _holder(record: Record) -> str | None:
    from lightkube.resources.apps_v1 import Deployment

    async with connected(record) as client:
        deployment = await asked(client.get(Deployment, record["deployment"]))
    holder: str | None = (deployment.metadata.annotations or {}).get(LABEL)
    return holder


async def _set(record: Record, replicas: int, token: str | None) -> None:
    """Size and mark in one write, so that neither is there without the other."""
    from lightkube.resources.apps_v1 import Deployment

    patch = {"metadata": {"annotations": {LABEL: token}}, "spec": {"replicas": replicas}}
    async with connected(record) as client:
        await asked(client.patch(Deployment, record["deployment"], patch))
