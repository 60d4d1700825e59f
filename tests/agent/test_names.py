"""Two agents of one name: the second says whose it is, and does not start."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from probe.agent.reload import Configuration
from probe.agent.serve import opened
from probe.cli.agent import read
from probe.clock import SystemClock
from probe.errors import ConfigError
from probe.net.redact import Redactor
from tests.agent.agents import scenario


def configured(folder: Path, records: Path) -> Configuration:
    folder.mkdir()
    (folder / "one.yaml").write_text(scenario())
    file = folder / "agent.yaml"
    file.write_text(
        f"agent: eu-1\nregion: local\nstate: state\nlisten: 127.0.0.1:0\nstore: {{url: 'sqlite:///{records}'}}\n"
        "workers: {count: 1}\nschedules:\n  one: {scenario: one.yaml, every: 1h}\n"
    )
    return Configuration(read(file), lambda: read(file))


async def test_a_second_agent_of_a_name_on_the_same_records_is_refused(tmp_path: Path) -> None:
    records = tmp_path / "records.sqlite"
    async with opened(configured(tmp_path / "one", records), SystemClock(), Redactor(), listen=False):
        with pytest.raises(ConfigError) as caught:
            async with opened(configured(tmp_path / "two", records), SystemClock(), Redactor(), listen=False):
                pass
        assert f"another agent called eu-1 writes these records: on {socket.gethostname()}" in str(caught.value)
