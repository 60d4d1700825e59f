"""Every fault of a host under the ledger: its runner is killed with all of them in place, and the watchdog puts them back."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from probe.drill import book
from tests.drill.host.tools import label, pids_with, proc_state
from tests.peers import toxiproxy
from tests.tools import ROOT, requires_root, spawn, wait_until

_STAYS = "import sys, time; print('up', flush=True); time.sleep(120)"


async def test_the_watchdog_puts_all_of_them_back_when_the_runner_is_dead(tmp_path):
    requires_root("to mount a filesystem")
    words = {name: label() for name in ("paused", "killed", "few")}
    commands = {name: [sys.executable, "-S", "-c", _STAYS, word] for name, word in words.items()}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "theirs").write_text("kept")
    async with toxiproxy.running() as server:
        await server.proxy("origin", "127.0.0.1:9")
        faults = {
            "paused": ["process", {"do": "pause", "target": {"matching": words["paused"]}}],
            "killed": [
                "process",
                {
                    "do": "kill",
                    "target": {"matching": words["killed"]},
                    "restored_by": {"command": commands["killed"]},
                    "back": {"settled": "200ms"},
                },
            ],
            "hungry": ["load", {"cpu": {"burners": 2, "share": "5%"}}],
            "few": ["load", {"descriptors": {"of": {"matching": words["few"]}, "leave": 1}}],
            "full": ["disk", {"directory": str(tmp_path / "data"), "mount": "8MiB"}],
            "slow": ["toxiproxy", {"server": server.url, "proxies": "origin", "down": True}],
        }
        spec = tmp_path / "spec.json"
        spec.write_text(json.dumps({"state": str(tmp_path / "state"), "lasts": 60, "hold": 50, "faults": faults}))
        with ExitStack() as stack:
            targets = {name: stack.enter_context(spawn(commands[name], tmp_path / f"{name}.log")) for name in words}
            for target in targets.values():
                await target.says("up")
            before = resource.prlimit(targets["few"].pid, resource.RLIMIT_NOFILE)
            runner = stack.enter_context(
                spawn([sys.executable, "-m", "tests.drill.safety.runner", spec], tmp_path / "runner.log", cwd=ROOT)
            )
            await runner.says("injected slow", 30)
            assert proc_state(targets["paused"].pid) == "T" and os.path.ismount(tmp_path / "data")
            os.kill(runner.pid, signal.SIGKILL)
            path = Path(next(line for line in runner.text().splitlines() if line.startswith("ledger ")).split()[1])
            try:
                await wait_until(lambda: not book.read(path).open, 30, "the watchdog to put everything back")
                assert proc_state(targets["paused"].pid) in "SR"
                [new] = pids_with(words["killed"])
                assert new != targets["killed"].pid
                assert not [pid for pid in pids_with("--sp-token=sp-") if _of(path, pid)]
                assert resource.prlimit(targets["few"].pid, resource.RLIMIT_NOFILE) == before
                assert os.listdir(tmp_path / "data") == ["theirs"]
                origin = await server.ask("GET", "/proxies/origin")
                assert origin["enabled"] and origin["toxics"] == []
            finally:
                for pid in pids_with(words["killed"]):
                    os.kill(pid, signal.SIGKILL)


def _of(ledger: Path, pid: int) -> bool:
    """Whether a process that takes what the host has is of this ledger, and not of another's drill."""
    token = Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("sp-")
    return token in ledger.read_text()
