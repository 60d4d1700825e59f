"""A disk that is full: the filesystem of a directory, or a small one of its own laid over that directory.

Filling writes one file that bears the drill's token, by fallocate(2), until so much is free as the drill says; what is free is
what an unprivileged writer sees (f_bavail), so root's reserve stays. Never on the root filesystem unless the drill says so, and
then its target is called `root-disk:…`, which an allow-list has to name apart. Never on a filesystem of the network, whose server
may hang.

A mount of its own is a tmpfs whose source is `sp-<token>`: the target sees an empty directory that is full, and its own files
again when it is gone. It is unmounted lazily, since the target may hold files in it; what it wrote there is lost with it. Only
the topmost mount of the place is ever unmounted, and only if it is ours.

Not done: loop devices (a tmpfs needs neither tools nor a device); mount namespaces other than ours: a target in one of its own
does not see the mount; slow or failing disks, which need the device mapper.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shlex
import shutil
import stat
import sys
import tempfile
import threading
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import psutil
from pydantic import Field, model_validator

from probe.decide.command import run_command
from probe.drill.faults.base import (
    Command,
    FaultIO,
    Klass,
    NotUndone,
    Observed,
    Params,
    Prepared,
    Preparing,
    Record,
    Refused,
    State,
)
from probe.drill.faults.selection import AbsolutePath
from probe.errors import ProbeError
from probe.model.clock import NS
from probe.scenario.units import Size

_MIB = 1 << 20
_PIECE = 256 * _MIB
_MEMORY_LEFT = 512 * _MIB  # of the machine's, beside what a tmpfs takes
_SLACK = 16 * _MIB
_FILLED = 15 * NS  # at most: where a filesystem cannot set room aside, the library writes
_WITHIN = 5.0  # s of mount and umount
_SYSTEM = ("/etc", "/usr", "/proc", "/sys", "/dev", "/run", "/var/lib", "/var/log")
_REMOTE = re.compile(r"nfs|cifs|smb|fuse|9p|ceph|gluster|lustre|afs|ocfs|gfs|beegfs", re.IGNORECASE)
_NO_NAME = re.compile(r"\s")
_ESCAPED = re.compile(r"\\([0-7]{3})")


class DiskParams(Params):
    directory: AbsolutePath = Field(description="Its filesystem is filled, or something full is laid over it.")
    mount: Size | None = Field(
        None, ge=64 * 1024, description="Lay a tmpfs of this size over it, and fill that.", examples=["64MB"]
    )
    leave: Size | None = Field(None, description="What stays free; 64MB, or nothing of a mount of its own.", examples=["64MB"])
    root_filesystem: bool = Field(False, description="It may be the root filesystem.")

    @model_validator(mode="after")
    def _leaves(self) -> Self:
        if self.mount is None and self.leave is not None and self.leave < _MIB:
            raise ValueError("leave at least 1MB of a filesystem that others use too")
        if self.mount is not None and (self.leave or 0) >= self.mount:
            raise ValueError("it would leave all of the mount free")
        return self

    @property
    def floor(self) -> int:
        return self.leave if self.leave is not None else 0 if self.mount is not None else 64 * _MIB


@dataclass(frozen=True, slots=True)
class _Mount:
    point: str
    kind: str
    source: str


class DiskFault:
    about: ClassVar[str] = "A filesystem is full: that of a directory, or a small one of its own laid over it."
    params: ClassVar[type[Params]] = DiskParams

    async def prepare(self, params: DiskParams, given: Preparing) -> Prepared:
        return await asyncio.to_thread(_prepared, params, given)

    async def inject(self, record: Record, io: FaultIO) -> None:
        if record["mount"]:
            done, words = await run_command(record["mount"], _environment(), _WITHIN)
            if not done:
                raise ProbeError(f"mount {words}"[:300])
        enough = threading.Event()
        try:
            await asyncio.to_thread(_fill, record, enough)
        finally:
            enough.set()  # a thread cannot be cancelled; it looks at this between two pieces

    async def observe(self, record: Record, io: FaultIO) -> Observed:
        try:
            return await asyncio.to_thread(_observed, record)
        except OSError as error:
            return Observed(State.UNKNOWN, f"{record['directory']} cannot be looked at: {error.strerror}")

    async def restore(self, record: Record, io: FaultIO) -> None:
        try:
            ours = await asyncio.to_thread(_is_ours, record)
            if not record["mount"] or ours:
                await asyncio.to_thread(_emptied, record["file"])
        except OSError as error:
            raise NotUndone(f"{record['file']} cannot be removed: {error.strerror}") from None
        if ours:
            done, words = await run_command(("umount", "--lazy", record["directory"]), _environment(), _WITHIN)
            if not done:
                raise NotUndone(f"umount {words}"[:300])
        elif record["mount"] and _buried(record):
            raise NotUndone(f"another mount lies over ours at {record['directory']}; unmount it first")


def _prepared(params: DiskParams, given: Preparing) -> Prepared:
    directory = os.path.realpath(params.directory)
    try:
        found = os.stat(directory)
        free, size = _free(directory)
    except OSError as error:
        raise Refused(f"{params.directory}: {error.strerror}", "directory") from None
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(f"{params.directory} is no directory", "directory")
    name = f"sp-{given.token}"
    file = f"{directory}/.{name}.full"
    on_root = params.mount is None and found.st_dev == os.stat("/").st_dev
    if params.mount is None:
        _may_fill(params, directory, free, on_root)
        mount, size = [], free
    else:
        _may_cover(directory, params.mount)
        options = f"size={params.mount},mode={stat.S_IMODE(found.st_mode):o},uid={found.st_uid},gid={found.st_gid},nosuid,nodev"
        mount, size = ["mount", "-t", "tmpfs", "-o", options, name, directory], params.mount
    commands = [Command(f"fallocate -l {max(0, size - params.floor)} {shlex.quote(file)}", f"rm {shlex.quote(file)}")]
    if mount:
        commands.insert(0, Command(shlex.join(mount), f"umount --lazy {shlex.quote(directory)}"))
    return Prepared(
        klass=Klass.REVERSIBLE,
        targets=(f"{'root-disk' if on_root else 'disk'}:{_NO_NAME.sub('_', directory)}",),
        of=1,
        record={
            "directory": directory,
            "file": file,
            "name": name,
            "leave": params.floor,
            "size": size,
            "mount": mount,
            "inject_within": _FILLED,
        },
        commands=tuple(commands),
    )


def _may_fill(params: DiskParams, directory: str, free: int, on_root: bool) -> None:
    if on_root and not params.root_filesystem:
        raise Refused(
            f"{directory} is on the root filesystem: fill a mount of its own (mount: 64MB),"
            " or say root_filesystem: true and have root-disk:… allowed",
            "directory",
        )
    under = _mount_of(directory)
    if under is None or _REMOTE.search(under.kind):
        kind = under.kind if under is not None else "unknown"
        raise Refused(f"{directory} is on a {kind} filesystem, where a look may hang; name a local one", "directory")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise Refused(f"this user may not write to {directory}", "directory")
    if free <= params.floor:
        raise Refused(f"{directory} has {free // _MIB} MiB free as it is, and {params.floor // _MIB} are to be left", "leave")


def _may_cover(directory: str, size: int) -> None:
    if os.geteuid() != 0:
        raise Refused("to mount needs root", "mount")
    if shutil.which("mount") is None or shutil.which("umount") is None:
        raise Refused("mount and umount are not here (package util-linux)", "mount")
    ours = [os.getcwd(), sys.prefix, sys.base_prefix, __file__, tempfile.gettempdir(), os.path.expanduser("~")]
    ours += [os.environ[name] for name in ("XDG_STATE_HOME", "STATE_DIRECTORY") if os.environ.get(name)]
    for path in map(os.path.realpath, (*ours, *_SYSTEM)):
        if path == directory or path.startswith(f"{directory.rstrip('/')}/"):
            raise Refused(f"{path} lies in {directory}, and is needed", "directory")
    if psutil.virtual_memory().available - size < _MEMORY_LEFT:
        raise Refused(f"a tmpfs of {size // _MIB} MiB would leave less than {_MEMORY_LEFT // _MIB} MiB of memory", "mount")


def _fill(record: Record, enough: threading.Event) -> None:
    """Until so much is free; a file without room for more is as full as it gets."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(record["file"], flags, 0o600)
    try:
        at, piece = 0, _PIECE
        least = os.fstatvfs(file).f_frsize
        while not enough.is_set() and piece >= least:
            left = _free(file)[0] - record["leave"]
            take = min(piece, left)
            if take < least:
                return
            try:
                os.posix_fallocate(file, at, take)
                at += take
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                piece = take // 2
    finally:
        os.close(file)


