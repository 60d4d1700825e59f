"""A clock that steps: the host's, which no test moves (another is put in its place), and a real process's under libfaketime."""

from __future__ import annotations

import ctypes
import glob
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import ValidationError

from probe.clock import boottime
from probe.drill.faults import clock_step, host_clock
from probe.drill.faults.base import Klass, NotUndone, State
from probe.drill.faults.clock_step import ClockFault, ClockParams
from probe.drill.faults.host_clock import SystemHostClock
from probe.errors import ProbeError
from tests.drill.host.tools import Course, prepared, refusal
from tests.tools import Child, missing, requires_root, spawn, wait_until

_HOUR = 3600 * 10**9


@dataclass
class Host:
    """A host's clocks, moved by hand."""

    ahead: int = 1_700_000_000 * 10**9  # of CLOCK_REALTIME
    up: int = 50 * 10**9
    id: str = "boot-1"
    able: bool = True
    kept_by: str = ""
    fails: bool = False
    steps: list[int] = field(default_factory=list)

    def offset(self) -> int:
        return self.ahead

    def boottime(self) -> int:
        return self.up

    def boot(self) -> str:
        return self.id

    def step(self, ns: int) -> None:
        if self.fails:
            raise OSError(1, "Operation not permitted")
        self.ahead += ns
        self.steps.append(ns)

    def forbidden(self) -> str:
        return "" if self.able else "this process may not set the clock"

    def keeper(self) -> str:
        return self.kept_by


async def _host(host: Host, step: str = "+1h", **words: object) -> Course:
    return await prepared("clock", {"step": step, "host": True, **words}, fault=ClockFault(host))


@pytest.mark.parametrize("step", ["+1h", "-1h", "+5s"])
async def test_the_hosts_clock_is_stepped_and_stepped_back_by_the_same_length(step):
    host = Host()
    before = host.ahead
    course = await _host(host, step)
    assert course.prepared.klass is Klass.REVERSIBLE and course.prepared.targets == ("host:clock",)
    assert (await course.look()).state is State.RESTORED
    await course.restore()
    assert host.steps == []
    await course.inject()
    assert (await course.look()).state is State.INJECTED
    host.up += 300 * 10**9
    drifted = 60 * 10**6  # slewed by its crystal or by NTP, 200 ppm
    host.ahead += drifted
    assert (await course.look()).state is State.INJECTED
    await course.restore()
    await course.restore()
    assert (await course.look()).state is State.RESTORED
    assert host.ahead == before + drifted  # back by the step, and not to what once was
    assert len(host.steps) == 2 and sum(host.steps) == 0


async def test_whoever_has_the_record_steps_it_back_and_a_second_one_does_nothing():
    host = Host()
    course = await _host(host)
    await course.inject()
    other = ClockFault(host)
    await other.restore(course.record, course.io)
    await course.restore()
    assert sum(host.steps) == 0 and (await other.observe(course.record, course.io)).state is State.RESTORED


async def test_two_that_undo_it_at_once_do_not_step_twice():
    host = Host()
    course = await _host(host)
    await course.inject()
    with clock_step._alone():  # the other is between looking and stepping
        with pytest.raises(NotUndone, match="another process is stepping"):
            await course.restore()
    await course.restore()
    assert sum(host.steps) == 0


async def test_a_clock_that_another_moved_is_left_to_people():
    host = Host()
    course = await _host(host)
    await course.inject()
    host.ahead += _HOUR // 2
    assert (await course.look()).state is State.UNKNOWN
    with pytest.raises(NotUndone, match="another has moved it"):
        await course.restore()
    assert len(host.steps) == 1
    host.ahead -= _HOUR // 2 + _HOUR  # somebody has set it right
    assert (await course.look()).state is State.RESTORED
    await course.restore()
    assert len(host.steps) == 1


async def test_a_clock_moved_between_preparing_and_injecting_is_not_stepped():
    host = Host()
    course = await _host(host)
    host.ahead -= 2 * _HOUR
    with pytest.raises(ProbeError, match="not where it was"):
        await course.inject()
    assert host.steps == []


async def test_a_restart_of_the_machine_takes_the_step_with_it():
    host = Host()
    course = await _host(host)
    await course.inject()
    host.id, host.up = "boot-2", 0
    assert (await course.look()).state is State.GONE
    await course.restore()
    assert len(host.steps) == 1


async def test_a_step_back_that_fails_is_told_and_tried_again():
    host = Host()
    course = await _host(host)
    await course.inject()
    host.fails = True
    with pytest.raises(NotUndone, match="Operation not permitted"):
        await course.restore()
    assert (await course.look()).state is State.INJECTED
    host.fails = False
    await course.restore()
    assert (await course.look()).state is State.RESTORED


async def test_a_host_that_may_not_or_whose_clock_is_kept_is_refused():
    words = {"step": "+1h", "host": True}
    assert "may not set" in await refusal("clock", words, fault=ClockFault(Host(able=False)))
    said = await refusal("clock", words, fault=ClockFault(Host(kept_by="chronyd")))
    assert "chronyd keeps this clock" in said and "although_kept: true" in said
    course = await _host(Host(kept_by="chronyd"), although_kept=True)
    assert (await course.look()).state is State.RESTORED


def test_the_real_clocks_are_read_as_the_kernel_has_them():
    """What would step it is only asked, never told: adjtimex without a mode changes nothing."""
    timex = host_clock._Timex(modes=0)
    assert ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) >= 0
    assert abs(timex.sec - time.time()) < 5 and 0 <= timex.nsec < 10**9
    host = SystemHostClock()
    assert abs(host.offset() + boottime() - time.time_ns()) < 10**9
    assert isinstance(host.forbidden(), str) and isinstance(host.keeper(), str)


