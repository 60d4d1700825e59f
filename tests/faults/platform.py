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
    """A running sandbox."""

    ready: dict[str, Any]
    pid: int

    @classmethod
    @contextmanager
    def started(cls, directory: Path, *more: str) -> Iterator[Platform]:
        command = [sys.executable, "-m", "probe.sandbox", "--parent-pipe", "--state", str(directory), *more]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield cls(json.loads(process.stdout.readline()), process.pid)
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
        where = ["--out", str(out), "--state", str(out / "state")]
        return [sys.executable, "-m", "probe", "smoke", str(scenario), "--json", *where, *more]

    def smoke(self, scenario: Path | str, out: Path, *more: str, env: dict[str, str] | None = None, timeout: float = 55) -> Ran:
        """`probe smoke SCENARIO --json`, to its end."""
        done = subprocess.run(
            self.command(scenario, out, *more),
            env={**os.environ, **self.environment, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        file = out / "verdict.json"
        return Ran(done.returncode, done.stdout, done.stderr, json.loads(file.read_text()) if file.exists() else {}, out)
