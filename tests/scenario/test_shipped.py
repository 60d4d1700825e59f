"""The scenarios that come with the product: each is valid with the variables it names, and says what it was run against."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from probe.cli.files import vocabulary
from probe.errors import ConfigError
from probe.model.ids import RunIds
from probe.planning import make_plan
from probe.scenario.load import load
from probe.scenario.schema import Scenario
from tests.tools import ROOT

SHIPPED = sorted(p for p in (ROOT / "scenarios").glob("*.yaml") if "\nscenario:" in p.read_text())
SERVERS = {
    "ant-media", "aws-ivs", "cloudflare-stream", "livekit", "mediamtx", "nginx-rtmp", "node-media-server", "ovenmediaengine",
    "srs",
}  # fmt: skip
NEEDED = {
    "room-start": {"PLATFORM_URL": "https://live.example.com", "BROADCASTER_PASSWORD": "b", "VIEWER_PASSWORD": "v"},
    "every-way": {"RTMP_URL": "rtmp://live.example.com/live", "BROADCASTER_PASSWORD": "b", "VIEWER_PASSWORD": "v"},
    "drill-room": {"BROADCASTER_PASSWORD": "b", "VIEWER_PASSWORD": "v"},
    "livekit": {"LIVEKIT_WHIP_TOKEN": "w", "LIVEKIT_ADMIN_TOKEN": "a"},
    "cloudflare-stream": {
        "CF_CUSTOMER": "abc", "CF_RTMPS_INPUT": "u1", "CF_STREAM_KEY": "k", "CF_WHIP_INPUT": "u2",
        "CF_WHIP_URL": "https://customer-abc.cloudflarestream.com/s/webRTC/publish",
    },
    "aws-ivs": {
        "IVS_INGEST": "a.global-contribute.live-video.net", "IVS_STREAM_KEY": "k",
        "IVS_PLAYBACK_ORIGIN": "https://b.playback.live-video.net", "IVS_PLAYBACK_URL": "https://b.playback.live-video.net/c.m3u8",
    },
}  # fmt: skip


def loaded(file: Path) -> Scenario:
    return load(file, env=NEEDED.get(file.stem, {}), words=vocabulary(), secrets=True)


def test_a_file_is_there_for_every_server_that_is_promised():
    assert {file.stem for file in SHIPPED} >= SERVERS


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_scenario_is_valid_and_makes_a_plan_with_what_it_names(file: Path):
    scenario = loaded(file)
    assert scenario.name == file.stem and scenario.description
    for region in scenario.regions:
        plan = make_plan(scenario, region, 1, RunIds("r", 1, 1), mode="smoke")
        assert plan.journey


@pytest.mark.parametrize("file", [f for f in SHIPPED if f.stem in NEEDED], ids=lambda file: file.stem)
def test_each_variable_it_cannot_do_without_is_named_where_it_is_missing(file: Path):
    for name in NEEDED[file.stem]:
        with pytest.raises(ConfigError, match=name):
            load(file, env={k: v for k, v in NEEDED[file.stem].items() if k != name}, words=vocabulary(), secrets=True)


@pytest.mark.parametrize("file", [f for f in SHIPPED if f.stem in SERVERS], ids=lambda file: file.stem)
def test_its_first_comment_says_how_it_is_called_and_what_it_was_run_against(file: Path):
    comment = "\n".join(line[2:] for line in file.read_text().split("\nscenario:")[0].splitlines())
    assert f"scenarios/{file.name}" in comment
    assert re.search(r"^Run on \d{4}-\d\d-\d\d against \S+ ?\S* v?\d+\.\d+|^Not run", comment, re.MULTILINE), comment


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_no_secret_is_written_down(file: Path):
    """Keys, tokens and passphrases are the environment's, by name; what a key may hold else is the name of the stream."""
    for line in file.read_text().splitlines():
        if line.lstrip().startswith("#"):
            continue
        for value in re.findall(r"\b(?:passphrase|token|credential|password): *([^,}\s]+)", line):
            assert re.match(r'"?\$\{|\{env$|\{env:|token$', value), line
        for value in re.findall(r"\bkey: *(\S+)", line):
            assert value.startswith(('"${', '"probe-${run.number}')), line
