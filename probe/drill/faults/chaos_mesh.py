"""Objects of Chaos Mesh (chaos-mesh.org/v1alpha1), made and unmade through the cluster's API; its controller does the breaking.

Its `status.conditions` are the observation: AllInjected is seen injected, AllRecovered or the object's absence after a finished
finalizer is seen restored; an object that selects nothing is not injected, however well it was accepted. `spec.duration` is the
limit on its side: it recovers when nobody on ours lives. What is left behind: schedules and workflows; a drill has its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from probe.drill.faults.base import (
    Command,
    FaultIO,
    Klass,
    Observed,
    Params,
    Prepared,
    Preparing,
    Record,
    Refused,
    State,
)
from probe.drill.faults.kube.cluster import (
    LABEL,
    Denied,
    asked,
    connected,
    kubeconfig,
    listed,
    looking,
    refusing,
    undoing,
)
from probe.model.clock import NS

_SEEN = 15 * NS  # its controller reaches each pod's node first
Kind = Literal[
    "PodChaos", "NetworkChaos", "StressChaos", "DNSChaos", "TimeChaos", "IOChaos", "HTTPChaos", "KernelChaos", "JVMChaos"
]
_ONCE = {"PodChaos": ("pod-kill", "container-kill")}  # actions without a duration: what brings back is the pods' controller


class ChaosMesh(Params):
    """`kind` and `spec` as Chaos Mesh documents them; `duration` in it is the drill's to say."""

    kind: Kind
    namespace: str = "default"
    context: str = ""
    spec: Mapping[str, Any]


class ChaosMeshFault:
    """Row `chaos-mesh`."""

    about: ClassVar[str] = "an object of Chaos Mesh: NetworkChaos, PodChaos, StressChaos, DNSChaos, TimeChaos, IOChaos, …"
    params: ClassVar[type[Params]] = ChaosMesh

    async def prepare(self, params: ChaosMesh, given: Preparing) -> Prepared:
        if "duration" in params.spec:
            raise Refused("is the drill's to say: `for`", "spec.duration")
        once = params.spec.get("action") in _ONCE.get(params.kind, ())
        record: dict[str, Any] = {
            "kubeconfig": kubeconfig(),
            "context": params.context,
            "namespace": params.namespace,
            "kind": params.kind,
            "name": f"sp-{given.token}",
            "spec": {**params.spec, **({} if once else {"duration": f"{max(1, -(-given.lasts // NS))}s"})},
            "once": once,
            "seen_within": _SEEN,
        }
        pods, of = await refusing(lambda: self._selected(record), "spec.selector")
        named = f"{params.kind.lower()}.chaos-mesh.org {record['name']}"
        does = f"{params.kind} {params.spec.get('action', '')}".strip()
        return Prepared(
            klass=Klass.IRREVERSIBLE if once else Klass.SELF_HEALING,
            targets=tuple(f"kubernetes:{namespace}/pod/{name}" for namespace, name in pods),
            of=of,
            record=record,
            commands=(
                Command(
                    do=f"kubectl -n {params.namespace} create -f {record['name']}.yaml  # {does}",
                    undo=f"kubectl -n {params.namespace} delete {named}",
                ),
            ),
            restored_by="the pods' controllers" if once else "",
            limit="" if once else f"Chaos Mesh recovers it by itself after {record['spec']['duration']}",
        )

    async def inject(self, record: Record, io: FaultIO) -> None:
        kind = _resource(record)
        body = kind(
            apiVersion="chaos-mesh.org/v1alpha1",
            kind=record["kind"],
            metadata={"name": record["name"], "namespace": record["namespace"], "labels": {LABEL: io.token}},
            spec=record["spec"],
        )
        async with connected(record) as client:
            await asked(client.create(body))

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        return await looking(lambda: self._observe(record))

    async def restore(self, record: Record, io: FaultIO) -> None:
        async def undo() -> None:
            async with connected(record) as client:
                try:
                    await asked(client.delete(_resource(record), record["name"]))
                except Denied as denied:
                    if denied.status != 404:
                        raise

        await undoing(undo)

    async def _observe(self, record: Record) -> Observed:
        async with connected(record) as client:
            try:
                found = await asked(client.get(_resource(record), record["name"]))
            except Denied as denied:
                if denied.status == 404:
                    return Observed(State.RESTORED, "no such object")
                raise
        status = found.status or {}
        said = {c.get("type"): c.get("status") == "True" for c in status.get("conditions") or () if isinstance(c, Mapping)}
        if found.metadata.deletionTimestamp is not None:
            return Observed(State.UNKNOWN, "deleted, and still recovering: its finalizer is not done")
        if said.get("AllRecovered") and not said.get("AllInjected"):
            return Observed(State.RESTORED, "its controller says that all is recovered")
        if said.get("AllInjected"):
            return Observed(State.INJECTED, "its controller says that all is injected")
        if said and not said.get("Selected", True):
            return Observed(State.UNKNOWN, "it selects nothing")
        return Observed(State.UNKNOWN, "its controller has not said that all is injected")

    async def _selected(self, record: Record) -> tuple[list[tuple[str, str]], int]:
        """The pods that it may hit, as many as its mode takes, of how many; and that Chaos Mesh is there at all."""
        from lightkube.resources.core_v1 import Pod

        selector = record["spec"].get("selector")
        if not isinstance(selector, Mapping) or not selector:
            raise Refused("is missing: without one it would hit every pod of the namespace", "spec.selector")
        labels = selector.get("labelSelectors") or {}
        namespaces = selector.get("namespaces") or [record["namespace"]]
        async with connected(record) as client:
            try:
                await listed(client.list(_resource(record)).__aiter__())
            except Denied as denied:
                if denied.status == 404:
                    raise Refused("Chaos Mesh is not installed in this cluster", "kind") from None
                raise
            found = [
                (namespace, pod.metadata.name)
                for namespace in namespaces
                for pod in await listed(client.list(Pod, namespace=namespace, labels=dict(labels)).__aiter__())
            ]
        if not found:
            raise Refused("no pod matches", "spec.selector")
        return found[: _most(record["spec"], len(found))], len(found)


def _most(spec: Mapping[str, Any], of: int) -> int:
    """How many its mode takes, at most. Which ones is its own choice, so that the first so many stand for them."""
    try:
        value = float(spec.get("value", 100))
    except (TypeError, ValueError):
        return of
    match spec.get("mode"):
        case "one":
            return 1
        case "fixed":
            return min(of, int(value))
        case "fixed-percent" | "random-max-percent":
            return max(1, min(of, int(of * value / 100)))
        case _:
            return of


def _resource(record: Record) -> Any:
    from lightkube.generic_resource import create_namespaced_resource

    return create_namespaced_resource("chaos-mesh.org", "v1alpha1", record["kind"], record["kind"].lower())
