"""Where a network fault is made: one network namespace, named by a file of `ip netns`, by a process in it, or this host's own.

From its preparation on, a namespace is its inode (namespaces(7)): a name may be given to another one, a process may die while its
namespace lives on in others. Whoever undoes looks for that inode among the mounts and the processes there are, and enters by a
descriptor whose inode was checked, so that nothing can be exchanged in between. A namespace that nobody holds any more is gone,
and every rule and queue in it. An inode may come again; what is owned bears the token, so that the newcomer loses nothing.

The programs that are run in it are those a person would run (`nft`, `tc`), through `nsenter` of util-linux: Python has no setns
before 3.12, and changing the namespace of a thread under a running loop is nothing to come back from safely.

Seen at Chaos Mesh (`nsexec`) and pumba (a helper container in the target's namespace): entering only for the length of one
command. Left behind: a helper image that has to be pulled while the network is to be broken.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from probe.drill.faults import pins
from probe.drill.faults.base import Params, Refused
from probe.errors import ProbeError

_NAMED = "/run/netns"
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_WITHIN = 3.0  # s for one command
_MOST = 1 << 20  # bytes of what one says
_SHOWN = 200
DEVICE = r"^[A-Za-z0-9_.@-]{1,15}$"


class Gone(ProbeError):
    """The namespace is no more."""


class Unseen(ProbeError):
    """It could not be looked at, or a command in it did not come to an end."""


class Place(Params):
    """Base of the parameters of network faults: exactly one place."""

    netns: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")] | None = Field(
        None, description="A network namespace, as `ip netns` lists it.", examples=["edge-b"]
    )
    pid: int | None = Field(None, gt=0, description="The network namespace of this process.", examples=[4711])
    host: bool = Field(False, description="This host's own network.", examples=[True])

    @model_validator(mode="after")
    def _one_place(self) -> Place:
        if (self.netns is not None) + (self.pid is not None) + self.host != 1:
            raise ValueError("say where, once: netns, pid or host")
        return self


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The first line of what it complained of."""
        line = next((line.strip() for line in (self.err or self.out).splitlines() if line.strip()), f"exit code {self.code}")
        return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def place(params: Place) -> dict[str, Any]:
    """What a record has of a place: `name` as targets begin, `enter` as a person enters it, `inode`. One namespace has one name,
    however a drill speaks of it: two drills in it at once are to be seen. Raises Refused."""
    own = os.stat("/proc/self/ns/net").st_ino
    if params.host:
        return {"name": "host:network", "enter": [], "inode": own}
    if params.netns is not None:
        path, name, where = f"{_NAMED}/{params.netns}", f"netns:{params.netns}", "netns"
        enter, none = ["ip", "netns", "exec", params.netns], f"there is no network namespace {params.netns} (`ip netns list`)"
    else:
        path, name, where = f"/proc/{params.pid}/ns/net", f"process {params.pid}", "pid"
        enter, none = ["nsenter", f"--net={path}"], f"there is no process {params.pid}"
    try:
        inode = os.stat(path).st_ino
    except PermissionError:
        raise Refused(f"entering {name} needs root (CAP_SYS_ADMIN)", where) from None
    except OSError:
        raise Refused(none, where) from None
    if inode == own or inode in _inodes("/proc/1/ns/net"):
        raise Refused(f"{name} is in this host's own network; if that is meant, write host: true", where)
    if params.pid is not None:
        process = pins.look(params.pid)
        name = f"netns:{_named(inode) or (process.pin if process else params.pid)}"
    return {"name": name, "enter": enter, "inode": inode}


def program(name: str, package: str) -> str:
    """Its path. Raises Refused, naming the Debian package."""
    for each in (name, "nsenter"):
        if shutil.which(each, path=_PATH) is None:
            raise Refused(f"{each} is not installed (Debian package {package if each == name else 'util-linux'})")
    return str(shutil.which(name, path=_PATH))


def typed(where: Mapping[str, Any], *argv: str, given: str | None = None) -> str:
    """A command in that place as a person would type it."""
    line = shlex.join([*where["enter"], *argv])
    return line if given is None else f"{line} <<'END'\n{given.rstrip()}\nEND"


