"""A process paused, stopped, killed, restarted: real ones, each started by its test."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from probe.drill.faults import pins, selection, systemd
from probe.drill.faults.base import Klass, NotUndone, State
from probe.drill.faults.comeback import MARK
from probe.drill.faults.process import ProcessParams
from tests.drill.host.tools import label, pids_with, prepared, proc_state, refusal
from tests.tools import Child, requires_root, spawn, wait_until

_SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
_SHUTS_DOWN_SLOWLY = """
import signal, sys, time
def end(*_):
    time.sleep(.4)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print('up', flush=True)
time.sleep(60)
"""
_NEVER_LISTENS = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
_HAS_A_THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print('up', flush=True)
time.sleep(60)
"""
# Starts its child anew whenever it ends, as runit or a container's restart policy does.
_SUPERVISES = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(child.kill()))
while True:
    child = subprocess.Popen(sys.argv[1:])
    print('up', flush=True)
    child.wait()
"""
_SUPERVISOR = {"supervisor": "the test starts it anew"}


def _command(text: str, word: str) -> list[str]:
    return [sys.executable, "-S", "-c", text, word]


@contextmanager
def _running(tmp_path: Path, word: str, count: int = 1, text: str = _SLEEPS) -> Iterator[list[Child]]:
    with ExitStack() as stack:
        children = [stack.enter_context(spawn(_command(text, word), tmp_path / f"{word}-{n}.log")) for n in range(count)]
        ends = time.monotonic() + 10
        while len(pids_with(word)) < count:  # the kernel shows a command line a moment after the program has begun
            assert time.monotonic() < ends
        try:
            yield children
        finally:
            for child in children:
                child.popen.kill()


@contextmanager
def _none_left(word: str) -> Iterator[None]:
    """What a test's drill started itself is nobody's child."""
    try:
        yield
    finally:
        for pid in pids_with(word):
            os.kill(pid, signal.SIGKILL)


async def _up(children: list[Child]) -> None:
    for child in children:
        await child.says("up")


async def test_a_pause_stops_the_process_is_seen_from_outside_and_put_back_twice_over(tmp_path):
    word = label()
    with _running(tmp_path, word) as [child]:
        course = await prepared("process", {"do": "pause", "target": {"matching": word}})
        assert course.prepared.klass is Klass.REVERSIBLE
        assert course.prepared.targets[0].startswith("process:python") and course.prepared.targets[0].endswith(f"/{child.pid}")
        assert course.prepared.commands[0].do.startswith(f"kill -STOP {child.pid}")
        assert course.prepared.commands[0].undo == f"kill -CONT {child.pid}"
        assert (await course.look()).state is State.RESTORED
        await course.restore()  # nothing was injected
        assert proc_state(child.pid) in "SR"
        await course.inject()
        await course.sees(State.INJECTED)
        assert proc_state(child.pid) == "T"
        await course.restore()
        await course.sees(State.RESTORED)
        await course.restore()
        assert proc_state(child.pid) in "SR" and child.running()


async def test_another_process_continues_it_from_the_record_alone(tmp_path):
    word = label()
    with _running(tmp_path, word) as [child]:
        course = await prepared("process", {"do": "pause", "target": {"pid": child.pid}})
        await course.inject()
        await course.sees(State.INJECTED)
        assert (await course.undone_elsewhere()).startswith("restored")
        assert proc_state(child.pid) in "SR"


async def test_a_process_that_ends_while_it_is_paused_is_gone_also_as_a_zombie(tmp_path):
    word = label()
    with _running(tmp_path, word) as [child]:
        course = await prepared("process", {"do": "pause", "target": {"pid": child.pid}})
        await course.inject()
        await course.sees(State.INJECTED)
        os.kill(child.pid, signal.SIGKILL)
        await wait_until(lambda: proc_state(child.pid) == "Z")  # nobody has collected it
        assert (await course.look()).state is State.GONE
        await course.restore()
        child.popen.wait()
        assert (await course.look()).state is State.GONE


async def test_a_pid_that_is_anothers_by_now_is_never_signalled(tmp_path):
    word = label()
    with _running(tmp_path, word) as [child]:
        for do in ("pause", "stop", "kill"):
            with_ = {"do": do, "target": {"pid": child.pid}} | ({} if do == "pause" else {"restored_by": _SUPERVISOR})
            course = await prepared("process", with_)
            # As it is when the kernel has given the id anew: same number, another start.
            stale = {**course.record, "pins": [{**pin, "start": pin["start"] - 1} for pin in course.record["pins"]]}
            await course.fault.inject(stale, course.io)
            assert proc_state(child.pid) in "SR" and child.running()
            other_boot = {**course.record, "boot": "another"}
            await course.fault.inject(other_boot, course.io)
            assert proc_state(child.pid) in "SR" and child.running()
        os.kill(child.pid, signal.SIGSTOP)  # the stranger was stopped by somebody: it is not ours to continue
        await wait_until(lambda: proc_state(child.pid) == "T")
        course = await prepared("process", {"do": "pause", "target": {"pid": (neighbour := _another(tmp_path)).pid}})
        try:
            stale = {**course.record, "pins": [{**course.record["pins"][0], "pid": child.pid}]}
            await course.fault.restore(stale, course.io)
            assert proc_state(child.pid) == "T"
            assert (await course.fault.observe(stale, course.io)).state is State.GONE
        finally:
            neighbour.kill()
            neighbour.wait()


def _another(tmp_path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], cwd=tmp_path)


async def test_a_process_that_another_has_stopped_is_refused(tmp_path):
    word = label()
    with _running(tmp_path, word) as [child]:
        os.kill(child.pid, signal.SIGSTOP)
        await wait_until(lambda: proc_state(child.pid) == "T")
        assert "stopped already, and not by us" in await refusal("process", {"do": "pause", "target": {"pid": child.pid}})
        os.kill(child.pid, signal.SIGCONT)


async def test_one_of_the_matching_three_is_hit_and_the_other_two_are_left(tmp_path):
    word = label()
    with _running(tmp_path, word, count=3) as children:
        await _up(children)
        for how in ({"most": 1}, {"share": "34%"}, {"most": 2, "share": "50%"}):
            course = await prepared("process", {"do": "pause", "target": {"matching": word, **how}})
            assert (len(course.prepared.targets), course.prepared.of) == (1, 3)
        await course.inject()
        await course.sees(State.INJECTED)
        assert sorted(proc_state(child.pid) == "T" for child in children) == [False, False, True]
        await course.restore()
        await course.sees(State.RESTORED)
        said = await refusal("process", {"do": "pause", "target": {"matching": word}})
        assert "3 processes" in said and "most: 1" in said
        assert "that share is none" in await refusal("process", {"do": "pause", "target": {"matching": word, "share": "33%"}})


@pytest.mark.parametrize("way", ["pid_file", "name", "command", "matching"])
async def test_a_target_is_found_by_pid_file_name_command_line_and_pattern(tmp_path, way):
    word = label()[:15]  # the kernel keeps so much of a name
    program = tmp_path / word
    program.symlink_to("/bin/sleep")
    with spawn([program, "60"], tmp_path / "log") as child:
        await wait_until(lambda: pids_with(word))
        (tmp_path / "pid").write_text(f"{child.pid}\n")
        target = {"pid_file": str(tmp_path / "pid"), "name": word, "command": f"{program} 60", "matching": rf"{word} \d+$"}[way]
        course = await prepared("process", {"do": "pause", "target": {way: target}})
        assert course.prepared.targets == (f"process:{word}/{child.pid}",)


async def test_what_must_never_be_hit_is_refused_or_passed_over(tmp_path):
    pause = {"do": "pause"}
    assert "first process" in await refusal("process", {**pause, "target": {"pid": 1}})
    assert "this drill" in await refusal("process", {**pause, "target": {"pid": os.getpid()}})
    assert "this drill" in await refusal("process", {**pause, "target": {"pid": os.getppid()}})
    for kernel in [one.pin.pid for one in pins.everyone() if one.kernel][:1]:  # a container shows none
        assert "kernel" in await refusal("process", {**pause, "target": {"pid": kernel}})
    with spawn(_command(_SLEEPS, "probe.drill.watchdog"), tmp_path / "watchdog.log") as watchdog:
        await watchdog.says("up")
        assert "keeps a drill safe" in await refusal("process", {**pause, "target": {"pid": watchdog.pid}})
        assert "no process" in await refusal("process", {**pause, "target": {"matching": r"probe\.drill\.watchdog$"}})
    mine = " ".join(pins.arguments(os.getpid()))
    assert "no process" in await refusal("process", {**pause, "target": {"command": mine}})


async def test_what_is_not_there_or_is_no_process_is_refused_with_what_to_do(tmp_path):
    pause = {"do": "pause"}
    assert "no process" in await refusal("process", {**pause, "target": {"matching": label()}})
    assert "cannot be read" in await refusal("process", {**pause, "target": {"pid_file": str(tmp_path / "none")}})
    (tmp_path / "words").write_text("-1")
    assert "no process id" in await refusal("process", {**pause, "target": {"pid_file": str(tmp_path / "words")}})
    with _running(tmp_path, label()) as [child]:
        os.kill(child.pid, signal.SIGKILL)
        await wait_until(lambda: proc_state(child.pid) == "Z")
        assert "waits to be collected" in await refusal("process", {**pause, "target": {"pid": child.pid}})
        child.popen.wait()
        assert "there is no process" in await refusal("process", {**pause, "target": {"pid": child.pid}})
    if not systemd.runs():
        assert "systemd does not run here" in await refusal("process", {**pause, "target": {"unit": "nginx"}})


async def test_a_thread_is_no_process(tmp_path):
    with _running(tmp_path, label(), text=_HAS_A_THREAD) as [child]:
        await child.says("up")
        thread = next(int(entry) for entry in os.listdir(f"/proc/{child.pid}/task") if int(entry) != child.pid)
        assert "a thread" in await refusal("process", {"do": "pause", "target": {"pid": thread}})


async def test_one_that_this_user_may_not_signal_is_refused(tmp_path):
    requires_root("to become somebody else")
    with _running(tmp_path, label()) as [child]:
        await child.says("up")
        os.setresuid(65534, 65534, 0)
        try:
            assert "may not be signalled" in await refusal("process", {"do": "pause", "target": {"pid": child.pid}})
        finally:
            os.setresuid(0, 0, 0)


@pytest.mark.parametrize("do", ["stop", "kill", "restart"])
async def test_what_has_no_undo_must_say_what_brings_it_back(do):
    with pytest.raises(ValidationError, match="has no undo: say what brings it back"):
        ProcessParams.model_validate({"do": do, "target": {"name": "nginx"}})
    assert ProcessParams.model_validate({"do": do, "target": {"unit": "nginx"}}).way_back.words == "systemctl start nginx.service"
    with pytest.raises(ValidationError, match="one thing brings it back"):
        ProcessParams.model_validate({"do": do, "target": {"name": "nginx"}, "restored_by": {"unit": "a", "supervisor": "b"}})


async def test_a_killed_process_is_brought_back_by_its_command_once_however_often_it_is_said(tmp_path):
    word = label()
    with _none_left(word), _running(tmp_path, word) as [child]:
        await child.says("up")
        command = _command(_SLEEPS, word)
        with_ = {"do": "kill", "target": {"matching": word}, "restored_by": {"command": command}, "back": {"settled": "200ms"}}
        course = await prepared("process", with_)
        assert course.prepared.klass is Klass.IRREVERSIBLE and word in course.prepared.restored_by
        assert "no undo; brought back by:" in course.prepared.commands[0].undo
        assert (await course.look()).state is State.RESTORED
        await course.restore()  # nothing was injected: nothing is started
        assert pids_with(word) == [child.pid]
        await course.inject()
        await course.sees(State.INJECTED)
        await wait_until(lambda: not pids_with(word))
        for _ in range(3):
            await course.restore()
        await course.sees(State.RESTORED)
        [new] = pids_with(word)
        assert new != child.pid
        environment = Path(f"/proc/{new}/environ").read_bytes().split(b"\0")
        assert f"{MARK}=sp-{course.io.token}".encode() in environment
        assert not any(b"PYTEST" in one for one in environment)  # what we know is not handed on
        await course.restore()
        assert pids_with(word) == [new]


async def test_another_process_brings_it_back_and_both_at_once_do_it_once(tmp_path):
    word = label()
    with _none_left(word), _running(tmp_path, word) as [child]:
        await child.says("up")
        with_ = {
            "do": "kill",
            "target": {"pid": child.pid},
            "restored_by": {"command": _command(_SLEEPS, word)},
            "back": {"settled": "0s"},
        }
        course = await prepared("process", with_)
        assert word not in str(course.record["like"])  # a command line may hold what a ledger must not
        await course.inject()
        await course.sees(State.INJECTED)
        await course.undone_elsewhere()
        await course.restore()
        await course.sees(State.RESTORED)
        assert len(pids_with(word)) == 1


async def test_a_command_that_brings_nothing_back_leaves_it_not_restored(tmp_path):
    word = label()
    with _running(tmp_path, word) as [child]:
        await child.says("up")
        with_ = {"do": "kill", "target": {"matching": word}, "restored_by": {"command": ["/bin/true"]}}
        course = await prepared("process", with_)
        await course.inject()
        await course.sees(State.INJECTED)
        await course.restore()
        assert (await course.look()).state is State.INJECTED
        said = await refusal("process", {"do": "kill", "target": {"pid": child.pid}, "restored_by": _SUPERVISOR})
        assert "waits to be collected" in said


async def test_a_supervisors_work_is_seen_as_injected_first_however_fast_it_is(tmp_path):
    word = label()
    line = f"sleep 61.{int(word[-6:], 16)}"
    with spawn([sys.executable, "-S", "-c", _SUPERVISES, *line.split()], tmp_path / "log") as supervisor:
        await supervisor.says("up")
        [first] = [one.pin.pid for one in pins.everyone() if " ".join(pins.arguments(one.pin.pid)) == line]
        with_ = {"do": "kill", "target": {"command": line}, "restored_by": {"supervisor": "the loop"}}
        course = await prepared("process", with_)
        assert "the loop" in course.prepared.limit
        await course.inject()
        await wait_until(lambda: supervisor.text().count("up") == 2)
        assert (await course.look()).state is State.INJECTED  # it is there, and has not settled
        seen = await course.sees(State.RESTORED)
        assert str(first) not in seen.detail


async def test_only_one_of_the_same_name_that_began_since_is_called_back(tmp_path):
    """Not who was there before and has the pattern in its command line, nor a stranger whose id stands in an old pid file."""
    word = label()
    with _running(tmp_path, word) as [child], spawn(["sleep", "60"], tmp_path / "stranger.log") as stranger:
        back = {"settled": "0s"}
        by_pattern = await prepared(
            "process", {"do": "kill", "target": {"matching": word}, "restored_by": _SUPERVISOR, "back": back}
        )
        (tmp_path / "pid").write_text(str(child.pid))
        by_file = await prepared(
            "process",
            {"do": "kill", "target": {"pid_file": str(tmp_path / "pid")}, "restored_by": _SUPERVISOR, "back": back},
        )
        with spawn(["sh", "-c", f"sleep 60; : {word}"], tmp_path / "loose.log"):
            await wait_until(lambda: len(pids_with(word)) == 2)
            await by_pattern.inject()
            await by_pattern.sees(State.INJECTED)
            (tmp_path / "pid").write_text(str(stranger.pid))
            assert (await by_file.look()).state is State.INJECTED
            with _running(tmp_path, word, count=1, text=_SLEEPS + "  # anew") as [new]:
                (tmp_path / "pid").write_text(str(new.pid))
                await by_pattern.sees(State.RESTORED)
                await by_file.sees(State.RESTORED)


async def test_a_kill_that_was_cut_off_halfway_is_restored_when_as_many_are_there_as_before(tmp_path):
    word = label()
    with _none_left(word), _running(tmp_path, word, count=3) as children:
        with_ = {
            "do": "kill",
            "target": {"matching": word, "most": 2},
            "restored_by": {"command": _command(_SLEEPS, word)},
            "back": {"settled": "0s"},
        }
        course = await prepared("process", with_)
        os.kill(int(course.prepared.targets[0].rpartition("/")[2]), signal.SIGKILL)
        await course.sees(State.UNKNOWN)
        await course.restore()
        await course.sees(State.RESTORED)
        assert len(pids_with(word)) == 3 and sum(child.running() for child in children) == 2


async def test_stop_lets_a_process_end_in_its_own_way_and_kills_what_does_not_listen(tmp_path):
    for text, code in ((_SHUTS_DOWN_SLOWLY, 0), (_NEVER_LISTENS, -signal.SIGKILL)):
        word = label()
        with _running(tmp_path, word, text=text) as [child]:
            await child.says("up")
            with_ = {"do": "stop", "target": {"matching": word}, "restored_by": _SUPERVISOR, "grace": "1s"}
            course = await prepared("process", with_)
            await course.inject()
            assert (await course.look()).state is State.INJECTED
            assert child.popen.wait() == code


async def test_an_undo_waits_for_one_that_was_told_to_end_and_is_at_it(tmp_path):
    """The runner was killed between the signal and the end: a process that still runs would be called restored, and then end."""
    word = label()
    with _none_left(word), _running(tmp_path, word, text=_SHUTS_DOWN_SLOWLY) as [child]:
        await child.says("up")
        with_ = {
            "do": "stop",
            "target": {"matching": word},
            "restored_by": {"command": _command(_SLEEPS, word)},
            "back": {"settled": "0s"},
        }
        course = await prepared("process", with_)
        os.kill(child.pid, signal.SIGTERM)
        await course.restore()
        await course.sees(State.RESTORED)
        assert child.popen.wait() == 0 and len(pids_with(word)) == 1


async def test_restart_ends_it_and_brings_it_back_in_one(tmp_path):
    word = label()
    with _none_left(word), _running(tmp_path, word) as [child]:
        await child.says("up")
        with_ = {
            "do": "restart",
            "target": {"matching": word},
            "restored_by": {"command": _command(_SLEEPS, word)},
            "back": {"settled": "300ms"},
        }
        course = await prepared("process", with_)
        await course.inject()
        assert (await course.look()).state is State.INJECTED
        await course.sees(State.RESTORED)
        assert child.popen.wait() == -signal.SIGTERM and len(pids_with(word)) == 1


async def test_back_means_that_it_answers_too(tmp_path):
    word = label()
    with socket.create_server(("127.0.0.1", 0)) as server, _running(tmp_path, word) as [child]:
        await child.says("up")
        back = {"settled": "0s", "tcp": f"127.0.0.1:{server.getsockname()[1]}"}
        with_: dict[str, Any] = {"do": "kill", "target": {"matching": word}, "restored_by": _SUPERVISOR, "back": back}
        course = await prepared("process", with_)
        await course.inject()
        await course.sees(State.INJECTED)
        with _running(tmp_path, word, text=_SLEEPS + "  # anew"):
            await course.sees(State.RESTORED)
            server.close()
            seen = await course.look()
            assert seen.state is State.INJECTED and "cannot be reached" in seen.detail
            assert "does not answer before anything is broken" in await refusal("process", with_)


async def test_a_health_check_that_hangs_is_bounded(tmp_path):
    word = label()
    with socket.create_server(("127.0.0.1", 0)) as silent, _running(tmp_path, word):
        back = {"http": f"http://127.0.0.1:{silent.getsockname()[1]}/health"}
        with_ = {"do": "kill", "target": {"matching": word}, "restored_by": _SUPERVISOR, "back": back}
        async with asyncio.timeout(10):
            assert "within 1 s" in await refusal("process", with_)


_SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$(dirname "$0")/told"
case "$1" in
show) cat "$(dirname "$0")/unit" ;;
esac
"""


