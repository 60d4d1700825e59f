"""A node cordoned: what is lost there finds no new place on it. Ours is marked by an annotation; a node that was cordoned before
is not ours to uncordon, and is refused."""

from __future__ import annotations

from typing import Any

from probe.drill.faults.base import Command, FaultIO, Klass, Observed, Prepared, Preparing, Record, Refused, State
from probe.drill.faults.kube.cluster import LABEL, Denied, asked, connected, listed


async def prepare(record: dict[str, Any], given: Preparing) -> Prepared:
    from lightkube.resources.core_v1 import Node

    async with connected(record) as client:
        node = await asked(client.get(Node, record["node"]))
        nodes = await listed(client.list(Node).__aiter__())
    if node.spec is not None and node.spec.unschedulable:
        raise Refused(f"{record['node']} is cordoned already, and not by this drill", "node")
    return Prepared(
        klass=Klass.REVERSIBLE,
        targets=(f"kubernetes:node/{record['node']}",),
        of=len(nodes),
        record=record,
        commands=(Command(do=f"kubectl cordon {record['node']}", undo=f"kubectl uncordon {record['node']}"),),
    )


async def inject(record: Record, io: FaultIO) -> None:
    await _set(record, True, io.token)


async def restore(record: Record, io: FaultIO) -> None:
    from lightkube.resources.core_v1 import Node

    async with connected(record) as client:
        try:
            node = await asked(client.get(Node, record["node"]))
        except Denied as denied:
            if denied.status == 404:
                return
            raise
    if (node.metadata.annotations or {}).get(LABEL) == io.token:
        await _set(record, None, None)


async def observe(record: Record, io: FaultIO) -> Observed:
    from lightkube.resources.core_v1 import Node

    async with connected(record) as client:
        try:
            node = await asked(client.get(Node, record["node"]))
        except Denied as denied:
            if denied.status == 404:
                return Observed(State.GONE, "the node is no more")
            raise
    cordoned = bool(node.spec is not None and node.spec.unschedulable)
    ours = (node.metadata.annotations or {}).get(LABEL) == io.token
    if ours:
        return Observed(State.INJECTED, "cordoned") if cordoned else Observed(State.UNKNOWN, "marked as ours, and not cordoned")
    return Observed(State.RESTORED, "somebody else has cordoned it; left as it is" if cordoned else "not cordoned")


async def _set(record: Record, cordoned: bool | None, token: str | None) -> None:
    from lightkube.resources.core_v1 import Node

    patch = {"metadata": {"annotations": {LABEL: token}}, "spec": {"unschedulable": cordoned}}
    async with connected(record) as client:
        await asked(client.patch(Node, record["node"], patch))
