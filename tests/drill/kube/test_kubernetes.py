"""Faults of a cluster: through the API of a real kube-apiserver where KUBEBUILDER_ASSETS has one, else of the stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from probe.clock import SystemClock
from probe.drill.faults.base import FaultIO, Klass, NotUndone, Preparing, Refused, State
from probe.drill.faults.chaos_mesh import ChaosMesh, ChaosMeshFault
from probe.drill.faults.kubernetes import Kubernetes, KubernetesFault
from probe.model.clock import NS
from probe.net.redact import Redactor
from tests.peers.kubernetes import Cluster, cluster

TOKEN, OTHER = "0a1b2c3d", "ffffffff"
ORIGIN = {"app": "origin"}
PODS = "/api/v1/namespaces/live/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/live/deployments"
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        monkeypatch.setenv("KUBECONFIG", str(made.kubeconfig))
        yield made


def given() -> Preparing:
    return Preparing(clock=SystemClock(), token=TOKEN, lasts=30 * NS, expires=0)


def io(token: str = TOKEN) -> FaultIO:
    return FaultIO(clock=SystemClock(), token=token, expires=0, redactor=Redactor())


async def deployment(kube: Cluster, replicas: int) -> None:
    template = {"metadata": {"labels": ORIGIN}, "spec": {"containers": [{"name": "a", "image": "none"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": ORIGIN}, "template": template}
    await kube.make(DEPLOYMENTS, "origin", api="apps/v1", kind="Deployment", spec=spec)
    await sized(kube, replicas)


async def sized(kube: Cluster, replicas: int) -> None:
    """What the deployment's controller would say once there are so many."""
    now = (await kube.call("GET", f"{DEPLOYMENTS}/origin"))["metadata"]["generation"]
    status = {"replicas": replicas, "readyReplicas": replicas, "observedGeneration": now}
    await kube.set_status(f"{DEPLOYMENTS}/origin", status)


async def test_deleted_pods_are_back_when_as_many_are_ready_as_before(kube):
    fault = KubernetesFault()
    for name in ("a", "b", "c"):
        await kube.pod(name, ORIGIN)
    await kube.pod("other", {"app": "chat"})
    prepared = await fault.prepare(Kubernetes(do="delete-pods", namespace="live", pods="app=origin", most=2), given())
    assert prepared.klass is Klass.IRREVERSIBLE
    assert (len(prepared.targets), prepared.of, prepared.restored_by) == (2, 3, "ReplicaSet/origin-7f")
    assert (await fault.observe(prepared.record, io())).state is State.RESTORED

    await fault.inject(prepared.record, io())
    seen = await fault.observe(prepared.record, io())
    assert (seen.state, seen.detail) == (State.INJECTED, "2 of 2 deleted, 1 of 3 ready")
    await fault.restore(prepared.record, io())
    assert (await fault.observe(prepared.record, io())).state is State.INJECTED  # nobody has brought them back yet

    await kube.pod("d", ORIGIN)
    await kube.pod("e", ORIGIN, ready=False)
    assert (await fault.observe(prepared.record, io())).state is State.INJECTED
    await kube.set_status(f"{PODS}/e", {"conditions": [{"type": "Ready", "status": "True"}]})
    assert (await fault.observe(prepared.record, io())).state is State.RESTORED


async def test_a_pod_that_nobody_would_bring_back_is_refused(kube):
    await kube.pod("lonely", ORIGIN, owner="")
    with pytest.raises(Refused, match="lonely has no controller"):
        await KubernetesFault().prepare(Kubernetes(do="delete-pods", namespace="live", pods="app=origin"), given())


async def test_a_deployment_is_scaled_back_to_what_it_was(kube):
    fault = KubernetesFault()
    await deployment(kube, 3)
    prepared = await fault.prepare(Kubernetes(do="scale", namespace="live", deployment="origin", replicas=0), given())
    assert prepared.commands[0].undo.endswith("scale deployment origin --replicas=3")
    await fault.restore(prepared.record, io())  # nothing of ours is there yet
    assert (await fault.observe(prepared.record, io())).state is State.RESTORED

    await fault.inject(prepared.record, io())
    assert (await fault.observe(prepared.record, io())).state is State.UNKNOWN  # written, and not yet so
    await sized(kube, 0)
    assert (await fault.observe(prepared.record, io())).state is State.INJECTED
    with pytest.raises(Refused, match="has 0 replicas already|another drill holds origin"):
        await fault.prepare(Kubernetes(do="scale", namespace="live", deployment="origin", replicas=0), given())

    await fault.restore(prepared.record, io(OTHER))  # not whose it is
    await sized(kube, 0)
    assert (await fault.observe(prepared.record, io())).state is State.INJECTED
    await fault.restore(prepared.record, io())
    assert (await fault.observe(prepared.record, io())).state is State.UNKNOWN  # on its way
    await sized(kube, 3)
    await fault.restore(prepared.record, io())
    assert (await fault.observe(prepared.record, io())).state is State.RESTORED
    after = await kube.call("GET", f"{DEPLOYMENTS}/origin")
    assert after["spec"]["replicas"] == 3
    assert "stream-probe.drill" not in after["metadata"].get("annotations", {})


