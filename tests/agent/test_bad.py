"""What a person or a machine can get wrong: clear words, the right exit code, and nothing lost that was measured."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from probe.agent.claim import claimed
from probe.agent.reload import Configuration
from probe.agent.serve import opened
from probe.cli.agent import _verdict, read
from probe.cli.exits import of_verdict
from probe.clock import SystemClock
from probe.errors import ConfigError
from probe.net.redact import Redactor
from tests.agent.agents import Asked, agent_process, asking, scenario, staged, written
from tests.e2e.support import environment
from tests.tools import ROOT, missing, requires, requires_root, wait_until

ONE = "  one: {scenario: one.yaml, every: 1s, run_on_start: true}"


async def exits(file: Path, *arguments: str, **env: str) -> tuple[int, str]:
    """Of `probe agent FILE …`: its code and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "probe", "agent", str(file), *arguments),
        cwd=ROOT,
        env={**environment(), **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(30):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_once_exits_by_its_verdicts_and_a_secret_that_cannot_be_read_is_nobodys_failure(tmp_path: Path) -> None:
    secret = (
        "scenario: secret\nowner: tests\nplatform:\n  url: 'http://127.0.0.1:9'\n"
        "  secrets: {password: {file: /nowhere/canary, for: '${platform.url}'}}\n"
        "journey:\n  - login: {http: POST /login, json: {password: '${secret.password}'}}\n"
    )
    both = "  one: {scenario: one.yaml, every: 1h}\n  secret: {scenario: secret.yaml, every: 1h}"
    code, text = await exits(written(tmp_path, both, one=scenario(), secret=secret), "--once")
    assert code == 3, text
    assert "one: pass" in text
    assert "/nowhere/canary" in text
    assert "Traceback" not in text


async def test_go_and_no_go(tmp_path: Path) -> None:
    for how, code in (("done", 0), ("failed", 1), ("crash", 3), ("broken", 3)):
        stage = staged(tmp_path, ONE, how=lambda _, how=how: how)  # type: ignore[misc]
        assert of_verdict(_verdict(await stage.agent.once())) == code
    assert of_verdict(_verdict([None])) == 3


@pytest.mark.parametrize("what", ["file", "taken", "port", "database", "web", "collector", "wrong"])
async def test_what_keeps_an_agent_from_starting_is_told_in_a_line_without_secrets(tmp_path: Path, what: str) -> None:
    file = written(tmp_path, ONE)
    with contextlib.ExitStack() as stack:
        match what:
            case "file":
                (tmp_path / "state").write_text("")
                words = r"state: cannot be used: File exists"
            case "taken":
                stack.enter_context(claimed(tmp_path / "state", "another"))
                words = r"another agent has it \(another, process \d+\)"
            case "port":
                taken = stack.enter_context(socket.socket())
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                _changed(file, "127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}")
                words = r"listen: 127.0.0.1:\d+ is in use"
            case "database":
                _changed(file, "schedules:", "store: {url: {env: NO_SUCH}}\nschedules:")
                words = r"store: .* NO_SUCH: is not set"
            case "web":
                (tmp_path / "web.yaml").write_text("basic_auth_users: {probe: hunter2}\n")
                _changed(file, "schedules:", "web: web.yaml\nschedules:")
                words = r"web.yaml:1:\d+ .*is not a bcrypt hash"
            case "collector":
                _changed(file, "schedules:", "telemetry: {endpoint: 'http://u:hunter2@127.0.0.1:1'}\nschedules:")
                words = r"telemetry.endpoint: carries a password"
            case _:
                _changed(file, "schedules:", "telemetry: {endpoint: 'collector:4318'}\nschedules:")
                words = r"'collector:4318' is no address of a collector"
        with pytest.raises(ConfigError, match=words) as caught:
            async with opened(Configuration(read(file), lambda: read(file)), SystemClock(), Redactor()):
                pass
    assert "hunter2" not in str(caught.value)


async def test_who_cannot_start_exits_with_2(tmp_path: Path) -> None:
    with claimed(tmp_path / "state", "another"):
        code, text = await exits(written(tmp_path, ONE))
    assert code == 2, text
    assert "another agent has it (another, process" in text
    assert "Traceback" not in text


def _changed(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new))


def test_a_directory_is_one_agents_until_it_ends(tmp_path: Path) -> None:
    with claimed(tmp_path / "a" / "state", "first"):
        with pytest.raises(ConfigError, match=r"another agent has it \(first, process \d+\)"), claimed(tmp_path / "a/state", "x"):
            pass
    with claimed(tmp_path / "a" / "state", "second") as before:
        assert before == "first"
    (tmp_path / "a" / "state" / "lock").write_bytes(b"\xff" * 100_000)
    descriptor = os.open(tmp_path / "a" / "state" / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(ConfigError, match="give each a directory of its own") as caught, claimed(tmp_path / "a/state", "x"):
        pass
    os.close(descriptor)
    assert len(str(caught.value)) < 1000


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of that size at `place`, for the length of the block."""
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, text=True)
    if done.returncode:
        missing(f"may not mount: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


async def test_on_a_full_disk_it_goes_on_and_what_it_measures_is_kept_or_counted(tmp_path: Path) -> None:
    requires_root("mounts a small file system")
    requires("mount", package="mount")
    with small_disk(tmp_path / "state", "3m") as state:
        journey = "{fake: failed, phase: signal, reason: http_404, took: 10ms}"
        with agent_process(written(tmp_path, ONE, one=scenario(journey=journey))) as agent:
            async with asking(agent) as asked:
                await wait_until(lambda: asked.total("runs_total"), 15, "a run")
                with (state / "ballast").open("wb", buffering=0) as ballast:
                    while True:
                        try:
                            ballast.write(bytes(65536))
                        except OSError:
                            break
                before = await asked.total("runs_total")
                await wait_until(lambda: _more(asked, before + 2), 15, "runs on a full disk")
                assert (await asked.text("/healthz")).strip() == "ok"
                (state / "ballast").unlink()
                await wait_until(lambda: _caught_up(asked), 20, "all records")
                assert agent.running()


async def _more(asked: Asked, than: float) -> bool:
    return await asked.total("runs_total") > than


async def _caught_up(asked: Asked) -> bool:
    """The records of a moment ago are there."""
    made, dropped = await asked.total("runs_total"), await asked.total("self_spool_dropped_total", kind="records")
    return len(await asked.runs()) + dropped >= made
