"""Actions, rollbacks and probes of an experiment as a fault: run by chaoslib itself, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from probe.clock import SystemClock
from probe.drill.faults import activities
from probe.drill.faults.activities import Activities, ActivitiesFault
from probe.drill.faults.base import FaultIO, Klass, NotUndone, Observed, Preparing, Refused, State
from probe.errors import ProbeError
from probe.model.clock import NS
from probe.net.redact import Redactor

GIVEN = Preparing(clock=SystemClock(), token="0a1b2c3d", lasts=NS, expires=0)
IO = FaultIO(clock=SystemClock(), token="0a1b2c3d", expires=0, redactor=Redactor())


def process(name: str, *command: str, kind: str = "action", **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "name": name,
        "provider": {"type": "process", "path": command[0], "arguments": list(command[1:])},
        **more,
    }


def switch(folder: Path, **changed: Any) -> Activities:
    """Broken while a file is there."""
    said = {
        "target": "process:origin",
        "actions": (process("break", "touch", str(folder / "broken")),),
        "rollbacks": (process("mend", "rm", "-f", str(folder / "broken")),),
        "probes": (process("is it broken", "test", "-e", str(folder / "broken"), kind="probe", tolerance=0),),
    }
    return Activities.model_validate(said | changed)


async def test_what_its_probes_say_counts(tmp_path):
    fault = ActivitiesFault()
    prepared = await fault.prepare(switch(tmp_path), GIVEN)
    assert (prepared.klass, prepared.targets) == (Klass.REVERSIBLE, ("process:origin", "experiment:origin"))
    assert prepared.commands[0].do == "break: touch"
    assert not (tmp_path / "broken").exists()
    record = json.loads(json.dumps(prepared.record))
    assert (await fault.observe(record, IO)).state is State.RESTORED
    await fault.restore(record, IO)
    await fault.inject(record, IO)
    assert (await fault.observe(record, IO)).state is State.INJECTED
    await fault.restore(record, IO)
    assert (await fault.observe(record, IO)).state is State.RESTORED


async def test_an_action_that_fails_is_no_injection_whatever_their_runner_thinks_of_it(tmp_path):
    fault = ActivitiesFault()
    for action, words in (
        (process("break", "false"), "exit code 1"),
        ({"type": "action", "name": "break", "provider": {"type": "http", "url": "http://127.0.0.1:1/"}}, "ActivityFailed"),
        ({"type": "action", "name": "break", "provider": {"type": "python", "module": "json", "func": "loads"}}, "break"),
    ):
        record = (await fault.prepare(switch(tmp_path, actions=(action,)), GIVEN)).record
        with pytest.raises(ProbeError, match=words):
            await fault.inject(record, IO)
        assert (await fault.observe(record, IO)).state is State.RESTORED


async def test_a_rollback_that_fails_is_not_undone(tmp_path):
    fault = ActivitiesFault()
    record = (await fault.prepare(switch(tmp_path, rollbacks=(process("mend", "false"),)), GIVEN)).record
    await fault.inject(record, IO)
    with pytest.raises(NotUndone, match="rollback 'mend' failed: exit code 1"):
        await fault.restore(record, IO)
    assert (await fault.observe(record, IO)).state is State.INJECTED


async def test_probes_that_disagree_or_fail_tell_nothing(tmp_path):
    fault = ActivitiesFault()
    yes, no = (process(name, name, kind="probe", tolerance=0) for name in ("true", "false"))
    record = (await fault.prepare(switch(tmp_path, probes=(yes, no)), GIVEN)).record
    assert await fault.observe(record, IO) == Observed(State.UNKNOWN, "1 of 2 probes are met")
    away = {"type": "probe", "name": "ask", "tolerance": 200, "provider": {"type": "http", "url": "http://127.0.0.1:1/"}}
    record = (await fault.prepare(switch(tmp_path, probes=(away,)), GIVEN)).record
    assert (await fault.observe(record, IO)).state is State.UNKNOWN


async def test_what_hangs_or_dies_is_given_up_with_all_it_started(tmp_path, monkeypatch):
    fault = ActivitiesFault()
    record = (await fault.prepare(switch(tmp_path, rollbacks=(process("mend", "sleep", "1234567"),)), GIVEN)).record
    monkeypatch.setattr(activities, "_WITHIN", 1.5)
    with pytest.raises(NotUndone, match="took longer than"):
        await fault.restore(record, IO)
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _readable(path)]
    assert not any(b"1234567" in command for command in running)
    monkeypatch.setattr(activities, "_WITHIN", 30.0)
    leave = {
        "type": "action",
        "name": "leave",
        "provider": {"type": "python", "module": "os", "func": "_exit", "arguments": {"status": 3}},
    }
    record = (await fault.prepare(switch(tmp_path, rollbacks=(leave,)), GIVEN)).record
    with pytest.raises(NotUndone, match="ended without an answer"):
        await fault.restore(record, IO)


def _readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


async def test_what_it_says_on_stdout_is_no_answer(tmp_path):
    shout = {"type": "action", "name": "shout", "provider": {"type": "python", "module": "builtins", "func": "print"}}
    fault = ActivitiesFault()
    record = (await fault.prepare(switch(tmp_path, rollbacks=(shout,)), GIVEN)).record
    await fault.restore(record, IO)


async def test_secrets_are_references_and_reach_the_activity(tmp_path, monkeypatch):
    fault = ActivitiesFault()
    with pytest.raises(Refused, match=r"origin.token is written down"):
        await fault.prepare(switch(tmp_path, secrets={"origin": {"token": "hunter2"}}), GIVEN)
    monkeypatch.setenv("ORIGIN_TOKEN", str(tmp_path / "secret"))
    named = {"origin": {"token": {"type": "env", "key": "ORIGIN_TOKEN"}}}
    action = process("break", "touch", "${token}", secrets=["origin"])
    prepared = await fault.prepare(switch(tmp_path, secrets=named, actions=(action,)), GIVEN)
    await fault.inject(prepared.record, IO)
    assert "secret" not in json.dumps(prepared.record).replace("secrets", "")


async def test_what_could_not_be_put_back_or_seen_is_refused(tmp_path, monkeypatch):
    with pytest.raises(Refused, match="has no rollbacks"):
        await ActivitiesFault().prepare(switch(tmp_path, rollbacks=()), GIVEN)
    with pytest.raises(ValueError, match="at least 1 item"):
        switch(tmp_path, probes=())
    (tmp_path / "chaoslib").mkdir()
    (tmp_path / "chaoslib" / "__init__.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(Refused, match=r"pip install 'stream-probe\[chaostoolkit\]'"):
        await ActivitiesFault().prepare(switch(tmp_path), GIVEN)