async def test_who_scales_it_meanwhile_keeps_what_they_made(kube):
    fault = KubernetesFault()
    await deployment(kube, 3)
    prepared = await fault.prepare(Kubernetes(do="scale", namespace="live", deployment="origin", replicas=1), given())
    await fault.inject(prepared.record, io())
    theirs = {"metadata": {"annotations": {"stream-probe.drill": None}}, "spec": {"replicas": 7}}
    await kube.call("PATCH", f"{DEPLOYMENTS}/origin", theirs, "application/merge-patch+json")
    await fault.restore(prepared.record, io())
    seen = await fault.observe(prepared.record, io())
    assert (seen.state, seen.detail) == (State.RESTORED, "somebody else has scaled it to 7; left as it is")


async def test_a_deployment_with_an_autoscaler_is_refused(kube):
    await deployment(kube, 3)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "origin"}
    path = "/apis/autoscaling/v2/namespaces/live/horizontalpodautoscalers"
    spec = {"scaleTargetRef": target, "maxReplicas": 9}
    await kube.make(path, "grow", api="autoscaling/v2", kind="HorizontalPodAutoscaler", spec=spec)
    with pytest.raises(Refused, match="the autoscaler grow would scale it back"):
        await KubernetesFault().prepare(Kubernetes(do="scale", namespace="live", deployment="origin", replicas=1), given())


async def test_a_node_is_cordoned_and_only_by_whom_uncordoned(kube):
    fault = KubernetesFault()
    await kube.make("/api/v1/nodes", "worker-1", kind="Node", spec={})
    await kube.make("/api/v1/nodes", "worker-2", kind="Node", spec={"unschedulable": True})
    with pytest.raises(Refused, match="worker-2 is cordoned already"):
        await fault.prepare(Kubernetes(do="cordon", node="worker-2"), given())
    prepared = await fault.prepare(Kubernetes(do="cordon", node="worker-1"), given())
    assert (prepared.targets, prepared.of) == (("kubernetes:node/worker-1",), 2)
    await fault.inject(prepared.record, io())
    assert (await fault.observe(prepared.record, io())).state is State.INJECTED
    await fault.restore(prepared.record, io(OTHER))
    assert (await fault.observe(prepared.record, io())).state is State.INJECTED
    await fault.restore(prepared.record, io())
    await fault.restore(prepared.record, io())
    assert (await fault.observe(prepared.record, io())).state is State.RESTORED
    await kube.call("DELETE", "/api/v1/nodes/worker-1")
    assert (await fault.observe(prepared.record, io())).state is State.GONE


async def test_pods_are_isolated_by_a_policy_of_our_own_name(kube):
    fault = KubernetesFault()
    await kube.pod("a", ORIGIN)
    await kube.pod("b", {"app": "chat"})
    prepared = await fault.prepare(Kubernetes(do="isolate", namespace="live", pods="app=origin", way="in"), given())
    assert (prepared.targets, prepared.of) == (("kubernetes:live/pod/a",), 2)
    assert (await fault.observe(prepared.record, io())).state is State.RESTORED
    await fault.inject(prepared.record, io())
    assert (await fault.observe(prepared.record, io())).state is State.INJECTED
    policies = await kube.call("GET", "/apis/networking.k8s.io/v1/namespaces/live/networkpolicies")
    assert [(p["metadata"]["name"], p["spec"]["policyTypes"]) for p in policies["items"]] == [(f"sp-{TOKEN}", ["Ingress"])]
    await fault.restore(prepared.record, io())
    await fault.restore(prepared.record, io())
    assert (await fault.observe(prepared.record, io())).state is State.RESTORED


async def test_a_cluster_that_is_away_is_unknown_and_not_undone(kube, tmp_path):
    fault = KubernetesFault()
    await kube.pod("a", ORIGIN)
    prepared = await fault.prepare(Kubernetes(do="isolate", namespace="live", pods="app=origin"), given())
    away = {**prepared.record, "kubeconfig": str(tmp_path / "away")}
    (tmp_path / "away").write_text(kube.kubeconfig.read_text().replace(kube.url, "http://127.0.0.1:1"))
    assert (await fault.observe(away, io())).state is State.UNKNOWN
    with pytest.raises(NotUndone, match="cannot be asked"):
        await fault.restore(away, io())
    missing = {**prepared.record, "kubeconfig": str(tmp_path / "none")}
    assert "no cluster can be reached" in (await fault.observe(missing, io())).detail


