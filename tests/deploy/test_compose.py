"""compose.yaml: everything it mounts is there, nothing it opens is open to others, and every service is hardened."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.test_configurations import DEPLOY, documents

SERVICES: dict[str, dict[str, Any]] = documents("compose.yaml")[0]["services"]


def test_the_chain_has_all_its_parts() -> None:
    assert set(SERVICES) == {"sandbox", "agent", "collector", "prometheus", "rules", "alertmanager", "pager", "grafana", "nats"}
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["nats"]  # nothing uses it yet


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_write_only_where_it_must_and_gains_nothing(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_it_mounts_is_there_and_its_ports_are_this_machines_own(name: str) -> None:
    service = SERVICES[name]
    volumes = documents("compose.yaml")[0]["volumes"]
    for mount in service.get("volumes", ()):
        source = mount.split(":")[0]
        if source.startswith("."):
            assert (DEPLOY / source).exists(), mount
            assert mount.endswith(":ro"), mount
        else:
            assert source in volumes, mount
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:"), port


def test_images_of_others_are_of_one_version() -> None:
    for name, service in SERVICES.items():
        assert service["image"] == "stream-probe" or ":" in service["image"], name
