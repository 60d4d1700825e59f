"""agent.yaml: every mistake of every file at once, each at its place; what it takes by default; what a plan of it is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from probe.agent.loading import Unusable, fingerprint, load_config
from probe.agent.schedule import Cron, Every, Span
from probe.cli.files import find, vocabulary
from probe.errors import ConfigError
from probe.model.clock import NS

BAD = Path(__file__).parent / "bad"
ENV = {
    "PLATFORM_URL": "http://127.0.0.1", "BROADCASTER_PASSWORD": "-", "VIEWER_PASSWORD": "-", "XDG_STATE_HOME": "/state",
}  # fmt: skip


def loaded(path: Path, **env: str):
    return load_config(path, env={**ENV, **env}, words=vocabulary(), find=find)


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "agent.yaml").write_text(text)
    return tmp_path / "agent.yaml"


@pytest.mark.parametrize("file", sorted(BAD.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_bad_file_gets_exactly_these_messages(file: Path, monkeypatch):
    monkeypatch.chdir(BAD)
    with pytest.raises(ConfigError) as caught:
        loaded(Path(file.name))
    assert str(caught.value) + "\n" == file.with_suffix(".txt").read_text()
    assert "hunter2" not in str(caught.value)


def test_two_lines_are_an_agent(tmp_path):
    found = loaded(written(tmp_path, "schedules:\n  start: {scenario: room-start, every: 1m}\n"), PROBE_REGION="local")
    assert found.region == "local"
    assert found.state == Path("/state/stream-probe/agent")
    assert found.config.host_and_port == ("127.0.0.1", 9464)
    prepared = found.schedules["start"]
    assert prepared.entry.when == Every(60 * NS)
    assert prepared.deadline > 60 * NS
    assert prepared.bandwidth == 6 * 800_000  # one publisher, five viewers
    first, second = (found.plan("start", 1_800_000_000 * NS, random.Random(n)) for n in (1, 2))
    assert (first.mode, first.region) == ("scheduled", "local")
    assert first.run_id != second.run_id
    assert first.seed != second.seed


def test_settings_windows_and_zones(tmp_path):
    found = loaded(written(tmp_path, """
region: local
listen: "[::1]:0"
state: /var/lib/probe
store: {url: {env: DATABASE_URL}}
workers: {memory: 1GiB}
telemetry: {spool: 0.5MB, traces: 0%}
blackouts: [{from: 2026-12-24T18:00, to: 2026-12-24T18:01, tz: Asia/Jakarta, why: freeze}]
schedules:
  night: {scenario: room-start, cron: "0 3 * * *", tz: Africa/Cairo, set: {deadlines.run: 5m}, jitter: 0%}
"""))  # fmt: skip
    assert found.config.host_and_port == ("::1", 0)
    assert found.config.workers.memory == 2**30
    assert found.config.telemetry.spool == 500_000
    entry = found.schedules["night"].entry
    assert entry.when == Cron("0 3 * * *", "Africa/Cairo")
    begin = 1_798_110_000 * NS  # 11:00 UTC
    assert entry.blackouts == (Span(begin, begin + 60 * NS),)
    assert found.schedules["night"].deadline == 330 * NS


def test_a_change_of_any_file_is_another_fingerprint(tmp_path):
    scenario = tmp_path / "room.yaml"
    scenario.write_text(find(Path("room-start")).read_text())
    found = loaded(written(tmp_path, "region: local\nschedules:\n  start: {scenario: room.yaml, every: 1m}\n"))
    assert set(found.files) == {tmp_path / "agent.yaml", scenario}
    assert fingerprint(list(found.files)) == found.files
    scenario.write_text(scenario.read_text() + "\n# changed\n")
    assert fingerprint(list(found.files)) != found.files
    scenario.unlink()
    assert fingerprint(list(found.files))[scenario] == ""


def test_paths_are_relative_to_the_file_and_a_mistake_is_told_with_all_files_it_was_found_in(tmp_path):
    assert loaded(
        written(tmp_path, "region: local\nstate: here\nschedules:\n  start: {scenario: room-start, every: 1m}\n")
    ).state == (tmp_path / "here")
    (tmp_path / "web.yaml").write_text("basic_auth_users: {probe: hunter2}\n")
    text = (
        "region: local\nweb: web.yaml\nschedules:\n  a: {scenario: gone.yaml, every: 1m}\n  b: {scenario: bad.yaml, every: 1m}\n"
    )
    (tmp_path / "bad.yaml").write_text("scenario: bad\n")
    with pytest.raises(Unusable) as caught:
        loaded(written(tmp_path, text))
    told = str(caught.value)
    assert "web.yaml:1" in told and "bad.yaml" in told and "schedules.a.scenario: cannot be read" in told
    assert "hunter2" not in told
    assert set(caught.value.files) >= {tmp_path / name for name in ("agent.yaml", "gone.yaml", "bad.yaml")}
