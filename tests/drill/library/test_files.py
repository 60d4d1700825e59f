"""Every drill that comes along loads, teaches, and says before anything is touched what it would do and how that is undone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console

from probe.cli.drill_run import find_drill
from probe.clock import BootClock, SystemClock
from probe.drill.conduct import Asked, ready_for
from probe.drill.core.policy import Own
from probe.drill.dry_run import dry_run, show
from probe.drill.load import load_whole
from probe.drill.policy_file import find_policy
from probe.net.redact import Redactor
from probe.sandbox.launch import Sandbox
from tests.drill.library.play import DRILLS

pytestmark = pytest.mark.asyncio(loop_scope="module")

WANTED = {
    *("origin-restart", "edge-down", "region-isolated", "packet-loss-last-mile", "auth-slow", "chat-down", "gift-ledger-down"),
    *("dns-wrong", "token-expiry", "publisher-flaps", "reconnect-stampede", "region-failover"),
}


async def test_the_library_is_what_was_promised() -> None:
    assert {file.stem for file in DRILLS} == WANTED


@pytest.mark.parametrize("file", DRILLS, ids=lambda file: file.stem)
async def test_a_drill_is_found_by_its_name_and_prints_every_command_and_its_undo(
    sandbox: Sandbox, file: Path, tmp_path: Path
) -> None:
    assert find_drill(Path(file.stem)).samefile(file)
    loaded = load_whole(file)
    drill = loaded.drill
    assert drill.drill == file.stem
    assert drill.description
    assert drill.comms.announce.startswith("Drill:")
    assert drill.tags
    assert file.read_text().startswith("# ")  # it says what it is about before it says how
    redactor = Redactor()
    asked = Asked(
        loaded=loaded, policy=find_policy(None, os.environ), own=Own(sandbox=True), clock=SystemClock(), redactor=redactor,
        state=tmp_path, out=tmp_path,
    )  # fmt: skip
    ready = await ready_for(asked)
    with (tmp_path / "dry").open("w+") as told:
        document = dry_run(loaded, ready, asked.policy, redactor, BootClock().now())
        show(document, Console(file=told, width=4000))
        told.seek(0)
        text = told.read()
    for one in ready:
        for command in one.prepared.commands:
            assert command.do in text
            assert command.undo in text
    assert sandbox.admin_token not in text
    assert (await sandbox.state())["faults"] == []


async def test_drills_have_owners_who_are_not_all_one() -> None:
    assert len({load_whole(file, env={**os.environ, **_ANY}).drill.owner for file in DRILLS}) >= 4


_ANY = {"BROADCASTER_PASSWORD": "-", "VIEWER_PASSWORD": "-", "PLATFORM_URL": "http://127.0.0.1"}
