"""The manifests are valid against Kubernetes' own schemas, nothing unknown in them, and what one names another has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.test_configurations import DEPLOY

BASE = DEPLOY / "kubernetes" / "base"
OVERLAYS = sorted((DEPLOY / "kubernetes" / "overlays").iterdir())
MANIFESTS = [*sorted(BASE.glob("*.yaml")), DEPLOY / "kubernetes" / "secret.example.yaml"]
OURS = ("agent.yaml", "go-live.yaml", "kustomization.yaml")  # no objects of a cluster
VERSIONS = ("1.29", "1.33")


def read() -> Iterator[dict[str, Any]]:
    """Every object, as a cluster reads it: YAML 1.1."""
    for file in MANIFESTS:
        if file.name not in OURS:
            yield from yaml.safe_load_all(file.read_text())


OBJECTS = list(read())
KUSTOMIZATION = yaml.safe_load((BASE / "kustomization.yaml").read_text())


def the(kind: str) -> dict[str, Any]:
    """The only object of its kind."""
    (found,) = [one for one in OBJECTS if one["kind"] == kind]
    return found


PODS = {
    "deployment": the("Deployment")["spec"]["template"]["spec"],
    "once": the("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"],
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", OBJECTS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_a_manifest_is_valid_and_holds_nothing_unknown(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_an_unknown_field_would_be_noticed() -> None:
    wrong = {**the("Service"), "spec": {"selectors": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_the_base_has_every_file_and_each_overlay_says_its_region() -> None:
    listed = set(KUSTOMIZATION["resources"])
    listed |= {file for made in KUSTOMIZATION["configMapGenerator"] for file in made.get("files", ())}
    assert listed == {file.name for file in BASE.iterdir()} - {"kustomization.yaml"}
    assert {overlay.name for overlay in OVERLAYS} == {"eu", "us", "apac"}
    for overlay in OVERLAYS:
        found = yaml.safe_load((overlay / "kustomization.yaml").read_text())
        assert found["resources"] == ["../../base"]
        assert found["nameSuffix"] == f"-{overlay.name}"
        (merged,) = found["configMapGenerator"]
        assert f"PROBE_REGION={overlay.name}" in merged["literals"]


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_a_pod_runs_without_any_right_that_it_could_lose(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_all_that_a_pod_mounts_and_reads_is_there(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    claims = {one["metadata"]["name"] for one in OBJECTS if one["kind"] == "PersistentVolumeClaim"}
    made = {one["name"] for one in KUSTOMIZATION["configMapGenerator"]}
    secret = the("Secret")["metadata"]["name"]
    for volume in pod["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in claims
        if "configMap" in volume:
            assert volume["configMap"]["name"] in made
        if "secret" in volume:
            assert volume["secret"] == {"secretName": secret, "defaultMode": 0o440}
    assert [source["configMapRef"]["name"] for source in container["envFrom"]] == ["stream-probe-environment"]


def test_two_agents_never_run_at_once_and_one_that_is_not_ready_is_still_scraped() -> None:
    spec = the("Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    service = the("Service")["spec"]
    assert service["publishNotReadyAddresses"] is True
    assert service["selector"] == spec["selector"]["matchLabels"]


def test_the_kubelet_asks_for_health_and_readiness() -> None:
    (container,) = PODS["deployment"]["containers"]
    asked = {kind: container[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}


def test_a_one_shot_is_another_agent_and_its_no_go_is_not_tried_again() -> None:
    job = the("CronJob")["spec"]["jobTemplate"]["spec"]
    (container,) = PODS["once"]["containers"]
    assert container["args"][-1] == "--once"
    assert {"name": "PROBE_ROLE", "value": "once"} in container["env"]
    assert job["backoffLimit"] == 0
    assert [v["persistentVolumeClaim"]["claimName"] for v in PODS["once"]["volumes"] if "persistentVolumeClaim" in v] == [
        "stream-probe-once-state"
    ]
