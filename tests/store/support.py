"""Records for tests, and a PostgreSQL server of our own: started as somebody who is not root, on loopback and a Unix socket."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from probe.model.clock import NS
from probe.store.records import Event, Request, RunBegun, RunFinished
from tests.tools import Child, free_port, requires, spawn

T0 = 1_790_000_000 * NS
PASSWORD = "canary-0f3c9b-password"


def run_id(n: int) -> str:
    """As a UUIDv7 of second `n` would sort."""
    return f"{n:012x}-7000-8000-000000000000"


def begun(n: int, **fields: object) -> RunBegun:
    values: dict[str, object] = {
        "run_id": run_id(n),
        "agent": "jakarta-1",
        "schedule": "room-start",
        "scenario": "room-start",
        "mode": "scheduled",
        "publish_region": "eu",
        "region": "apac",
        "target": "https://live.example",
        "seed": n,
        "run_number": 7 * n + 1,
        "trace_id": f"{n:032x}",
        "due_ns": T0 + n * NS,
        "began_ns": T0 + n * NS + 5,
        "probe_version": "0.1.0",
    }
    return RunBegun(**(values | fields))  # type: ignore[arg-type]


def finished(n: int, **fields: object) -> RunFinished:
    values: dict[str, object] = {
        "run_id": run_id(n),
        "state": "ended",
        "verdict": "pass",
        "cause": "",
        "ended_ns": T0 + n * NS + 9,
        "attempts": {"done": 3, "failed": 1, "done_tainted": 2},
        "verdict_json": f'{{"n": {n}}}',
        "report_html": f"<p>run {n}</p>",
        "requests": (request(n),),
    }
    return RunFinished(**(values | fields))  # type: ignore[arg-type]


def request(n: int, span: str = "00000000000000a1", **fields: object) -> Request:
    values: dict[str, object] = {
        "request_id": f"{n:016x}-00000000000000a0",
        "service": "room",
        "step": "room",
        "method": "POST",
        "status": 201,
        "span_id": span,
        "at_ns": T0 + n * NS + 7,
    }
    return Request(**(values | fields))  # type: ignore[arg-type]


def happened(n: int, kind: str = "gate", **fields: object) -> Event:
    values: dict[str, object] = {
        "event_id": f"event-{n}",
        "at_ns": T0 + n * NS,
        "agent": "jakarta-1",
        "kind": kind,
        "subject": "hold-campaign",
        "region": "apac",
        "who": "growth-lead",
        "why": "room_start 80 %",
        "data": {"from": "pass", "to": "fail", "n": n, "nested": {"ratio": 0.5}},
    }
    return Event(**(values | fields))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Cluster:
    """The files of a server, and its two addresses."""

    home: Path
    bin: Path
    user: str
    port: int

    def url(self, database: str, user: str = "probe", password: str = "") -> str:
        """Over the Unix socket, where everybody is trusted; with a password over TCP, where nobody is."""
        if password:
            return f"postgresql+psycopg://{user}:{password}@127.0.0.1:{self.port}/{database}"
        return f"postgresql+psycopg://{user}@/{database}?host={self.home}&port={self.port}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(host=str(self.home), port=self.port, user="probe", dbname=database, autocommit=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[Child]:
        """The server, answering."""
        command: list[str | Path] = [
            *_as(self.user),
            self.bin / "postgres",
            "-D",
            self.home / "data",
            "-p",
            str(self.port),
            "-k",
            self.home,
        ]
        with spawn(command, self.home / f"log-{time.monotonic_ns()}") as child:
            ends = time.monotonic() + 20
            while True:
                try:
                    self.connect().close()
                    break
                except psycopg.OperationalError:
                    if time.monotonic() > ends or not child.running():
                        raise
                    time.sleep(0.02)
            try:
                yield child
            finally:
                if child.running():
                    os.kill(child.pid, signal.SIGQUIT)  # its files are thrown away: nothing need be in order
                    child.popen.wait(10)

    @contextlib.contextmanager
    def another(self) -> Iterator[Cluster]:
        """A new one, without another initdb."""
        home = _home(self.user)
        try:
            subprocess.run(["cp", "-a", self.home / "pristine", home / "data"], check=True)
            yield Cluster(home, self.bin, self.user, free_port())
        finally:
            shutil.rmtree(home, ignore_errors=True)


_SETTINGS = """
listen_addresses = '127.0.0.1'
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
max_parallel_workers = 0
max_logical_replication_workers = 0
max_connections = 40
shared_buffers = 16MB
dynamic_shared_memory_type = mmap
"""


def installed() -> str:
    """The path of the newest initdb; empty where there is none."""
    found = glob.glob("/usr/lib/postgresql/*/bin/initdb")  # Debian puts it on nobody's PATH
    return max(found, key=lambda path: int(path.split("/")[4]), default="") or shutil.which("initdb") or ""


def initdb() -> str:
    """The same, where it is required."""
    return installed() or requires("initdb", package="postgresql")


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A fresh one of Debian's `postgresql`."""
    bin = Path(initdb()).parent
    user = "" if os.geteuid() else "postgres" if _known("postgres") else "nobody"
    home = _home(user)
    try:
        options = ["-U", "probe", "-A", "trust", "-N", "--no-locale", "-E", "UTF8"]
        command: list[str | Path] = [*_as(user), bin / "initdb", "-D", home / "pristine", *options]
        subprocess.run(command, check=True, capture_output=True, cwd=home)
        with (home / "pristine/postgresql.conf").open("a") as file:
            file.write(_SETTINGS)
        (home / "pristine/pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        subprocess.run(["cp", "-a", home / "pristine", home / "data"], check=True)
        yield Cluster(home, bin, user, free_port())
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _as(user: str) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups"] if user else []


def _home(user: str) -> Path:
    home = Path(tempfile.mkdtemp(prefix="probe-pg-", dir="/tmp"))  # a socket's path has little room
    if user:
        known = pwd.getpwnam(user)
        os.chown(home, known.pw_uid, known.pw_gid)
    return home


def _known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
