"""Every fault is prepared and judged before anything is touched, and told of without being touched."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from probe.drill.core.policy import BUILT_IN, Own
from probe.drill.dry_run import dry_run, show
from probe.drill.policy_file import load_policy
from probe.drill.prepare import targets
from probe.errors import ConfigError
from probe.net.redact import Redactor
from tests.drill.file.support import GOOD, loaded, ready

MINE = Own(processes=frozenset({1, 2}))


async def test_every_fault_has_a_token_of_its_own_and_its_expiry(tmp_path: Path):
    found = await ready(loaded(tmp_path), BUILT_IN, MINE)
    assert [(one.use.name, one.prepared.targets, one.expires) for one in found] == [
        ("stopped", ("process:origin/1",), 9 * 10**9),
        ("edge", ("process:edge/1",), 13 * 10**9),
    ]
    assert all(len(one.token) == 8 and int(one.token, 16) >= 0 for one in found)
    assert found[0].token != found[1].token
    assert targets(found) == ("process:origin/1", "process:edge/1")


async def test_what_a_host_cannot_do_and_what_the_policy_forbids_is_told_at_once_each_in_its_place(tmp_path: Path):
    text = GOOD.replace("who: edge, delay: 2s", "who: here") + "# the end\n"
    text = text.replace("meanwhile:", "  - third: {fault: stop, at: 9s, for: 8s, with: {who: nobody}}\nmeanwhile:")
    file = loaded(tmp_path, text)
    policy = tmp_path / "policy.yaml"
    policy.write_text("drill_policy: a\nowner: b\nallow: [{targets: clients:*}]\n")
    with pytest.raises(ConfigError) as caught:
        await ready(file, load_policy(policy, env={}))
    assert str(caught.value).replace(str(tmp_path) + "/", "").splitlines() == [
        "drill.yaml:8:43 stopped.with: process:origin/1 is outside of what may be touched: policy.yaml:3 allows clients:*",
        "drill.yaml:9:19 edge.fault: this kernel cannot do it",
        "drill.yaml:10:55 third.with.who: there is no process nobody",
    ]


async def test_two_kinds_of_fault_that_find_one_target_are_refused(tmp_path: Path):
    text = GOOD.replace("who: edge, delay: 2s", "who: origin, delay: 2s")
    with pytest.raises(ConfigError, match=r"drill\.yaml:9:5 edge: and stopped hit process:origin/1 at the same time"):
        await ready(loaded(tmp_path, text), BUILT_IN, MINE)


async def test_a_dry_run_tells_every_command_and_its_undo_and_no_secret(tmp_path: Path):
    file = loaded(tmp_path, GOOD.replace("who: edge,", "who: s3cret-edge, klass: irreversible, restored_by: systemd,"))
    redactor = Redactor("s3cret-edge")
    found = await ready(file, BUILT_IN, MINE, redactor=redactor)
    document = dry_run(file, found, BUILT_IN, redactor, 0)
    text = json.dumps(document)
    assert "s3cret" not in text
    assert document["faults"][0] | {"token": ""} == {
        "name": "stopped", "kind": "stop", "class": "reversible", "begins": "0s", "lasts": "8s", "targets": ["process:origin/1"],
        "share": "1 of 3", "commands": [{"do": "kill -STOP origin", "undo": "kill -CONT origin"}], "restored_by": "",
        "limit": "systemd's watchdog", "token": "", "expires_in": "9s",
    }  # fmt: skip
    assert document["faults"][1]["restored_by"] == "systemd"
    assert document["length"] == {"at_most": "1m52s", "steady": "40s", "broken": "12s", "recovery": "1m"}
    assert document["abort"] == [str(one) for one in file.drill.abort]
    printed = io.StringIO()
    show(document, Console(file=printed, width=200))
    for words in (
        "nothing was touched",
        "kill -STOP origin",
        "kill -CONT origin",
        "brought back by: systemd",
        "10% of an error budget",
    ):
        assert words in printed.getvalue()
    assert "s3cret" not in printed.getvalue()


async def test_a_dry_run_names_what_has_no_undo(tmp_path: Path, monkeypatch):
    from probe.drill.faults.base import Command
    from tests.drill.file import faults

    monkeypatch.setattr(faults, "Command", lambda do, undo: Command(do, ""))
    text = GOOD.replace("who: origin}", "who: origin, klass: irreversible, restored_by: systemd}")
    found = await ready(file := loaded(tmp_path, text), BUILT_IN, MINE)
    commands = [fault["commands"] for fault in dry_run(file, found, BUILT_IN, Redactor(), 0)["faults"]]
    assert commands[0] == [{"do": "kill -STOP origin", "undo": "cannot be put back"}]
