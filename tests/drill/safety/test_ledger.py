"""A ledger: what was in it when the power went is in it afterwards, or the file is refused; never is anything lost in silence."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.clock import SystemClock, TestBootClock
from probe.drill import ledger as module
from probe.drill.book import MOST_BYTES, Book, LedgerRefused, parse, read
from probe.drill.faults.base import Command, Klass, Prepared
from probe.drill.ledger import Ledger, NotKept
from probe.drill.lines import LONGEST, encode
from probe.errors import ConfigError
from probe.model.clock import NS
from probe.net.redact import Redactor
from tests.drill.safety.marker import KIND, prepared
from tests.tools import requires_root

SECRET = "canary-7d1c20-password"
HERE = Path("ledger.jsonl")


def written(ledger: Ledger, name: str = "cut", **changes: object) -> int:
    values = {"token": "0a1b2c3d", "expires": 60 * NS} | changes
    ready = values.pop("prepared", prepared(Path(f"/tmp/{name}")))
    return ledger.will(name, KIND, ready, **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """All kinds of lines: three faults, one put back, one given up, one in place."""
    with Ledger.opened(tmp_path_factory.mktemp("sample"), drill="edge-down", run="r1") as ledger:
        for name in ("one", "two", "three"):
            ledger.injected(written(ledger, name))
        ledger.trying(1, "runner", 1)
        ledger.undone(1, "restored", "runner")
        ledger.trying(2, "watchdog", 1)
        ledger.tried(2, "watchdog", 1, "it hangs")
        ledger.not_undone(2, "it hangs still")
        return ledger.path.read_bytes()


def lines_of(data: bytes) -> list[tuple[int, int]]:
    """Begin and end of each."""
    ends = [match.end() for match in re.finditer(b"\n", data)]
    return list(zip([0, *ends], ends, strict=False))


def test_every_fault_is_there_with_all_its_undo_takes(drills: Path) -> None:
    boot = TestBootClock(now=5 * NS, boot="this-boot")
    ready = Prepared(
        klass=Klass.IRREVERSIBLE,
        targets=("process:nginx/4711",),
        of=3,
        record={"pid": 4711, "nested": {"a": [1, None, "ä\n"]}},
        commands=(Command("kill 4711", "systemctl start nginx"),),
        restored_by="systemd",
        limit="WatchdogSec",
    )
    with Ledger.opened(drills, drill="d", run="r", boot=boot) as ledger:
        number = written(ledger, "killed", prepared=ready, token="deadbeef", expires=35 * NS)
        ledger.injected(number)
        entry = ledger.book().entries[number]
        assert entry == ledger.entry(number)
        assert (entry.fault, entry.kind, entry.klass, entry.targets) == ("killed", KIND, ready.klass, ready.targets)
        assert (entry.record, entry.commands, entry.token) == (ready.record, ready.commands, "deadbeef")
        assert (entry.expires, entry.boot, entry.restored_by, entry.limit) == (35 * NS, "this-boot", "systemd", "WatchdogSec")
        assert abs(entry.wall_unix_ns - SystemClock().wall().unix_ns - 30 * NS) < 20 * NS  # for people
        assert ledger.book().injected == {number}


def test_faults_that_are_written_at_once_are_told_apart(drills: Path) -> None:
    """Each from a thread of its own, as a runner does with faults of one instant."""
    with Ledger.opened(drills, drill="d", run="r") as ledger:
        barrier = threading.Barrier(8)

        def write(n: int) -> int:
            barrier.wait(10)
            return written(ledger, f"fault-{n}")

        with ThreadPoolExecutor(8) as pool:
            numbers = list(pool.map(write, range(8)))
        assert sorted(numbers) == list(range(1, 9))
        assert {n: entry.fault for n, entry in ledger.book().entries.items()} == {
            number: f"fault-{n}" for n, number in enumerate(numbers)
        }


def test_it_is_this_users_alone(drills: Path) -> None:
    before = os.umask(0)
    try:
        ledger = Ledger.opened(drills, drill="d", run="r")
    finally:
        os.umask(before)
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(drills.stat().st_mode) == 0o700
    ledger.close()


def test_a_will_is_synced_with_its_directory_before_it_returns(drills: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, int]] = []

    def fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append(("directory" if stat.S_ISDIR(found.st_mode) else "file", found.st_size))

    with Ledger.opened(drills, drill="d", run="r") as ledger:
        monkeypatch.setattr(os, "fsync", fsync)
        for written_line in (lambda: written(ledger), lambda: ledger.undone(1, "restored", "runner")):
            synced.clear()
            written_line()
            assert [what for what, _ in synced] == ["file", "directory"]
            assert synced[0][1] == ledger.path.stat().st_size  # after the line was written, not before


# -- power cuts


def test_torn_at_every_byte_it_is_recovered_and_what_had_begun_is_known(sample: bytes) -> None:
    """Every line that was whole is believed, the unfinished one is told, nothing else happens: at each of some 2,300 places."""
    spans = lines_of(sample)
    seen = set()
    for cut in range(1, len(sample)):
        book = parse(HERE, sample[:cut])
        whole = [span for span in spans if span[1] <= cut]
        same = parse(HERE, sample[: whole[-1][1]]) if whole else Book(path=HERE)
        if cut in {end - 1 for _, end in spans}:  # only its newline is missing: all of it is known
            assert not book.torn
            continue
        assert book.torn == cut - (whole[-1][1] if whole else 0)
        assert (book.entries, book.ended, book.open) == (same.entries, same.ended, same.open)
        seen.add((len(book.entries), len(book.ended)))
    assert seen >= {(0, 0), (1, 0), (2, 0), (3, 0), (3, 1)}


@pytest.mark.parametrize("last", range(3))
def test_torn_anywhere_in_its_last_lines_it_can_be_written_on(sample: bytes, drills: Path, last: int) -> None:
    """Cut off, and that is noted; then there is nothing torn any more."""
    drills.mkdir(parents=True, mode=0o700)
    path = drills / "r.jsonl"
    begin, end = lines_of(sample)[-1 - last]
    for cut in [*range(begin + 1, end, 9), end - 1]:
        path.write_bytes(sample[:cut])
        path.chmod(0o600)
        ledger = Ledger.joined(path, redactor=Redactor(), clock=SystemClock(), boot=TestBootClock())
        for entry in ledger.book().open:
            ledger.undone(entry.number, "restored", "recover")
        ledger.close()
        book = read(path)
        assert not book.torn and not book.open and book.closed
        assert len(book.ended) == len(book.entries)
        assert (b'"event":"torn"' in path.read_bytes()) == (cut != end - 1)


def test_two_that_mend_at_once_mend_once(sample: bytes, drills: Path) -> None:
    """Both have seen it torn; the second finds nothing to do."""
    drills.mkdir(parents=True, mode=0o700)
    path = drills / "r.jsonl"
    path.write_bytes(sample[:-7])
    path.chmod(0o600)
    means: dict[str, Any] = {"redactor": Redactor(), "clock": SystemClock(), "boot": TestBootClock()}
    first, second = Ledger.joined(path, **means), Ledger.joined(path, **means)
    mended = path.read_bytes()
    second._mend()
    assert path.read_bytes() == mended
    for ledger in (first, second):
        ledger.tried(2, "recover", 1, "no")
        ledger.leave()
    assert len(read(path).open) == 2


def test_damage_that_comes_meanwhile_is_no_reason_to_stop_undoing(drills: Path) -> None:
    """It is told as a line that could not be kept."""
    with Ledger.opened(drills, drill="d", run="r") as ledger:
        number = written(ledger)
        with ledger.path.open("ab") as file:
            file.write(b"garbage\nmore garbage")
        with pytest.raises(NotKept, match="is damaged"):
            ledger.trying(number, "runner", 1)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_sectors_that_never_reached_the_disk_are_told_or_refused(sample: bytes, data: st.DataObject) -> None:
    """From some sector on, zeros, up to some length of the file: no line that is believed is another than was written."""
    pad = b" " * data.draw(st.integers(0, 511))  # lines lie anywhere among sectors
    padded = sample[: lines_of(sample)[0][1]] + encode("torn", {"pad": len(pad) * "x"}) + sample[lines_of(sample)[0][1] :]
    at = data.draw(st.integers(0, len(padded) // 512)) * 512
    until = data.draw(st.integers(at, len(padded)))
    lost = padded[:at] + b"\0" * (until - at)
    try:
        book = parse(HERE, lost)
    except LedgerRefused:
        return  # told
    true = parse(HERE, padded[: book.sound])
    assert (book.entries, book.ended) == (true.entries, true.ended)
    assert book.torn or lost == padded[: len(lost)]


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_one_bit_that_rots_refuses_the_file(sample: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(sample) - 1))
    rotten = bytearray(sample)
    rotten[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(LedgerRefused) as refused:
        parse(HERE, bytes(rotten))
    line = sample[:at].count(b"\n") + 1
    assert refused.value.mistakes[0].line in (line, line + (sample[at] == 10))


def test_damage_in_the_middle_names_file_line_what_was_touched_and_the_remedy(sample: bytes, drills: Path) -> None:
    drills.mkdir(parents=True)
    path = drills / "r.jsonl"
    begin, end = lines_of(sample)[4]  # of the second fault
    path.write_bytes(sample[:begin] + b"garbage\n" + sample[end:])
    path.chmod(0o600)
    with pytest.raises(ConfigError) as refused:
        Ledger.opened(drills, drill="next", run="s")
    text = str(refused.value)
    assert text.startswith(f"{path}:5:1 is damaged")
    assert "file:/tmp/one" in text and "file:/tmp/two" in text
    assert f"mv {path} {path}.refused" in text
    assert not (drills / "s.jsonl").exists()


@pytest.mark.parametrize("line", [0, 3])
def test_another_version_is_refused_by_its_name(sample: bytes, line: int) -> None:
    """Also one whose checksum is made otherwise."""
    begin, end = lines_of(sample)[line]
    future = sample[begin:end].replace(b'"v":1', b'"v":2')
    for other in (future, future.replace(b'"sum"', b'"digest"')):
        with pytest.raises(LedgerRefused, match=f":{line + 1}:1 was written by another version .*ledger version 2"):
            parse(HERE, sample[:begin] + other + sample[end:])


@pytest.mark.parametrize(
    "lines",
    [
        [("will", {"number": 1})],
        [("opened", {"drill": "d"})],
        [("undone", {"number": 9, "state": "restored", "by": "x"})],
        [("closed", {}), ("opened", {})],
        [("sung", {"number": 1})],
    ],
)
def test_sound_lines_that_make_no_sense_are_refused(lines: list[tuple[str, dict[str, object]]], sample: bytes) -> None:
    for before in (b"", sample):
        with pytest.raises(LedgerRefused, match="is damaged"):
            parse(HERE, before + b"".join(encode(event, values) for event, values in lines))


def test_a_ledger_without_end_is_not_read(drills: Path) -> None:
    drills.mkdir(parents=True)
    path = drills / "r.jsonl"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    path.chmod(0o600)
    with pytest.raises(LedgerRefused, match=f"longer than {MOST_BYTES >> 20} MiB"):
        read(path)


# -- another's


def test_one_that_others_could_have_written_is_refused(drills: Path, sample: bytes) -> None:
    drills.mkdir(parents=True)
    path = drills / "r.jsonl"
    path.write_bytes(sample)
    path.chmod(0o622)
    with pytest.raises(LedgerRefused, match="can be written by others"):
        read(path)


def test_one_of_another_user_is_refused_and_says_as_whom_to_recover(drills: Path, sample: bytes) -> None:
    requires_root("gives a file away")
    drills.mkdir(parents=True)
    path = drills / "r.jsonl"
    path.write_bytes(sample)
    os.chown(path, 65534, 65534)
    path.chmod(0o600)
    with pytest.raises(LedgerRefused, match=f"sudo -u '#65534' probe drill recover --state {drills.parent}"):
        read(path)


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_what_is_no_file_is_refused_and_does_not_block(drills: Path, sample: bytes, tmp_path: Path, what: str) -> None:
    drills.mkdir(parents=True)
    path = drills / "r.jsonl"
    if what == "link":
        (tmp_path / "elsewhere").write_bytes(sample)
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "pipe":
        os.mkfifo(path, 0o600)
    else:
        path.mkdir()
    with pytest.raises(LedgerRefused, match=re.escape(str(path))):
        read(path)


# -- who may


def test_a_second_runner_is_refused_and_told_of_the_first(drills: Path) -> None:
    with Ledger.opened(drills, drill="first", run="r1"):
        with pytest.raises(ConfigError, match=f"drill first is running from here .process {os.getpid()}."):
            Ledger.opened(drills, drill="second", run="r2")
    with Ledger.opened(drills, drill="second", run="r2"):
        pass


def test_an_open_entry_refuses_the_next_drill_until_it_is_undone(drills: Path) -> None:
    with Ledger.opened(drills, drill="first", run="r1") as ledger:
        number = written(ledger, "cut")
    with pytest.raises(
        ConfigError, match=f"left cut .file:/tmp/cut. to be put back: probe drill recover --state {drills.parent}"
    ):
        Ledger.opened(drills, drill="second", run="r2")
    later = Ledger.joined(ledger.path, redactor=Redactor(), clock=SystemClock(), boot=TestBootClock())
    later.undone(number, "gone", "recover")
    later.close()
    with Ledger.opened(drills, drill="second", run="r2"):
        pass


def test_a_child_that_only_forked_does_not_keep_its_dead_parents_lock(drills: Path) -> None:
    with Ledger.opened(drills, drill="d", run="r") as ledger:
        here, there = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(there, b".")
            signal.pause()
        os.read(here, 1)
        try:
            assert read(ledger.path).alive
            ledger.leave()  # as a kill would
            assert not read(ledger.path).alive
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(here)
            os.close(there)


def test_those_that_ended_well_are_kept_up_to_a_number(drills: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 3)
    for n in range(6):
        Ledger.opened(drills, drill="d", run=f"r{n}").close()
    assert [path.stem for path in module.ledgers(drills)] == ["r2", "r3", "r4", "r5"]


# -- what cannot be kept


def test_a_secret_in_a_record_refuses_the_fault(drills: Path) -> None:
    with Ledger.opened(drills, drill="d", run="r", redactor=Redactor(SECRET)) as ledger:
        with pytest.raises(NotKept, match="name it by reference"):
            written(ledger, "cut", prepared=prepared(Path(f"/tmp/{SECRET}")))
        number = written(ledger, "cut")
        ledger.tried(number, "runner", 1, f"401 for {SECRET}")
        text = ledger.path.read_text()
        assert SECRET not in text and "401 for" in text


@pytest.mark.parametrize("record", [{"x": "y" * LONGEST}, {"x": float("nan")}, {"x": object()}])
def test_a_record_that_is_no_json_or_too_long_refuses_the_fault(drills: Path, record: dict[str, object]) -> None:
    ready = Prepared(klass=Klass.REVERSIBLE, targets=("a:b",), of=1, record=record, commands=())
    with Ledger.opened(drills, drill="d", run="r") as ledger:
        with pytest.raises(NotKept, match="the record of big cannot be kept"):
            written(ledger, "big", prepared=ready)
        assert not ledger.book().entries


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    requires_root("mounts a small disk")
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


def test_a_full_disk_refuses_the_drill(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        with pytest.raises(ConfigError, match="No space left .* nothing is broken"):
            Ledger.opened(disk / "drills", drill="d", run="r")
        assert not module.ledgers(disk / "drills")


def test_a_disk_that_fills_up_meanwhile_keeps_no_undo_from_being_noted(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        with Ledger.opened(disk / "drills", drill="d", run="r") as ledger:
            number = written(ledger)
            filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
            with pytest.raises(OSError, match="No space left"):
                while True:
                    os.write(filler, b"x" * 4096)
            os.close(filler)
            ledger.undone(number, "restored", "runner")
            assert not ledger.book().open


def test_a_will_that_does_not_fit_is_no_will_and_leaves_no_half(drills: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The room that was set aside is used up and the disk is full: a short write is taken back."""
    with Ledger.opened(drills, drill="d", run="r") as ledger:
        before = ledger.path.read_bytes()
        real = os.write
        with monkeypatch.context() as patch, pytest.raises(NotKept, match="No space left"):
            patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
            written(ledger)
        assert ledger.path.read_bytes() == before
        number = written(ledger)
        assert list(ledger.book().entries) == [number]


def test_a_disk_that_refuses_to_sync_refuses_the_fault(drills: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with Ledger.opened(drills, drill="d", run="r") as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", broken)
            with pytest.raises(NotKept, match="Input/output error"):
                written(ledger)


def test_tries_without_end_do_not_make_the_file_unreadable(drills: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer that tries in vain for weeks."""
    monkeypatch.setattr(module, "_TRIES_END", 20_000)
    with Ledger.opened(drills, drill="d", run="r") as ledger:
        number = written(ledger)
        for attempt in range(300):
            ledger.tried(number, "recover", attempt, "it hangs")
        assert ledger.path.stat().st_size < 21_000
        ledger.undone(number, "restored", "recover")
        assert not ledger.book().open
