"""The sandbox as a process of its own, and `probe` run against it as a person would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.forks import Forks

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Ran:
    """`probe`, ended: exit code, what it said, and its verdict (empty where it wrote none)."""

    exit: int
    stdout: str
    stderr: str
    verdict: dict[str, Any]
    out: Path

    def failures(self) -> set[tuple[str, str]]:
        """(who, phase/reason) of every step and session that failed, and of how sessions ended or did not come back."""
        found: set[tuple[str, str]] = set()
        for run in self.verdict.get("runs", []):
            for step in run["steps"]:
                if "phase" in step:
                    found.add((step["step"], f"{step['phase']}/{step['reason']}"))
                elif step["outcome"] == "skipped":
                    found.add((step["step"], f"skipped/{step.get('reason', '')}"))
            for session in run["sessions"]:
                who = session["protocol"]
                if "phase" in session:
                    found.add((who, f"{session['phase']}/{session['reason']}"))
                elif session["outcome"] != "done":
                    found.add((who, f"{session['outcome']}/{session.get('reason', '')}"))
                for ended in [session.get("ended_by"), *session["reconnects"]]:
                    if ended and "phase" in ended:
                        found.add((who, f"{ended['phase']}/{ended['reason']}"))
        return found


@dataclass(frozen=True)
class Platform:
    """A running sandbox; `forks`, where given, is what `smoke` runs in instead of a new interpreter."""

    ready: dict[str, Any]
    pid: int
    forks: Forks | None = None

    @classmethod
    @contextmanager
    def started(cls, directory: Path, *more: str, forks: Forks | None = None) -> Iterator[Platform]:
        command = [sys.executable, "-m", "probe.sandbox", "--parent-pipe", "--state", str(directory), *more]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield cls(json.loads(process.stdout.readline()), process.pid, forks)
            finally:
                process.stdin.close()
                process.stdout.close()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    raise

    @property
    def environment(self) -> dict[str, str]:
        accounts = self.ready["accounts"]
        return {
            "PLATFORM_URL": self.ready["url"],
            "RTMP_URL": self.ready["rtmp_url"],
            "SANDBOX_ADMIN_URL": self.ready["admin_url"],
            "SANDBOX_ADMIN_TOKEN": self.ready["admin_token"],
            "BROADCASTER_PASSWORD": accounts["probe"]["password"],
            "VIEWER_PASSWORD": accounts["viewer"]["password"],
        }

    def admin(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self.ready["admin_url"] + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self.ready['admin_token']}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def command(self, scenario: Path | str, out: Path, *more: str) -> list[str]:
        """The same run in a process of its own from its first import."""
        return [sys.executable, "-m", "probe", *_arguments(scenario, out, *more)]

    def smoke(self, scenario: Path | str, out: Path, *more: str, env: dict[str, str] | None = None, timeout: float = 55) -> Ran:
        """`probe smoke SCENARIO --json`, to its end."""
        environment = {**os.environ, **self.environment, **(env or {})}
        if self.forks is not None:
            code, stdout, stderr = self.forks.run(_arguments(scenario, out, *more), environment, out, timeout)
        else:
            command = self.command(scenario, out, *more)
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
            code, stdout, stderr = done.returncode, done.stdout, done.stderr
        file = out / "verdict.json"
        return Ran(code, stdout, stderr, json.loads(file.read_text()) if file.exists() else {}, out)


def _arguments(scenario: Path | str, out: Path, *more: str) -> list[str]:
    return ["smoke", str(scenario), "--json", "--out", str(out), "--state", str(out / "state"), *more]
