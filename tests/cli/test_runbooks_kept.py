"""What somebody wrote into a made runbook is never written over."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from probe.cli.rules import Asked, rules
from probe.errors import ConfigError
from tests.tools import ROOT

FLEET = ROOT / "deploy" / "stack" / "fleet.yaml"


async def test_it_stops_before_the_first_file_and_goes_on_once_that_is_moved(tmp_path: Path) -> None:
    asked, console = Asked(out=tmp_path, only=("runbooks",)), Console(quiet=True)
    assert await rules(FLEET, asked, console) == 0
    book, other = tmp_path / "runbooks" / "Watchdog.md", tmp_path / "rules" / "runbooks.yaml"
    book.write_text(book.read_text() + "Call Anna.\n")
    other.write_text("groups: []\n")
    with pytest.raises(ConfigError) as caught:
        await rules(FLEET, asked, console)
    assert f"{book} was written into; move what was added to runbooks.yaml" in str(caught.value)
    assert "Call Anna." in book.read_text() and other.read_text() == "groups: []\n"
    book.unlink()
    assert await rules(FLEET, asked, console) == 0
    assert book.exists() and "Call Anna." not in book.read_text() and other.read_text() != "groups: []\n"
