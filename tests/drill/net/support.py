"""Two network namespaces with a cable between them, sockets in either, and what a fault is given to act.

    near 10.204.0.1/24 ── cable ── far 10.204.0.2/24

Neither has a cable to this machine: whatever a test breaks is broken in there. A socket stays in the namespace that its thread
was in when it was made, so that one process can speak in both.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from probe.clock import SystemClock, boottime
from probe.drill.faults import netns
from probe.drill.faults.base import Fault, FaultIO, Observed, Prepared, Preparing, Record, State
from probe.model.clock import NS
from probe.net.redact import Redactor
from tests.tools import missing, requires, requires_root, wait_until
from tests.truth.namespaces import run

NEAR, FAR = "10.204.0.1", "10.204.0.2"
_LIBC = ctypes.CDLL(None, use_errno=True)
_NEWNET = 0x40000000


@dataclass(frozen=True)
class Pair:
    near: str  # names of `ip netns`
    far: str

    def socket(self, where: str, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
        """One in that namespace, bound to its address and a free port."""
        made = inside(where, lambda: socket.socket(socket.AF_INET, kind))
        made.bind((NEAR if where == self.near else FAR, 0))
        made.settimeout(2)
        return made

    def nft(self, where: str, *what: str) -> str:
        return run("ip", "netns", "exec", where, "nft", *what)

    def passes(self, *, to: str = "", port: int = 0) -> bool:
        """Whether one datagram arrives, from near to far or the other way. Within one machine it does at once or never."""
        where, other = (self.near, self.far) if to == self.near else (self.far, self.near)
        with self.socket(where) as receiver, self.socket(other) as sender:
            receiver.setblocking(False)
            sender.sendto(b"x", receiver.getsockname())
            try:
                return receiver.recv(10) == b"x"
            except BlockingIOError:
                return False


def inside(where: str, make: Any) -> Any:
    """What `make` returns, called in that network namespace."""
    result: list[Any] = []

    def work() -> None:
        with open(f"/run/netns/{where}") as namespace:
            if _LIBC.setns(namespace.fileno(), _NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        result.append(make())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return result[0]


@contextmanager
def pair() -> Iterator[Pair]:
    requires_root("network namespaces and nft")
    for command, package in (("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables")):
        requires(command, package=package)
    mark = f"{os.getpid()}-{secrets.token_hex(2)}"
    names = f"sp-near-{mark}", f"sp-far-{mark}"
    made = []
    try:
        for name in names:
            try:
                run("ip", "netns", "add", name)
            except AssertionError as error:
                missing(f"no network namespaces here: {error}")
            made.append(name)
            run(
                "ip",
                "netns",
                "exec",
                name,
                "sysctl",
                "-qw",
                *(f"net.ipv6.conf.{each}.disable_ipv6=1" for each in ("all", "default")),
            )
        run("ip", "-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, address in zip(names, (NEAR, FAR), strict=True):
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        yield Pair(*names)
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=10, check=False)


@dataclass
class Bench:
    """One fault, prepared: every method with the record as the ledger would give it back."""

    fault: Fault
    prepared: Prepared
    io: FaultIO

    @property
    def record(self) -> Record:
        return dict(json.loads(json.dumps(self.prepared.record)))

    async def inject(self) -> None:
        await self.fault.inject(self.record, self.io)

    async def observe(self) -> Observed:
        return await self.fault.observe(self.record, self.io)

    async def restore(self) -> None:
        await self.fault.restore(self.record, self.io)

    async def ends_soon(self, work: Awaitable[None], times: int) -> None:
        """Let it expire soon, but not before what takes so many times as long as `work` is done, however busy the machine."""
        began = boottime()
        await work
        self.io = replace(self.io, expires=boottime() + times * (boottime() - began) + NS)

    async def sees(self, state: State, deadline: float = 5) -> Observed:
        """Until it is observed so."""
        last: list[Observed] = []

        async def look() -> bool:
            last[:] = [await self.observe()]
            return last[0].state is state

        try:
            await wait_until(look, deadline)
        except AssertionError:
            raise AssertionError(f"never {state}, but {last[0]}") from None
        return last[0]


async def bench(fault: Fault, lasts: float = 30, token: str = "", **params: Any) -> Bench:
    """Prepared as a drill would. Raises Refused, and pydantic's ValidationError."""
    token, ns = token or secrets.token_hex(4), round(lasts * NS)
    clock, expires, redactor = SystemClock(), boottime() + ns, Redactor()
    prepared = await fault.prepare(
        fault.params(**params), Preparing(clock=clock, token=token, lasts=ns, expires=expires, redactor=redactor)
    )
    return Bench(fault, prepared, FaultIO(clock=clock, token=token, expires=expires, redactor=redactor))


_ELSEWHERE = """
import asyncio, json, os, signal, sys, uvloop
from probe.clock import SystemClock
from probe.drill.faults.base import FaultIO
from probe.drill.faults.table import fault
from probe.net.redact import Redactor
kind, did, record, token, expires = json.loads(sys.argv[1])
io = FaultIO(clock=SystemClock(), token=token, expires=expires, redactor=Redactor())
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the commands have it
    runner.run(getattr(fault(kind), did)(record, io))
if did == "inject":
    os.kill(os.getpid(), signal.SIGKILL)
"""


async def elsewhere(kind: str, did: str, bench: Bench) -> None:
    """The same in another process, from the record alone; the one that injects is killed then."""
    given = json.dumps([kind, did, bench.record, bench.io.token, bench.io.expires])
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _ELSEWHERE, given], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == (-9 if did == "inject" else 0), done.stderr


def stub(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    """A program of that name that does this in its stead."""
    file = directory / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setattr(netns, "_PATH", f"{directory}:{netns._PATH}")
