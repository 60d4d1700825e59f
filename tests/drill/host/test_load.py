"""CPU, memory and open files taken by processes that end by themselves; a running process that may open no more."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from probe.clock import boottime
from probe.drill.faults.base import Klass, State
from probe.drill.faults.load import LoadParams
from probe.errors import ProbeError
from tests.drill.host.tools import Course, label, pids_with, prepared, proc_state, refusal
from tests.tools import ROOT, missing, requires_root, spawn, wait_until

_MIB = 1 << 20
# Opens what it is told to on its input, and says how that went.
_OPENS = """
import os, sys
held = []
for line in sys.stdin:
    try:
        held.append(os.open('/dev/null', os.O_RDONLY))
        print('opened', len(held), flush=True)
    except OSError as error:
        print('refused', error.errno, flush=True)
"""
_A_RUNNER = """
import asyncio, json, sys
from probe.clock import SystemClock
from probe.drill.faults.base import FaultIO
from probe.drill.faults.table import fault
from probe.net.redact import Redactor
order = json.load(sys.stdin)
io = FaultIO(clock=SystemClock(), token=order["token"], expires=order["expires"], redactor=Redactor())
asyncio.run(fault("load").inject(order["record"], io))
print("injected", flush=True)
sys.stdin.read()
import time; time.sleep(60)
"""


def _marked(course: Course) -> list[int]:
    return pids_with(f"--sp-token=sp-{course.io.token}")


async def _round(course: Course, count: int) -> None:
    """Injected, seen from outside, put back twice over."""
    assert (await course.look()).state is State.RESTORED
    await course.restore()  # nothing was injected
    try:
        await course.inject()
        seen = await course.look()
        assert seen.state is State.INJECTED, seen
        assert len(_marked(course)) == count
    finally:
        await course.restore()
    assert _marked(course) == []
    assert (await course.look()).state is State.RESTORED
    await course.restore()


async def test_cpu_is_taken_at_its_share_by_processes_that_bear_the_token():
    course = await prepared("load", {"cpu": {"burners": 2, "share": "20%", "nice": 19}})
    assert course.prepared.klass is Klass.SELF_HEALING and course.prepared.targets == ("host:cpu",)
    assert "by themselves" in course.prepared.limit
    await _round(course, 2)
    await course.inject()
    try:
        burners = [psutil.Process(pid) for pid in _marked(course)]
        await wait_until(lambda: all(sum(one.cpu_times()[:2]) >= 0.05 for one in burners), 20, "CPU time")
        assert {one.nice() for one in burners} == {19}
        assert {one.name() for one in burners} == {f"sp-{course.io.token}"}
        assert {Path(f"/proc/{one.pid}/oom_score_adj").read_text().strip() for one in burners} == {"1000"}
        for one in burners:  # the kernel ends it too: nobody handles or ignores its alarm, and its CPU time is limited
            status = dict(
                line.split(":\t", 1) for line in Path(f"/proc/{one.pid}/status").read_text().splitlines() if ":\t" in line
            )
            alarm = 1 << (signal.SIGALRM - 1)
            assert not any(int(status[key], 16) & alarm for key in ("SigBlk", "SigIgn", "SigCgt"))
            assert 0 < resource.prlimit(one.pid, resource.RLIMIT_CPU)[1] < 60
    finally:
        await course.restore()


async def test_memory_is_taken_and_given_back():
    course = await prepared("load", {"memory": {"size": "64MiB"}})
    assert course.prepared.targets == ("host:memory",)
    await _round(course, 1)
    await course.inject()
    try:
        [pid] = _marked(course)
        assert 64 * _MIB <= psutil.Process(pid).memory_info().rss < 128 * _MIB
    finally:
        await course.restore()


async def test_open_files_are_taken_by_as_many_processes_as_it_takes():
    each = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 64
    count = 2000 if each > 100_000 else each + 500
    course = await prepared("load", {"files": {"count": count, "leave": 1000}})
    await _round(course, 1 if each > 100_000 else 2)
    await course.inject()
    try:
        assert sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in _marked(course)) >= count
    finally:
        await course.restore()


async def test_it_ends_by_itself_at_its_expiry_with_everybody_dead():
    course = await prepared("load", {"memory": {"size": "40MiB"}})
    expires = boottime() + int(2e9)
    order = {"token": course.io.token, "expires": expires, "record": course.record}
    runner = subprocess.Popen([sys.executable, "-c", _A_RUNNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert runner.stdin is not None and runner.stdout is not None
        runner.stdin.write(json.dumps(order).encode())
        runner.stdin.close()
        assert runner.stdout.readline() == b"injected\n"
    finally:
        runner.kill()
        runner.wait()
        assert runner.stdout is not None
        runner.stdout.close()
    assert len(_marked(course)) == 1 and (await course.look()).state is State.INJECTED
    await course.sees(State.RESTORED, 20)
    assert boottime() >= expires


async def test_another_process_ends_it_by_its_token_and_leaves_a_neighbours():
    ours, theirs = [await prepared("load", {"cpu": {"burners": 1, "share": "5%"}}) for _ in range(2)]
    await ours.inject()
    await theirs.inject()
    try:
        assert (await ours.undone_elsewhere()).startswith("restored")
        assert _marked(ours) == [] and len(_marked(theirs)) == 1
    finally:
        await theirs.restore()


async def test_one_that_was_killed_or_stopped_is_not_called_injected():
    course = await prepared("load", {"cpu": {"burners": 2, "share": "5%"}})
    await course.inject()
    try:
        first, second = _marked(course)
        os.kill(first, signal.SIGSTOP)
        await course.sees(State.UNKNOWN)
        os.kill(first, signal.SIGKILL)
        await wait_until(lambda: proc_state(first) in ("Z", "gone"))
        assert (await course.look()).state is State.UNKNOWN
        os.kill(second, signal.SIGKILL)
        await course.sees(State.RESTORED)
    finally:
        await course.restore()


async def test_what_would_take_the_last_is_refused():
    total = psutil.virtual_memory().total // _MIB
    assert "would leave less than" in await refusal("load", {"memory": {"size": f"{total}MiB"}})
    assert "would leave less than" in await refusal("load", {"memory": {"share": "100%"}})
    most = int(Path("/proc/sys/fs/file-nr").read_text().split()[2])
    said = await refusal("load", {"files": {"count": 4_000_000, "leave": 1000}})
    assert "would leave fewer than" in said if most < 4_000_000 else "more than 64 processes" in said
    assert "at most" in await refusal("load", {"cpu": {"burners": 256}})


async def test_what_has_become_short_meanwhile_is_not_taken_and_the_inject_says_so():
    course = await prepared("load", {"memory": {"size": "96MiB"}})
    scarce = {**course.record, "leave": psutil.virtual_memory().total}  # as if others had taken all since
    try:
        with pytest.raises(ProbeError, match="without leaving too little"):
            await course.fault.inject(scarce, course.io)
        assert (await course.fault.observe(scarce, course.io)).state is State.UNKNOWN
    finally:
        await course.restore()
    assert (await course.look()).state is State.RESTORED


async def test_one_whose_time_is_over_takes_nothing():
    course = await prepared("load", {"memory": {"size": "40MiB"}}, lasts=-1)
    with pytest.raises(ProbeError, match="its time is over"):
        await course.inject()
    await wait_until(lambda: not _marked(course))


async def test_it_is_taken_within_the_control_group_of_a_target(tmp_path):
    requires_root("a control group of its own")
    mount = next((part.mountpoint for part in psutil.disk_partitions(all=True) if part.fstype == "cgroup2"), None)
    if mount is None:
        missing("no cgroup v2 is mounted here")
    group = Path(mount) / label()
    group.mkdir()
    try:
        with spawn(["sleep", "60"], tmp_path / "log") as target:
            (group / "cgroup.procs").write_text(str(target.pid))
            course = await prepared("load", {"cpu": {"burners": 2, "share": "5%"}, "beside": {"pid": target.pid}})
            assert course.prepared.targets == (f"process:sleep/{target.pid}",)
            await course.inject()
            try:
                assert set(map(int, (group / "cgroup.procs").read_text().split())) == {target.pid, *_marked(course)}
            finally:
                await course.restore()
            assert (group / "cgroup.procs").read_text().split() == [str(target.pid)]
            (Path(mount) / "cgroup.procs").write_text(str(target.pid))
            assert "leave beside out" in await refusal("load", {"cpu": {}, "beside": {"pid": target.pid}})
    finally:
        await wait_until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


async def test_a_process_may_open_so_many_more_and_then_no_more_until_it_is_put_back(tmp_path):
    with spawn([sys.executable, "-S", "-c", _OPENS], tmp_path / "log", pipe=True) as target:
        target.stdin.write(b"\n")
        await target.says("opened 1")
        before = resource.prlimit(target.pid, resource.RLIMIT_NOFILE)
        course = await prepared("load", {"descriptors": {"of": {"pid": target.pid}, "leave": 2}})
        assert course.prepared.klass is Klass.REVERSIBLE and course.prepared.targets == (f"process:python/{target.pid}",)
        assert (await course.look()).state is State.RESTORED
        await course.restore()
        await course.inject()
        assert (await course.look()).state is State.INJECTED
        target.stdin.write(b"\n\n\n")
        await target.says("refused 24")
        assert "opened 3" in target.text() and "opened 4" not in target.text()
        await course.restore()
        await course.restore()
        assert (await course.look()).state is State.RESTORED
        assert resource.prlimit(target.pid, resource.RLIMIT_NOFILE) == before
        target.stdin.write(b"\n")
        await target.says("opened 4")


async def test_another_process_sets_the_limit_again_and_one_that_is_not_ours_is_left(tmp_path):
    with spawn([sys.executable, "-S", "-c", _OPENS], tmp_path / "log", pipe=True) as target:
        target.stdin.write(b"\n")
        await target.says("opened 1")
        before = resource.prlimit(target.pid, resource.RLIMIT_NOFILE)
        course = await prepared("load", {"descriptors": {"of": {"pid": target.pid}}})
        await course.inject()
        assert (await course.undone_elsewhere()).startswith("restored")
        assert resource.prlimit(target.pid, resource.RLIMIT_NOFILE) == before
        await course.inject()
        theirs = (100, before[1])
        resource.prlimit(target.pid, resource.RLIMIT_NOFILE, theirs)
        seen = await course.look()
        assert seen.state is State.RESTORED and "by another" in seen.detail
        await course.restore()
        assert resource.prlimit(target.pid, resource.RLIMIT_NOFILE) == theirs
        assert "may open fewer than 99999 more" in await refusal(
            "load", {"descriptors": {"of": {"pid": target.pid}, "leave": 99_999}}
        )
        target.popen.kill()
        target.popen.wait()
        assert (await course.look()).state is State.GONE
        await course.restore()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({}, "one thing is made short"),
        ({"cpu": {}, "memory": {"size": "64MB"}}, "one thing is made short"),
        ({"memory": {}}, "give size or share"),
        ({"memory": {"size": "64MB", "leave": "1MB"}}, "greater than or equal"),
        ({"descriptors": {"of": {"pid": 5}}, "beside": {"pid": 5}}, "leave beside out"),
        ({"cpu": {"nice": -1}}, "greater than or equal"),
    ],
)
def test_what_cannot_be_is_told(words, said):
    with pytest.raises(ValidationError, match=said):
        LoadParams.model_validate(words)
