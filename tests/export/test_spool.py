"""The spool: in order, bounded, nothing lost uncounted, whatever ends the process and whatever the disk does."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.export import spool as module
from probe.export.spool import Counts, Item, Spool, SpoolInUse
from probe.export.spool_segment import OVERHEAD
from tests.tools import requires, requires_root, spawn, wait_until

MB = 1 << 20


@contextmanager
def opened(directory: Path, limit: int = MB) -> Iterator[Spool]:
    with closing(Spool(directory, limit, name="t")) as spool:
        yield spool


def payloads(items: list[Item]) -> list[bytes]:
    return [item.payload for item in items]


def balanced(spool: Spool) -> Counts:
    counts = spool.counts()
    assert counts.put + counts.recovered == counts.done + sum(counts.dropped.values()) + counts.held, counts
    return counts


def drained(spool: Spool) -> list[bytes]:
    out = []
    while items := spool.peek(7):
        out += payloads(items)
        assert spool.done(item.id for item in items) == len(items)
    return out


def files(directory: Path) -> list[Path]:
    return sorted((directory / "t").glob("*.spool"))


def test_what_is_put_comes_out_in_order_and_stays_until_done(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        assert all(spool.put(b"%d" % n) for n in range(100))
        assert payloads(spool.peek(3)) == payloads(spool.peek(3)) == [b"0", b"1", b"2"]
        assert spool.done([spool.peek(1)[0].id]) == 1
        assert payloads(spool.peek(2)) == [b"1", b"2"]
        assert drained(spool) == [b"%d" % n for n in range(1, 100)]
        assert (spool.count, spool.bytes, files(tmp_path)) == (0, 0, [])
        assert balanced(spool) == Counts(put=100, recovered=0, done=100, dropped={}, held=0)


def test_done_in_any_order_and_twice(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        for n in range(10):
            spool.put(b"%d" % n)
        ids = [item.id for item in spool.peek(10)]
        assert spool.done([ids[4], ids[2], 999]) == 2
        assert spool.done([ids[4]]) == 0
        assert spool.drop([ids[0], ids[4]], "refused") == 1
        assert payloads(spool.peek(10)) == [b"1", b"3", b"5", b"6", b"7", b"8", b"9"]
        balanced(spool)
    with opened(tmp_path) as spool:
        assert payloads(spool.peek(10)) == [b"1", b"3", b"5", b"6", b"7", b"8", b"9"]
        assert spool.peek(1)[0].id == ids[1], "ids stay over a restart"


def test_a_look_is_bounded_by_size_and_gives_at_least_one(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        for _ in range(5):
            spool.put(b"x" * 1000)
        assert len(spool.peek(10, size=2500)) == 2
        assert len(spool.peek(10, size=1)) == 1
        assert spool.peek(0) == []


def test_empty_payloads_are_items_too(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        spool.put(b"")
        spool.put(b"SPL1SPL1")
    with opened(tmp_path) as spool:
        assert drained(spool) == [b"", b"SPL1SPL1"]


def test_at_the_limit_the_oldest_go_first_and_are_counted(tmp_path: Path) -> None:
    limit = 64 * 1024
    with opened(tmp_path, limit) as spool:
        for n in range(1000):
            assert spool.put(b"%04d" % n * 50)
            assert sum(file.stat().st_size for file in files(tmp_path)) <= limit
        counts = balanced(spool)
        assert counts.dropped.keys() == {"full"}
        assert counts.held * (200 + OVERHEAD) > limit * 3 // 4, "a file at a time, not everything"
        assert drained(spool) == [b"%04d" % n * 50 for n in range(counts.dropped["full"], 1000)]


def test_done_after_it_was_dropped_is_not_counted_twice(tmp_path: Path) -> None:
    with opened(tmp_path, 8192) as spool:
        spool.put(b"first")
        (first,) = spool.peek(1)
        for _ in range(100):
            spool.put(b"x" * 1000)
        assert spool.done([first.id]) == 0
        balanced(spool)


def test_what_is_larger_than_the_limit_is_refused_and_counted(tmp_path: Path) -> None:
    with opened(tmp_path, 4096) as spool:
        spool.put(b"kept")
        assert not spool.put(b"x" * 5000)
        assert balanced(spool).dropped == {"too_large": 1}
        assert drained(spool) == [b"kept"]


def test_a_smaller_limit_after_a_restart_holds_at_the_next_item(tmp_path: Path) -> None:
    with opened(tmp_path, MB) as spool:
        for _ in range(500):
            spool.put(b"x" * 1000)
    with opened(tmp_path, 100_000) as spool:
        assert spool.counts().recovered == 500
        spool.put(b"new")
        assert spool.bytes <= 100_000
        assert balanced(spool).dropped["full"] > 300
        assert drained(spool)[-1] == b"new"


def test_two_processes_cannot_have_one_spool(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from probe.export.spool import Spool; Spool(Path({str(tmp_path)!r}), 9999, name='t')"
    with opened(tmp_path):
        with pytest.raises(SpoolInUse, match="in use by another process"):
            Spool(tmp_path, MB, name="t")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
        assert "SpoolInUse" in done.stderr and "state directory of its own" in done.stderr
        with closing(Spool(tmp_path, MB, name="another")):
            pass
    with opened(tmp_path) as spool:
        assert spool.put(b"free again")


# -- whatever ends the process


def test_cut_off_at_every_byte_all_before_it_is_there(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    with opened(whole) as spool:
        for n in range(5):
            spool.put(b"payload %d" % n)
    (file,) = files(whole)
    data = file.read_bytes()
    record = len(data) // 5
    for cut in range(len(data) + 1):
        home = tmp_path / "cut"
        (home / "t").mkdir(parents=True)
        (home / "t" / file.name).write_bytes(data[:cut])
        with opened(home) as spool:
            counts = balanced(spool)
            assert counts.dropped == ({"torn": 1} if cut % record else {})
            spool.put(b"after")
            assert drained(spool) == [b"payload %d" % n for n in range(cut // record)] + [b"after"]
        shutil.rmtree(home)


@settings(max_examples=60)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 40))
def test_a_damaged_middle_costs_what_it_touches_and_no_more(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int, cut: int
) -> None:
    home = tmp_path_factory.mktemp("spool")
    with opened(home) as spool:
        for n in range(10):
            spool.put(b"payload %02d" % n)
    (file,) = files(home)
    data = file.read_bytes()
    record = len(data) // 10
    at = min(at, len(data))
    file.write_bytes(data[:at] + junk + data[at + cut :])
    with opened(home) as spool:
        balanced(spool)
        out = drained(spool)
        assert out == sorted(set(out)) and set(out) <= {b"payload %02d" % n for n in range(10)}
        touched = -(-cut // record) + 1
        assert len(out) >= 10 - touched


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_any_file_can_be_opened(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    home = tmp_path_factory.mktemp("spool")
    (home / "t").mkdir()
    (home / "t" / f"{7:016x}.spool").write_bytes(b"SPL1" + data)
    (home / "t" / "README").write_text("not ours")
    with opened(home) as spool:
        spool.put(b"x")
        assert drained(spool)[-1] == b"x"
        balanced(spool)
    assert (home / "t" / "README").exists()


def test_a_record_that_changes_on_disk_is_dropped_when_met(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        for n in range(3):
            spool.put(b"payload %d" % n)
        (file,) = files(tmp_path)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        assert drained(spool) == [b"payload 0", b"payload 2"]
        assert balanced(spool).dropped == {"damaged": 1}


_WRITER = """
import sys
from pathlib import Path
from probe.export.spool import Spool
spool = Spool(Path(sys.argv[1]), 64 << 20, name="t")
n = 0
while True:
    spool.put(b"%d " % n + b"x" * (n * 37 % 3000))
    print(n, flush=True)
    n += 1
    if n % 5 == 0:
        items = spool.peek(3)
        print("done", *[item.payload.split()[0].decode() for item in items], flush=True)
        spool.done(item.id for item in items)
