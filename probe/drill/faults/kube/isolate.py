"""Pods isolated by a NetworkPolicy of our own name. That the policy is there is all the API can tell: whether the network plugin
keeps it shows in what viewers see, and a drill that asks nothing of them is no drill."""

from __future__ import annotations

from typing import Any

from probe.drill.faults.base import Command, FaultIO, Klass, Observed, Prepared, Preparing, Record, Refused, State
from probe.drill.faults.kube.cluster import LABEL, Denied, asked, connected, listed, selector

_TYPES = {"in": ["Ingress"], "out": ["Egress"], "both": ["Ingress", "Egress"]}


async def prepare(record: dict[str, Any], given: Preparing) -> Prepared:
    from lightkube.resources.core_v1 import Pod

    async with connected(record) as client:
        everybody = await listed(client.list(Pod).__aiter__())
        hit = await listed(client.list(Pod, labels=dict(selector(record["pods"]))).__aiter__())
    if not hit:
        raise Refused(f"no pod matches {record['pods']} in {record['namespace']}", "pods")
    name = f"sp-{given.token}"
    record |= {"name": name}
    words = {"in": "into", "out": "out", "both": "into or out"}[record["way"]]
    return Prepared(
        klass=Klass.REVERSIBLE,
        targets=tuple(f"kubernetes:{record['namespace']}/pod/{pod.metadata.name}" for pod in hit),
        of=len(everybody),
        record=record,
        commands=(
            Command(
                do=f"kubectl -n {record['namespace']} apply -f {name}.yaml  # NetworkPolicy: nothing {words} of {record['pods']}",
                undo=f"kubectl -n {record['namespace']} delete networkpolicy {name}",
            ),
        ),
    )


async def inject(record: Record, io: FaultIO) -> None:
    from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
    from lightkube.models.networking_v1 import NetworkPolicySpec
    from lightkube.resources.networking_v1 import NetworkPolicy

    policy = NetworkPolicy(
        metadata=ObjectMeta(name=record["name"], namespace=record["namespace"], labels={LABEL: io.token}),
        spec=NetworkPolicySpec(
            podSelector=LabelSelector(matchLabels=selector(record["pods"])), policyTypes=_TYPES[record["way"]]
        ),
    )
    async with connected(record) as client:
        await asked(client.create(policy))


async def restore(record: Record, io: FaultIO) -> None:
    from lightkube.resources.networking_v1 import NetworkPolicy

    async with connected(record) as client:
        try:
            await asked(client.delete(NetworkPolicy, record["name"]))
        except Denied as denied:
            if denied.status != 404:
                raise


async def observe(record: Record, io: FaultIO) -> Observed:
    from lightkube.resources.networking_v1 import NetworkPolicy

    async with connected(record) as client:
        try:
            await asked(client.get(NetworkPolicy, record["name"]))
        except Denied as denied:
            if denied.status == 404:
                return Observed(State.RESTORED, "no such policy")
            raise
    return Observed(State.INJECTED, f"NetworkPolicy {record['name']}")