_TELLS = """
import sys, time
for line in sys.stdin:
    print(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
"""


@dataclass
class Target:
    child: Child
    file: Path
    asked: int = 0

    async def clocks(self) -> tuple[float, float]:
        """By how many seconds its clock is ahead of ours, and its CLOCK_BOOTTIME."""
        self.asked += 1
        self.child.stdin.write(b"\n")
        await wait_until(lambda: self.child.text().count("\n") >= self.asked, 5, "its time")
        wall, boot = map(float, self.child.text().splitlines()[-1].split())
        return wall - time.time(), boot - boottime() / 1e9

    async def ahead(self) -> int:
        return round((await self.clocks())[0])


@contextmanager
def _under_faketime(tmp_path: Path, before: str = "+0\n", **environment: str | None) -> Iterator[Target]:
    libraries = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not libraries:
        missing("libfaketime is not installed (package libfaketime)")
    file = tmp_path / "faketime"
    file.write_text(before)
    wanted = {
        "LD_PRELOAD": libraries[0],
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        **environment,
    }
    env = {key: value for key, value in wanted.items() if value is not None}
    with spawn([sys.executable, "-S", "-c", _TELLS], tmp_path / "log", env=env, pipe=True) as child:
        yield Target(child, file)


async def test_a_process_under_libfaketime_sees_its_clock_step_and_step_back(tmp_path):
    for before in ("+0\n", "-120\n"):
        with _under_faketime(tmp_path, before) as target:
            usual = await target.ahead()
            course = await prepared("clock", {"step": "+1h", "of": {"pid": target.child.pid}})
            assert course.prepared.targets[0].endswith(f"/{target.child.pid}")
            assert (await course.look()).state is State.RESTORED
            await course.restore()
            assert target.file.read_text() == before
            await course.inject()
            assert (await course.look()).state is State.INJECTED
            ahead, boot = await target.clocks()
            assert round(ahead) == usual + 3600
            assert abs(boot) < 5  # by which drills expire
            await course.restore()
            await course.restore()
            assert (await course.look()).state is State.RESTORED
            assert target.file.read_text() == before and await target.ahead() == usual


async def test_another_process_puts_the_file_back_and_anothers_offset_is_left(tmp_path):
    with _under_faketime(tmp_path) as target:
        await target.clocks()
        course = await prepared("clock", {"step": "-1h", "of": {"pid": target.child.pid}})
        await course.inject()
        assert await target.ahead() == -3600
        assert (await course.undone_elsewhere()).startswith("restored")
        assert target.file.read_text() == "+0\n"
        target.file.write_text("+7\n")
        with pytest.raises(ProbeError, match="not as it was"):
            await course.inject()
        await course.restore()
        assert target.file.read_text() == "+7\n"
        target.file.unlink()
        assert (await course.look()).state is State.GONE
        await course.restore()


async def test_a_target_that_ends_leaves_its_file_to_be_put_back(tmp_path):
    with _under_faketime(tmp_path) as target:
        await target.clocks()
        course = await prepared("clock", {"step": "+1h", "of": {"pid": target.child.pid}})
        await course.inject()
        target.child.popen.kill()
        target.child.popen.wait()
        assert (await course.look()).state is State.INJECTED  # its successor would read it
        await course.restore()
        assert (await course.look()).state is State.RESTORED and target.file.read_text() == "+0\n"


@pytest.mark.parametrize(
    ("environment", "before", "said"),
    [
        ({"LD_PRELOAD": None}, "+0\n", "does not run under libfaketime"),
        ({"FAKETIME_TIMESTAMP_FILE": None}, "+0\n", "does not run under libfaketime"),
        ({"FAKETIME": "+0"}, "+0\n", "goes before the file"),
        ({"FAKETIME_NO_CACHE": None}, "+0\n", "only every 10 s"),
        ({"FAKETIME_DONT_FAKE_MONOTONIC": None}, "+0\n", "monotonic clock"),
        ({}, "@2020-01-01 00:00:00\n", "nothing else"),
        ({}, "", "nothing else"),  # the library would stay at our offset
        ({}, "+" + "0" * 300, "longer than"),
    ],
)
async def test_a_process_whose_clock_cannot_be_moved_that_way_is_refused_with_how_to_start_it(
    tmp_path, environment, before, said
):
    with _under_faketime(tmp_path, before, **environment) as target:
        await target.clocks()  # it has loaded what it loads
        told = await refusal("clock", {"step": "+1h", "of": {"pid": target.child.pid}})
        assert said in told
        assert before != "+0\n" or "FAKETIME_TIMESTAMP_FILE=" in told


async def test_a_process_of_another_user_is_refused_without_a_word_of_its_environment(tmp_path):
    requires_root("to become somebody else")
    with _under_faketime(tmp_path, SECRET="hush") as target:
        await target.clocks()
        os.seteuid(65534)
        try:
            told = await refusal("clock", {"step": "+1h", "of": {"pid": target.child.pid}})
        finally:
            os.seteuid(0)
        assert "cannot be read" in told and "hush" not in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"step": "1h", "host": True}, "is no step"),
        ({"step": 3600, "host": True}, "is no step"),
        ({"step": "+1s", "host": True}, "from 5s to 366d"),
        ({"step": "+5500ms", "host": True}, "is not a duration|whole seconds"),
        ({"step": "+1h"}, "whose clock"),
        ({"step": "+1h", "host": True, "of": {"pid": 5}}, "whose clock"),
    ],
)
def test_what_cannot_be_is_told(words, said):
    with pytest.raises(ValidationError, match=said):
        ClockParams.model_validate(words)