"""


@pytest.mark.parametrize("after", [1, 40, 300, 1000, 2500])
async def test_killed_at_any_moment_nothing_that_was_taken_is_lost(tmp_path: Path, after: int) -> None:
    with spawn([sys.executable, "-c", _WRITER, tmp_path], tmp_path / "out") as child:
        await wait_until(lambda: (tmp_path / "out").read_bytes().count(b"\n") > after, 20)
        os.kill(child.pid, signal.SIGKILL)
        await child.exit()
    *lines, _ = (tmp_path / "out").read_text().split("\n")
    put = {int(line) for line in lines if not line.startswith("done")}
    done = {int(word) for line in lines if line.startswith("done") for word in line.split()[1:]}
    with opened(tmp_path, 64 * MB) as spool:
        found = [int(payload.split()[0]) for payload in drained(spool)]
        assert found == sorted(set(found))
        assert put - done <= set(found), "taken, and not there"
        twice = set(found) & done
        assert len(twice) <= 3, "at most the last batch: it was told before it was forgotten"
        assert len(set(found) - put) <= 1, "one may be written and not yet told"
        assert balanced(spool).dropped.get("torn", 0) <= 1


# -- whatever the disk does


class Refusing:
    """os.pwrite that answers like a full disk while `full`, after `some` bytes of the last write."""

    def __init__(self, some: int = 0) -> None:
        self.full = False
        self._some = some
        self._pwrite: Callable[[int, bytes, int], int] = os.pwrite

    def __call__(self, fd: int, data: bytes, offset: int) -> int:
        if not self.full or len(data) == 1:
            return self._pwrite(fd, data, offset)
        if self._some and len(data) > self._some:
            return self._pwrite(fd, data[: self._some], offset)
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("some", [0, 10])
def test_a_full_disk_keeps_items_in_memory_and_writes_them_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, some: int
) -> None:
    disk = Refusing(some)
    monkeypatch.setattr(os, "pwrite", disk)
    with opened(tmp_path) as spool:
        spool.put(b"0 before")
        disk.full = True
        assert spool.put(b"1 during") and spool.put(b"2 during")
        assert spool.problem == "No space left on device"
        assert payloads(spool.peek(9)) == [b"0 before", b"1 during", b"2 during"]
        assert spool.done([spool.peek(9)[1].id]) == 1
        disk.full = False
        spool.put(b"3 after")
        assert spool.problem == ""
        balanced(spool)
    with opened(tmp_path) as spool:
        assert drained(spool) == [b"0 before", b"2 during", b"3 after"]
        assert balanced(spool).dropped == {}


def test_memory_is_bounded_and_what_it_cannot_hold_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Refusing()
    monkeypatch.setattr(os, "pwrite", disk)
    monkeypatch.setattr(module, "_MEMORY", 10_000)
    disk.full = True
    spool = Spool(tmp_path, MB, name="t")
    for n in range(100):
        assert spool.put(b"%03d" % n + b"x" * 997)
    assert not spool.put(b"x" * 20_000)
    assert spool.bytes <= 10_000
    assert balanced(spool).dropped == {"disk": 91}
    assert payloads(spool.peek(1))[0].startswith(b"090")
    spool.close()
    assert balanced(spool).dropped == {"disk": 101}, "what only memory held ends with it"
    assert not spool.put(b"late") and spool.peek(1) == []
    balanced(spool)


def test_a_directory_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with closing(Spool(tmp_path / "file", MB, name="t")) as spool:
        assert spool.put(b"held")
        assert spool.problem
        assert drained(spool) == [b"held"]
        balanced(spool)


_IN_NAMESPACE = """
set -e
mkdir -p "$2"
mount -t tmpfs -o size=256k none "$2"
exec "$1" -c "$3" "$2"
"""

_ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from probe.export.spool import Spool
home = Path(sys.argv[1])
spool = Spool(home, 1 << 20, name="t")
for n in range(300):
    assert spool.put(b"%03d" % n + b"x" * 2000)
assert spool.problem == "No space left on device", spool.problem
counts = spool.counts()
assert counts.dropped == {} and counts.held == 300, counts
out = []
while items := spool.peek(20):
    out += [int(item.payload[:3]) for item in items]
    spool.done(item.id for item in items)
assert out == list(range(300)), out
spool.put(b"again")
assert spool.problem == "", spool.problem
spool.close()
assert spool.counts().held == 1
print("well")
"""


