"""Every bad file of tests/drill/bad beside its exact messages: all mistakes at once, each at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.drill.load import load_whole
from probe.errors import ConfigError
from tests.drill.file.faults import KINDS, kind

BAD = Path(__file__).parent.parent / "bad"
FILES = sorted(file for file in BAD.iterdir() if file.suffix in (".yaml", ".json"))


def mistakes(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_whole(file.name, env={}, kinds=KINDS, kind=kind)
    return str(caught.value) + "\n"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_bad_drill_gets_exactly_these_messages(file: Path, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert mistakes(file) == file.with_suffix(".txt").read_text()


def test_every_bad_file_has_its_messages_and_every_message_its_file():
    assert {file.stem for file in FILES} == {file.stem for file in BAD.glob("*.txt")}
    assert len(FILES) > 15


def test_a_file_that_is_not_there_is_told():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read: No such file"):
        load_whole("nowhere.yaml", env={}, kinds=KINDS, kind=kind)