async def test_an_api_that_hangs_is_given_up(tmp_path, monkeypatch):
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    monkeypatch.setattr("probe.drill.faults.kube.cluster.WITHIN", 0.2)
    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    file = tmp_path / "kubeconfig"
    file.write_text(
        '{"apiVersion": "v1", "kind": "Config", "current-context": "t", "contexts": [{"name": "t", "context": {"cluster": "t", '
        f'"user": "t"}}}}], "clusters": [{{"name": "t", "cluster": {{"server": "http://127.0.0.1:{port}"}}}}], '
        '"users": [{"name": "t", "user": {"token": "x"}}]}'
    )
    monkeypatch.setenv("KUBECONFIG", str(file))
    async with server:
        with pytest.raises(Refused, match="did not answer|cannot be asked"):
            await KubernetesFault().prepare(Kubernetes(do="cordon", node="worker-1"), given())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"do": "scale", "deployment": "origin"}, "needs replicas"),
        ({"do": "cordon", "node": "a", "pods": "app=a"}, "has no use for pods"),
        ({"do": "delete-pods", "pods": "app=a", "replicas": 1}, "has no use for replicas"),
    ],
)
def test_what_a_do_needs_and_has_no_use_for(said, words):
    with pytest.raises(ValueError, match=words):
        Kubernetes.model_validate(said)


async def test_a_selector_is_equality(kube):
    with pytest.raises(Refused, match="is no selector"):
        await KubernetesFault().prepare(Kubernetes(do="delete-pods", namespace="live", pods="app!=origin"), given())


# -- Chaos Mesh: its controller cannot run here; the test says what it would say

CHAOS = "/apis/chaos-mesh.org/v1alpha1/namespaces/live/networkchaos"
LOSS = {"action": "loss", "mode": "fixed", "value": "1", "selector": {"labelSelectors": ORIGIN}, "loss": {"loss": "25"}}


async def crd(kube: Cluster) -> None:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    names = {"plural": "networkchaos", "singular": "networkchaos", "kind": "NetworkChaos"}
    spec = {"group": "chaos-mesh.org", "scope": "Namespaced", "names": names, "versions": [version]}
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await kube.make(
        path, "networkchaos.chaos-mesh.org", api="apiextensions.k8s.io/v1", kind="CustomResourceDefinition", spec=spec
    )
    for _ in range(500):
        async with kube.session.get(kube.url + CHAOS, headers={"Authorization": "Bearer test-admin-token"}) as got:
            if got.status == 200:
                return
        await asyncio.sleep(0.02)
    raise AssertionError("the resource is not served")


def said(injected: bool, recovered: bool) -> dict:
    kinds = {"Selected": True, "AllInjected": injected, "AllRecovered": recovered}
    return {"conditions": [{"type": kind, "status": str(value)} for kind, value in kinds.items()]}


async def test_chaos_mesh_says_itself_what_is_injected_and_recovered(kube):
    fault = ChaosMeshFault()
    await kube.pod("a", ORIGIN)
    await kube.pod("b", ORIGIN)
    with pytest.raises(Refused, match="Chaos Mesh is not installed"):
        await fault.prepare(ChaosMesh(kind="NetworkChaos", namespace="live", spec=LOSS), given())
    await crd(kube)
    prepared = await fault.prepare(ChaosMesh(kind="NetworkChaos", namespace="live", spec=LOSS), given())
    assert (prepared.klass, len(prepared.targets), prepared.of) == (Klass.SELF_HEALING, 1, 2)
    assert prepared.limit == "Chaos Mesh recovers it by itself after 30s"
    assert (await fault.observe(prepared.record, io())).state is State.RESTORED
    await fault.restore(prepared.record, io())

    await fault.inject(prepared.record, io())
    assert (await fault.observe(prepared.record, io())).state is State.UNKNOWN  # accepted is not injected
    path = f"{CHAOS}/sp-{TOKEN}"
    await kube.set_status(path, said(True, False))
    assert (await fault.observe(prepared.record, io())).state is State.INJECTED
    await kube.set_status(path, said(False, True))
    assert (await fault.observe(prepared.record, io())).state is State.RESTORED
    await fault.restore(prepared.record, io())
    await fault.restore(prepared.record, io())
    assert (await fault.observe(prepared.record, io())).detail == "no such object"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({**LOSS, "duration": "10m"}, "is the drill's to say"),
        ({"action": "loss", "mode": "all"}, "without one it would hit every pod"),
        ({**LOSS, "selector": {"labelSelectors": {"app": "none"}}}, "no pod matches"),
    ],
)
async def test_what_a_chaos_object_may_not_say(kube, spec, words):
    await crd(kube)
    with pytest.raises(Refused, match=words):
        await ChaosMeshFault().prepare(ChaosMesh(kind="NetworkChaos", namespace="live", spec=spec), given())
