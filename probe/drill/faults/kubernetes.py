"""Kubernetes through its API: pods deleted, a deployment scaled, a node cordoned, pods isolated. One `do` a use, one file each
under `kube/`. What they make bears the drill's token as name, label or annotation; nothing else is put back."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Protocol, Self

from pydantic import Field, model_validator

from probe.drill.faults.base import FaultIO, Observed, Params, Prepared, Preparing, Record
from probe.drill.faults.kube import cordon, isolate, pods, scale
from probe.drill.faults.kube.cluster import kubeconfig, looking, refusing, undoing
from probe.model.clock import NS
from probe.scenario.units import Duration, Ratio

_INJECT, _SEEN = 15 * NS, 15 * NS  # a call for each pod, and controllers that get round to it


class _Doing(Protocol):
    """A file of `kube/`: what a Fault does, for one `do`. Raises Denied."""

    async def prepare(self, record: dict[str, Any], given: Preparing) -> Prepared: ...
    async def inject(self, record: Record, io: FaultIO) -> None: ...
    async def observe(self, record: Record, io: FaultIO) -> Observed: ...
    async def restore(self, record: Record, io: FaultIO) -> None: ...


_DO: dict[str, _Doing] = {"delete-pods": pods, "scale": scale, "cordon": cordon, "isolate": isolate}
_NEEDS = {"delete-pods": ("pods",), "scale": ("deployment", "replicas"), "cordon": ("node",), "isolate": ("pods",)}
_ALSO = {"delete-pods": ("most", "share", "grace"), "isolate": ("way",)}


class Kubernetes(Params):
    """`do` decides what else is needed: delete-pods (pods; most or share; grace), scale (deployment, replicas), cordon (node),
    isolate (pods; way). `context` of the kubeconfig; empty: the current one, or the pod's own account."""

    do: Literal["delete-pods", "scale", "cordon", "isolate"]
    context: str = ""
    namespace: str = "default"
    pods: str = Field(default="", description="labels: app=origin,tier=edge")
    most: int = Field(default=1, ge=1, le=100)
    share: Ratio | None = None
    grace: Duration = 0
    deployment: str = ""
    replicas: int | None = Field(default=None, ge=0, le=10_000)
    node: str = ""
    way: Literal["in", "out", "both"] = "both"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name in _NEEDS[self.do]:
            if getattr(self, name) in ("", None):
                raise ValueError(f"do: {self.do} needs {name}")
        allowed = {"do", "context", "namespace", *_NEEDS[self.do], *_ALSO.get(self.do, ())}
        if foreign := sorted(self.model_fields_set - allowed):
            raise ValueError(f"do: {self.do} has no use for {', '.join(foreign)}")
        return self


class KubernetesFault:
    """Row `kubernetes`."""

    about: ClassVar[str] = "pods deleted, a deployment scaled, a node cordoned, pods isolated, through a cluster's API"
    params: ClassVar[type[Params]] = Kubernetes

    async def prepare(self, params: Kubernetes, given: Preparing) -> Prepared:
        own = ("do", "context", "namespace", *_NEEDS[params.do], *_ALSO.get(params.do, ()))
        record: dict[str, Any] = {"kubeconfig": kubeconfig(), **{name: getattr(params, name) for name in own}}
        record |= {"inject_within": _INJECT, "seen_within": _SEEN}
        return await refusing(lambda: _DO[params.do].prepare(record, given), (*_NEEDS[params.do], "do")[0])

    async def inject(self, record: Record, io: FaultIO) -> None:
        await _DO[record["do"]].inject(record, io)

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        return await looking(lambda: _DO[record["do"]].observe(record, io))

    async def restore(self, record: Record, io: FaultIO) -> None:
        await undoing(lambda: _DO[record["do"]].restore(record, io))