async def run(where: Mapping[str, Any], *argv: str, given: str = "", within: float = _WITHIN) -> Ran:
    """Run a command in that place. Raises Gone, and Unseen where it cannot be looked for or does not end in time."""
    with _opened(int(where["inode"])) as fd:
        ran = await _ran("nsenter", f"--net=/proc/self/fd/{fd}", "--", *argv, given=given, within=within, fds=(fd,))
    if ran.code and ran.err.startswith("nsenter:"):
        raise Unseen(f"entering {where['name']} needs root (CAP_SYS_ADMIN): {ran.complaint}")
    return ran


async def tried(*argv: str, given: str = "") -> Ran:
    """Run a command in a new network namespace that ends with it: what the kernel can do, and whether we may, touching nothing.
    Raises Refused where none can be made."""
    if shutil.which("unshare", path=_PATH) is None:
        raise Refused("unshare is not installed (Debian package util-linux)")
    ran = await _ran("unshare", "--net", "--", *argv, given=given, within=_WITHIN)
    if ran.code and ran.err.startswith("unshare:"):
        raise Refused(f"network faults need root (CAP_NET_ADMIN and CAP_SYS_ADMIN): {ran.complaint}")
    return ran


async def devices(where: Mapping[str, Any]) -> list[str]:
    """The interfaces there are. Raises as `run`."""
    ran = await run(where, "cat", "/proc/self/net/dev")
    if ran.code:
        raise Unseen(f"the interfaces of {where['name']} cannot be read: {ran.complaint}")
    return [line.partition(":")[0].strip() for line in ran.out.splitlines() if ":" in line]


async def _ran(*argv: str, given: str, within: float, fds: Sequence[int] = ()) -> Ran:
    # Files in memory and no pipes: a pipe is closed under the writer's hands by a program that reads nothing, and uvloop leaves
    # its end open in what a program starts and leaves behind.
    files = [os.memfd_create(name) for name in ("in", "out", "err")]
    try:
        os.pwrite(files[0], given.encode(), 0)
        code = await _ended(argv, files, within, fds)
        out, err = (os.pread(fd, _MOST, 0).decode(errors="replace") for fd in files[1:])
        return Ran(code, out, err)
    finally:
        for fd in files:
            os.close(fd)


async def _ended(argv: Sequence[str], files: Sequence[int], within: float, fds: Sequence[int]) -> int:
    stdin, stdout, stderr = files
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=fds,
            env={**os.environ, "PATH": _PATH, "LC_ALL": "C"},
            start_new_session=True,  # Ctrl-C is the runner's to hear
        )
    except OSError as error:
        raise Unseen(f"{argv[0]} cannot be run: {error.strerror}") from None
    try:
        async with asyncio.timeout(within):
            return await process.wait()
    except TimeoutError:
        raise Unseen(f"{shlex.join(argv[:6])} did not end within {within:g} s") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@contextmanager
def _opened(inode: int) -> Iterator[int]:
    """A descriptor of that namespace."""
    denied = False
    for path in _paths():
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            denied = True
            continue
        except OSError:
            continue
        try:
            if os.fstat(fd).st_ino == inode:
                yield fd
                return
        finally:
            os.close(fd)
    if denied and os.geteuid() != 0:  # what even root may not look at, it could not have entered either
        raise Unseen("not every network namespace may be looked at here; that needs root")
    raise Gone("the network namespace is no more: no process is in it, and nothing holds it")


def _paths() -> Iterator[str]:
    """Everything that may be a way into a network namespace: files bound to one, then processes."""
    yield "/proc/self/ns/net"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            _, _, _, root, point, *_ = line.split(" ")
            if root.startswith("net:["):
                yield re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)
    for pid in os.listdir("/proc"):
        if pid.isdecimal():
            yield f"/proc/{pid}/ns/net"


def _named(inode: int) -> str:
    """Its name for `ip netns`; empty where it has none."""
    try:
        return next((name for name in sorted(os.listdir(_NAMED)) if inode in _inodes(f"{_NAMED}/{name}")), "")
    except OSError:
        return ""


def _inodes(*paths: str) -> set[int]:
    found = set()
    for path in paths:
        with suppress(OSError):
            found.add(os.stat(path).st_ino)
    return found
