"""Every kind of fault, by the name a drill file uses. A new one is a file here and a row; third parties: an entry point of the
group `stream_probe.faults`. Loaded by name: a watchdog that guards one fault does not carry the others."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from probe.drill.faults.base import Fault

ROWS: dict[str, str] = {
    "fake": "probe.drill.faults.fake:FakeFault",  # scripted: to rehearse the drill itself
    "sandbox": "probe.drill.faults.sandbox:SandboxFault",
    "process": "probe.drill.faults.process:ProcessFault",
    "load": "probe.drill.faults.load:LoadFault",  # CPU, memory, descriptors
    "disk": "probe.drill.faults.disk:DiskFault",  # a full one, in a mount of its own
    "clock": "probe.drill.faults.clock_step:ClockFault",
    "nft": "probe.drill.faults.nft:NftFault",  # loss, cut, blackholed port, DNS answers
    "tc": "probe.drill.faults.tc:TcFault",  # rate; delay where the kernel has netem
    "dns": "probe.drill.faults.dns:DnsFault",
    "link": "probe.drill.faults.link:LinkFault",  # the path of our own clients
    "toxiproxy": "probe.drill.faults.toxiproxy:ToxiproxyFault",
    "http": "probe.drill.faults.http_hook:HttpFault",  # any platform's own switch
    "kubernetes": "probe.drill.faults.kubernetes:KubernetesFault",
    "chaos-mesh": "probe.drill.faults.chaos_mesh:ChaosMeshFault",
    "certificate": "probe.drill.faults.certificate:CertificateFault",
    "token": "probe.drill.faults.token:TokenFault",
    "activities": "probe.drill.faults.activities:ActivitiesFault",  # of a Chaos Toolkit experiment
    "viewer-storm": "probe.drill.faults.viewer_storm:ViewerStorm",
    "publisher-storm": "probe.drill.faults.publisher_storm:PublisherStorm",
}


GROUP = "stream_probe.faults"


def fault(name: str) -> Fault:
    """The fault of this name. KeyError where there is none."""
    where = ROWS[name] if name in ROWS else _third_parties()[name]
    module, _, kind = where.partition(":")
    return cast(Fault, getattr(import_module(module), kind)())


def known() -> tuple[str, ...]:
    """Every name, third parties' last."""
    return (*ROWS, *(name for name in _third_parties() if name not in ROWS))


def _third_parties() -> dict[str, str]:
    from importlib.metadata import entry_points  # slow, and seldom needed

    return {point.name: point.value for point in entry_points(group=GROUP)}
