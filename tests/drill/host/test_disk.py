"""A full disk: a tmpfs of the test's own that is filled, and one of the fault's own laid over a directory."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from probe.drill.faults.base import Klass, NotUndone, State
from probe.drill.faults.disk import DiskParams
from probe.errors import ProbeError
from tests.drill.host.tools import Course, prepared, refusal
from tests.tools import requires, requires_root

_MIB = 1 << 20


@contextmanager
def _mounted(place: Path, size: int = 32 * _MIB) -> Iterator[Path]:
    """A small filesystem of the test's own."""
    requires_root("to mount a filesystem")
    place.mkdir(exist_ok=True)
    subprocess.run([requires("mount"), "-t", "tmpfs", "-o", f"size={size}", "the-tests-own", place], check=True)
    try:
        yield place
    finally:
        subprocess.run([requires("umount"), "--lazy", place], check=True)


def _mounts(place: Path) -> list[str]:
    """Sources of what is mounted there, the topmost last; read here, not by what is tested."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[0] for line in lines if line.split()[1] == str(place)]


def _fits(place: Path, size: int) -> bool:
    """Whether somebody can write so much there."""
    file = place / "somebodys"
    try:
        with file.open("wb") as out:
            out.write(b"x" * size)
        return True
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    finally:
        file.unlink(missing_ok=True)


async def _filled(course: Course, place: Path, leave: int) -> None:
    await course.inject()
    seen = await course.look()
    assert seen.state is State.INJECTED, seen
    assert not _fits(place, leave + 2 * _MIB)


async def test_a_filesystem_is_filled_up_to_what_is_to_be_left_and_emptied_again(tmp_path):
    with _mounted(tmp_path / "data") as place:
        (place / "theirs").write_bytes(b"kept")
        (place / ".sp-00000000.full").write_bytes(b"a neighbour's")
        course = await prepared("disk", {"directory": str(place), "leave": "4MiB"})
        assert course.prepared.klass is Klass.REVERSIBLE and course.prepared.targets == (f"disk:{place}",)
        assert (await course.look()).state is State.RESTORED
        await course.restore()
        await _filled(course, place, 4 * _MIB)
        assert _fits(place, 3 * _MIB)  # the rest is everybody's
        await course.restore()
        await course.restore()
        assert (await course.look()).state is State.RESTORED
        assert _fits(place, 24 * _MIB)
        assert sorted(os.listdir(place)) == [".sp-00000000.full", "theirs"] and (place / "theirs").read_bytes() == b"kept"


async def test_another_process_empties_it_and_who_holds_the_file_open_holds_no_room(tmp_path):
    with _mounted(tmp_path / "data") as place:
        course = await prepared("disk", {"directory": str(place), "leave": "4MiB"})
        await _filled(course, place, 4 * _MIB)
        with open(course.record["file"], "rb"):
            assert (await course.undone_elsewhere()).startswith("restored")
            assert _fits(place, 24 * _MIB)


async def test_room_that_others_make_is_no_full_disk_and_a_directory_that_vanishes_takes_the_fault_with_it(tmp_path):
    with _mounted(tmp_path / "data") as place:
        (place / "big").write_bytes(b"x" * (16 * _MIB))
        (place / "deep").mkdir()
        course = await prepared("disk", {"directory": str(place / "deep"), "leave": "4MiB"})
        await _filled(course, place, 4 * _MIB)
        (place / "big").unlink()
        assert (await course.look()).state is State.UNKNOWN
        (place / "deep").rename(place / "elsewhere")
        assert (await course.look()).state is State.GONE
        await course.restore()
        (place / "elsewhere").rename(place / "deep")
        await course.restore()
        assert (await course.look()).state is State.RESTORED


async def test_what_stands_in_our_files_place_and_is_none_is_left_alone(tmp_path):
    with _mounted(tmp_path / "data") as place:
        course = await prepared("disk", {"directory": str(place), "leave": "4MiB"})
        precious = tmp_path / "precious"
        precious.write_bytes(b"kept")
        os.symlink(precious, course.record["file"])
        with pytest.raises(FileExistsError):
            await course.inject()
        await course.restore()
        assert precious.read_bytes() == b"kept" and os.path.islink(course.record["file"])


async def test_a_full_mount_of_its_own_hides_a_directory_and_shows_it_again(tmp_path):
    requires_root("to mount a filesystem")
    place = tmp_path / "data"
    place.mkdir(mode=0o750)
    (place / "theirs").write_bytes(b"kept")
    course = await prepared("disk", {"directory": str(place), "mount": "8MiB"})
    try:
        assert "mount -t tmpfs" in course.prepared.commands[0].do and "umount" in course.prepared.commands[0].undo
        assert (await course.look()).state is State.RESTORED
        await course.restore()
        await _filled(course, place, 0)
        assert _mounts(place) == [f"sp-{course.io.token}"] and "theirs" not in os.listdir(place)
        assert place.stat().st_mode & 0o777 == 0o750
        with open(course.record["file"], "rb"):  # the target holds files in it
            await course.restore()
        await course.restore()
        assert (await course.look()).state is State.RESTORED
        assert _mounts(place) == [] and os.listdir(place) == ["theirs"]
    finally:
        await course.restore()


async def test_another_process_takes_the_mount_away_whether_or_not_it_came_to_be_full(tmp_path):
    requires_root("to mount a filesystem")
    place = tmp_path / "da ta"  # which the kernel's list escapes
    place.mkdir()
    course = await prepared("disk", {"directory": str(place), "mount": "8MiB"})
    try:
        subprocess.run(course.record["mount"], check=True)  # and then the runner died
        assert (await course.look()).state is State.UNKNOWN
        assert (await course.undone_elsewhere()).startswith("restored")
        assert not os.path.ismount(place)
    finally:
        await course.restore()


async def test_a_mount_that_is_anothers_is_left_alone(tmp_path):
    requires_root("to mount a filesystem")
    place = tmp_path / "data"
    place.mkdir()
    course = await prepared("disk", {"directory": str(place), "mount": "8MiB"})
    try:
        await course.inject()
        with _mounted(place):
            assert (await course.look()).state is State.UNKNOWN
            with pytest.raises(NotUndone, match="another mount lies over ours"):
                await course.restore()
            assert _mounts(place) == [f"sp-{course.io.token}", "the-tests-own"]
    finally:
        await course.restore()
    assert _mounts(place) == []
    with _mounted(place):
        await course.restore()
        assert _mounts(place) == ["the-tests-own"]


async def test_a_mount_that_is_refused_by_the_kernel_is_told(tmp_path):
    requires_root("to mount a filesystem")
    place = tmp_path / "data"
    place.mkdir()
    course = await prepared("disk", {"directory": str(place), "mount": "8MiB"})
    place.rmdir()
    with pytest.raises(ProbeError, match="mount"):
        await course.inject()
    await course.restore()
    assert (await course.look()).state is State.GONE


async def test_what_it_must_not_do_is_refused_with_what_to_do(tmp_path):
    requires_root("to mount a filesystem")
    assert "is no directory" in await refusal("disk", {"directory": "/etc/hostname"})
    assert "No such file" in await refusal("disk", {"directory": str(tmp_path / "none")})
    for directory in ("/", "/usr", str(Path.cwd().parent), "/var"):
        assert "is needed" in await refusal("disk", {"directory": directory, "mount": "8MiB"})
    with _mounted(tmp_path / "data") as place:
        assert "are to be left" in await refusal("disk", {"directory": str(place), "leave": "64MB"})
        assert "of memory" in await refusal("disk", {"directory": str(place), "mount": "900GiB"})


async def test_the_root_filesystem_is_filled_only_where_the_drill_says_so_and_has_a_name_of_its_own():
    said = await refusal("disk", {"directory": "/"})
    assert "root_filesystem: true" in said and "mount: 64MB" in said
    course = await prepared("disk", {"directory": "/", "root_filesystem": True, "leave": "64MB"})  # and is not injected
    assert course.prepared.targets == ("root-disk:/",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"directory": "data"}, "absolute path"),
        ({"directory": "/data", "leave": "1kB"}, "at least 1MB"),
        ({"directory": "/data", "mount": "1kB"}, "greater than or equal"),
        ({"directory": "/data", "mount": "1MB", "leave": "1MB"}, "all of the mount free"),
    ],
)
def test_what_cannot_be_is_told(words, said):
    with pytest.raises(ValidationError, match=said):
        DiskParams.model_validate(words)