def _observed(record: Record) -> Observed:
    if not os.path.isdir(record["directory"]):
        return Observed(State.GONE, f"there is no {record['directory']} any more")
    if record["mount"] and not _is_ours(record):
        if _buried(record):
            return Observed(State.UNKNOWN, "another mount lies over ours")
        return Observed(State.RESTORED, f"no mount {record['name']} at {record['directory']}")
    if not os.path.lexists(record["file"]):
        if record["mount"]:
            return Observed(State.UNKNOWN, f"the mount {record['name']} is there, and not full")
        return Observed(State.RESTORED, f"no file {os.path.basename(record['file'])}")
    free, _ = _free(record["directory"])
    words = f"{free / _MIB:.1f} MiB free, {record['leave'] / _MIB:.1f} to be left"
    # What others free meanwhile, and what a filesystem rounds.
    slack = max(64 * 1024, min(_SLACK, (record["size"] - record["leave"]) // 20))
    return Observed(State.INJECTED if free <= record["leave"] + slack else State.UNKNOWN, words)


def _emptied(file: str) -> None:
    """Remove it, if it is a file. Truncated first: who still holds it gives nothing back by its name alone."""
    try:
        if not stat.S_ISREG(os.lstat(file).st_mode):
            return
        os.truncate(file, 0)
        os.unlink(file)
    except FileNotFoundError:
        pass


def _is_ours(record: Record) -> bool:
    """Whether what is mounted there, topmost, bears our name."""
    there = [one for one in _mounts() if one.point == record["directory"]]
    return bool(there) and there[-1].source == record["name"] and there[-1].kind == "tmpfs"


def _buried(record: Record) -> bool:
    return any(one.point == record["directory"] and one.source == record["name"] for one in _mounts())


def _mount_of(path: str) -> _Mount | None:
    over = [one for one in _mounts() if path == one.point or path.startswith(f"{one.point.rstrip('/')}/")]
    return max(reversed(over), key=lambda one: len(one.point), default=None)  # the latest of one place lies on top


def _mounts() -> list[_Mount]:
    """As proc_pid_mountinfo(5) has them: the later lie over the earlier."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            kind, source = after.split()[:2]
            found.append(_Mount(_plain(before.split()[4]), kind, _plain(source)))
    return found


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)


def _free(where: str | int) -> tuple[int, int]:
    """Bytes that may be written without privilege, and all there are."""
    found = os.statvfs(where)
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def _environment() -> dict[str, Any]:
    return {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C"}