def test_on_a_disk_that_is_really_full(tmp_path: Path) -> None:
    requires_root("mounts a small tmpfs in a namespace of its own")
    unshare = requires("unshare", package="util-linux")
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", _IN_NAMESPACE, "sh", sys.executable, str(tmp_path / "disk"), _ON_A_SMALL_DISK],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.stdout == "well\n", done.stderr


_READ_ONLY = """
set -e
mount --bind "$2" "$2"
mount -o remount,ro,bind "$2"
exec "$1" -c "$3" "$2"
"""

_ON_A_READ_ONLY_DISK = """
import sys
from pathlib import Path
from probe.export.spool import Spool, SpoolInUse
spool = Spool(Path(sys.argv[1]), 1 << 20, name="t")
try:
    Spool(Path(sys.argv[1]), 1 << 20, name="t")
except SpoolInUse:
    pass
assert spool.put(b"new")
assert "Read-only" in spool.problem, spool.problem
items = spool.peek(9)
assert [item.payload for item in items] == [b"old", b"new"], items
assert spool.done(item.id for item in items) == 2 and spool.count == 0
spool.close()
print("well")
"""


def test_on_a_read_only_disk_what_is_there_can_be_sent(tmp_path: Path) -> None:
    requires_root("mounts a directory read-only in a namespace of its own")
    unshare = requires("unshare", package="util-linux")
    home = tmp_path / "home"
    with opened(home) as spool:
        spool.put(b"old")
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", _READ_ONLY, "sh", sys.executable, str(home), _ON_A_READ_ONLY_DISK],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.stdout == "well\n", done.stderr
    with opened(home) as spool:
        assert drained(spool) == [b"old"], "the disk could not be told; sent again, not lost"


