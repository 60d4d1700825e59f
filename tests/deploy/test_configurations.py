"""Each agent.yaml of deploy/ loads as its place would load it, and what has to agree with another file does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from probe.agent.loading import Loaded, load_config
from probe.cli.files import find, vocabulary
from probe.model.clock import NS
from tests.tools import ROOT, requires

DEPLOY = ROOT / "deploy"
SAMPLE = {"PLATFORM_URL": "https://live.example", "PROBE_REGION": "eu"}
PLACES = {
    "stack": {**SAMPLE, "SANDBOX_ENVIRONMENT": "/run/sandbox/environment"},
    "systemd": {**SAMPLE, "CREDENTIALS_DIRECTORY": "/run/credentials/stream-probe-agent.service"},
    "kubernetes/base": SAMPLE,
}


def documents(path: str) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all(DEPLOY / path))


def loaded(place: str, **more: str) -> Loaded:
    return load_config(DEPLOY / place / "agent.yaml", env={**PLACES[place], **more}, words=vocabulary(), find=find)


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)s?", text)
    assert found, text
    return float(found[1])


def test_every_agent_yaml_is_known_here() -> None:
    assert {str(file.parent.relative_to(DEPLOY)) for file in DEPLOY.rglob("agent.yaml")} == set(PLACES)


@pytest.mark.parametrize("place", PLACES)
def test_it_loads_with_all_its_scenarios_and_names_no_secret_but_by_reference(place: str) -> None:
    found = loaded(place)
    assert found.schedules
    for prepared in found.schedules.values():
        for secret in prepared.scenario.platform.secrets.values():
            assert secret.env is None, "what a test run takes from the environment is a file or a command here"


def test_an_agent_says_who_it_is_by_its_region_and_a_one_shot_is_another() -> None:
    assert loaded("kubernetes/base").config.agent == "eu-1"
    assert loaded("kubernetes/base", PROBE_ROLE="once").config.agent == "eu-once"


def test_whoever_stops_an_agent_waits_longer_than_its_runs_have_to_end() -> None:
    pod = documents("kubernetes/base/deployment.yaml")[0]["spec"]["template"]["spec"]
    patience = {
        "stack": seconds(documents("compose.yaml")[0]["services"]["agent"]["stop_grace_period"]),
        "systemd": seconds(unit()["TimeoutStopSec"]),
        "kubernetes/base": pod["terminationGracePeriodSeconds"],
    }
    for place, waits in patience.items():
        assert waits >= loaded(place).config.workers.grace / NS + 20, place  # spools and sockets


def test_memory_limits_hold_the_agent_and_what_its_workers_may_take() -> None:
    def needs(place: str) -> float:
        workers = loaded(place).config.workers
        return workers.memory * workers.count + 200 * 2**20

    container = documents("kubernetes/base/deployment.yaml")[0]["spec"]["template"]["spec"]["containers"][0]
    assert int(container["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20 >= needs("kubernetes/base")
    assert int(unit()["MemoryMax"].removesuffix("M")) * 2**20 >= needs("systemd")


def unit() -> dict[str, str]:
    """The unit's settings, of repeated ones the last."""
    text = (DEPLOY / "systemd" / "stream-probe-agent.service").read_text()
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def test_prometheus_takes_its_configuration() -> None:
    promtool = requires("promtool", package="prometheus")
    command = [promtool, "check", "config", str(DEPLOY / "stack" / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_units_credentials_are_those_that_its_scenarios_read() -> None:
    text = (DEPLOY / "systemd" / "stream-probe-agent.service").read_text()
    given = set(re.findall(r"^LoadCredential=([\w-]+):", text, re.MULTILINE))
    folder = Path(PLACES["systemd"]["CREDENTIALS_DIRECTORY"])
    read = [
        secret.file for prepared in loaded("systemd").schedules.values() for secret in prepared.scenario.platform.secrets.values()
    ]
    assert {Path(file) for file in read if file} == {folder / name for name in given}
