"""Every bad file of tests/config/bad beside its exact messages: all mistakes at once, each at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.errors import ConfigError
from probe.scenario.load import load

BAD = Path(__file__).parent.parent / "config" / "bad"
ENV = {"EVIL": "${secret.token}"}


@pytest.mark.parametrize("file", sorted(BAD.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_bad_file_gets_exactly_these_messages(file: Path, monkeypatch):
    monkeypatch.chdir(file.parent)
    with pytest.raises(ConfigError) as caught:
        load(file.name, env=ENV)
    assert str(caught.value) + "\n" == file.with_suffix(".txt").read_text()


def test_every_bad_file_has_its_messages_and_every_message_its_file():
    assert {f.stem for f in BAD.glob("*.yaml")} == {f.stem for f in BAD.glob("*.txt")}
    assert len(list(BAD.glob("*.yaml"))) > 20