def test_a_sync_that_hangs_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, release = threading.Event(), threading.Event()

    def fsync(fd: int) -> None:
        begun.set()
        assert release.wait(10)

    monkeypatch.setattr(os, "fsync", fsync)
    with opened(tmp_path) as spool:
        try:
            spool.put(b"0")
            assert begun.wait(5)
            for n in range(1, 200):
                spool.put(b"%d" % n)
            assert drained(spool) == [b"%d" % n for n in range(200)]
        finally:
            release.set()


def test_without_a_descriptor_left_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as spool:
        spool.put(b"x")
        with monkeypatch.context() as patched:

            def dup(fd: int) -> int:
                raise OSError(errno.EMFILE, "Too many open files")

            patched.setattr(os, "dup", dup)
            assert spool.peek(1) == []
            spool.put(b"y")
        assert drained(spool) == [b"x", b"y"]
        balanced(spool)


def test_many_threads_lose_nothing(tmp_path: Path) -> None:
    with opened(tmp_path, 64 * MB) as spool:
        out: list[bytes] = []
        finished = threading.Event()

        def writes(who: int) -> None:
            for n in range(400):
                spool.put(b"%d %d" % (who, n))

        def reads() -> None:
            while not finished.is_set() or spool.count:
                items = spool.peek(50)
                out.extend(item.payload for item in items)
                spool.done(item.id for item in items)

        reader = threading.Thread(target=reads)
        writers = [threading.Thread(target=writes, args=(who,)) for who in range(4)]
        for thread in (reader, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        finished.set()
        reader.join()
        assert sorted(out) == sorted(b"%d %d" % pair for pair in itertools.product(range(4), range(400)))
        for who in range(4):
            mine = [payload for payload in out if payload.startswith(b"%d " % who)]
            assert mine == [b"%d %d" % (who, n) for n in range(400)]
        balanced(spool)


@settings(max_examples=40)
@given(
    st.lists(st.one_of(st.integers(0, 3000), st.sampled_from(["peek", "done", "drop", "full", "free", "reopen"])), max_size=40)
)
def test_the_sum_holds_whatever_happens(tmp_path_factory: pytest.TempPathFactory, actions: list[int | str]) -> None:
    home = tmp_path_factory.mktemp("spool")
    disk = Refusing(some=100)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "pwrite", disk)
        patched.setattr(module, "_MEMORY", 5000)
        patched.setattr(module, "_SYNC_SECONDS", 0.0)
        spool = Spool(home, 16_384, name="t")
        seen: list[Item] = []
        for action in actions:
            match action:
                case int():
                    spool.put(b"x" * action)
                case "peek":
                    seen = spool.peek(3)
                    assert [item.id for item in seen] == sorted({item.id for item in seen})
                case "done":
                    spool.done(item.id for item in seen)
                case "drop":
                    spool.drop((item.id for item in seen), "refused")
                case "full" | "free":
                    disk.full = action == "full"
                case _:
                    held = spool.counts().held
                    lost = spool.dropped
                    spool.close()
                    kept = held - (spool.dropped - lost)
                    balanced(spool)
                    spool = Spool(home, 16_384, name="t")
                    assert spool.counts().recovered == kept
            balanced(spool)
            assert spool.bytes <= 16_384 + 5000
        disk.full = False
        drained(spool)
        assert spool.count == 0
        spool.close()