@pytest.fixture
def units(tmp_path, monkeypatch):
    """systemctl as a script: what it is told stands in `told`, what a unit is in `unit`."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "systemctl"
    program.write_text(_SYSTEMCTL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(systemd, "_BOOTED", str(tmp_path))
    return tmp_path / "bin"


async def test_a_units_main_process_is_hit_and_the_unit_started_anew(tmp_path, units):
    word = label()
    with _running(tmp_path, word, count=2) as [child, other]:
        (units / "unit").write_text(f"MainPID={child.pid}\nLoadState=loaded\n")
        course = await prepared("process", {"do": "kill", "target": {"unit": "origin"}, "back": {"settled": "0s"}})
        assert course.prepared.restored_by == "systemctl start origin.service"
        assert course.prepared.targets[0].endswith(f"/{child.pid}")
        await course.inject()
        (units / "unit").write_text("MainPID=0\nLoadState=loaded\n")
        await course.sees(State.INJECTED)
        await course.restore()
        assert "--no-block start -- origin.service" in (units / "told").read_text()
        (units / "unit").write_text(f"MainPID={other.pid}\nLoadState=loaded\n")
        await course.sees(State.RESTORED)
        (units / "unit").write_text("LoadState=not-found\nMainPID=0\n")
        assert "no unit" in await refusal("process", {"do": "kill", "target": {"unit": "origin"}})
        (units / "unit").write_text("LoadState=loaded\nMainPID=0\n")
        assert "does not run" in await refusal("process", {"do": "kill", "target": {"unit": "origin"}})


async def test_a_systemctl_that_fails_is_an_undo_that_failed(tmp_path, units):
    word = label()
    with _running(tmp_path, word) as [child]:
        (units / "unit").write_text(f"MainPID={child.pid}\nLoadState=loaded\n")
        course = await prepared("process", {"do": "kill", "target": {"unit": "origin"}})
        await course.inject()
        await course.sees(State.INJECTED)
        (units / "systemctl").write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n")
        with pytest.raises(NotUndone, match="Failed to connect to bus"):
            await course.restore()


async def test_a_systemctl_that_hangs_is_bounded(units, monkeypatch):
    monkeypatch.setattr(systemd, "_WITHIN", 0.3)
    (units / "systemctl").write_text("#!/bin/sh\nexec sleep 60\n")
    async with asyncio.timeout(10):
        assert "took longer than 0.3 s" in await refusal("process", {"do": "kill", "target": {"unit": "origin"}})


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({}, "in one way"),
        ({"pid": 1, "name": "a"}, "in one way"),
        ({"pid": 4, "most": 1}, "name one process"),
        ({"matching": "("}, "regular expression"),
        ({"pid_file": "run/x.pid"}, "absolute path"),
        ({"unit": "-rf.service"}, "not the name of a service"),
        ({"unit": "a b"}, "not the name of a service"),
    ],
)
def test_a_selection_that_cannot_be_is_told(target, said):
    with pytest.raises(ValidationError, match=said):
        selection.Selection.model_validate(target)
