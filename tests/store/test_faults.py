"""What a store lives through: kills, locks, full and read-only disks, damage, a server that goes and comes, a wrong password."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from probe.clock import SystemClock
from probe.store import database
from probe.store.address import resolve, sqlite_url
from probe.store.errors import StoreError, StoreRefused
from probe.store.reader import Records
from probe.store.store import Store
from tests.store.support import PASSWORD, Cluster, begun, finished, run_id
from tests.tools import ROOT, free_port, requires, requires_root, wait_until


async def _all_in(store: Store, deadline: float = 15) -> None:
    await wait_until(lambda: not store.behind, deadline, f"everything in the database ({store.problem})")


def test_a_process_killed_at_random_loses_nothing_and_counts_nothing_twice(empty: str, tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "tests.store.killed", tmp_path, empty, "8", "20261121"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=True)
    found = json.loads(done.stdout)
    assert found["begun"] > 20 and found["ended"] > 10 and found["aborted"] > 0, "nothing was at stake"
    assert found["integrity"] == "ok" and not found["died"] and not found["problem"]
    assert found["begun_lost"] == found["ended_lost"] == found["reports_lost"] == found["dropped"] == found["running"] == 0
    assert found["untold"] <= 10 and found["rows"] == found["sums"]["runs"] == found["sums"]["ended"] + found["aborted"]
    assert found["sums"]["done"] == 3 * found["sums"]["ended"]


async def test_while_another_holds_the_lock_records_wait_and_reading_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.2)
    file = tmp_path / "records.sqlite"
    async with Store.opened(sqlite_url(file), SystemClock(), tmp_path) as store:
        store.put(begun(1))
        await _all_in(store)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            took = []
            for n in range(2, 50):
                began = time.monotonic()
                store.put(begun(n))
                took.append(time.monotonic() - began)
                await asyncio.sleep(0)
            assert sorted(took)[len(took) // 2] < 0.02, "put waited for the lock"
            await wait_until(lambda: store.errors >= 2, 10, "two tries")  # longer than SQLite itself waits
            assert (
                "is locked: another program holds it; records wait in the outbox" in store.problem and str(file) in store.problem
            )
            assert store.behind == 48 and [row.run_id for row in await store.runs()] == [run_id(1)]
            other.execute("COMMIT")
        await _all_in(store)
        assert len(await store.runs()) == 49 and store.dropped == 0
        await wait_until(lambda: not store.problem)


_DISK = """
import asyncio, json, subprocess, sys
from pathlib import Path
from probe.clock import SystemClock
from probe.store import database
from probe.store.address import sqlite_url
from probe.store.store import Store
from tests.store.support import begun, finished, run_id
from tests.tools import wait_until

disk, outbox = Path(sys.argv[1]), Path(sys.argv[2])
noise = "".join(chr(33 + (n * 7919 + n * n) % 90) for n in range(30_000))

def mount(how):
    subprocess.run(["mount", "-t", "tmpfs", "-o", how, "none", disk], check=True)

async def main():
    mount("size=1m")
    async with Store.opened(sqlite_url(disk / "records.sqlite"), SystemClock(), outbox) as store:
        n = 0
        while "full" not in store.problem:
            store.put(begun(n)), store.put(finished(n, report_html=f"{n}" + noise[n:] + noise[:n]))
            n += 1
            await asyncio.sleep(0.002)
        full, waiting = store.problem, store.behind
        mount("remount,size=64m")
        await wait_until(lambda: not store.behind, 20, store.problem)
        after_full = len(await store.runs(1000)), n
    mount("remount,ro")
    async with Store.opened(sqlite_url(disk / "records.sqlite"), SystemClock(), outbox) as store:
        store.put(begun(n))
        read_only = store.problem
        mount("remount,rw")
        await wait_until(lambda: not store.behind, 20, store.problem)
        rows = len(await store.runs(1000))
        print(json.dumps([full, waiting, *after_full, read_only, rows, store.dropped]))

asyncio.run(main())
"""


def test_a_full_and_a_read_only_disk_are_waited_for(tmp_path: Path) -> None:
    requires_root("mounts a disk of its own")
    (tmp_path / "disk").mkdir()
    unshare = requires("unshare", package="util-linux")
    command: list[str | Path] = [unshare, "-m", sys.executable, "-c", _DISK, tmp_path / "disk", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    full, waiting, rows, put, read_only, rows_then, dropped = json.loads(done.stdout)
    assert "is full: make room on its disk; records wait in the outbox" in full and waiting > 0
    assert rows == put and rows_then == put + 1 and dropped == 0
    assert "records.sqlite" in read_only and "writable by this user" in read_only


async def test_a_file_that_is_none_of_sqlites_is_named_with_what_to_do_and_healed_by_moving_it_away(tmp_path: Path) -> None:
    file = tmp_path / "records.sqlite"
    file.write_bytes(b"not a database, " * 1000)
    async with Store.opened(sqlite_url(file), SystemClock(), tmp_path) as store:
        assert f"{file}: file is not a database: move it away with its -wal and -shm" in store.problem
        store.put(begun(1))
        with pytest.raises(StoreError, match="is not a database: move it away"):
            await store.runs()
        file.rename(tmp_path / "damaged")
        await _all_in(store)
        assert [row.run_id for row in await store.runs()] == [run_id(1)]


async def test_a_file_damaged_while_it_is_open_is_told_and_records_wait(tmp_path: Path) -> None:
    file = tmp_path / "records.sqlite"
    async with Store.opened(sqlite_url(file), SystemClock(), tmp_path) as store:
        for n in range(300):
            store.put(finished(n, report_html="x" * 500))
        await _all_in(store)
        with closing(sqlite3.connect(file)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with file.open("r+b") as raw:  # all but the first page
            raw.seek(4096)
            raw.write(b"\xa5" * (file.stat().st_size - 4096))
        for n in range(300, 320):
            store.put(finished(n))
        await wait_until(lambda: "malformed: move it away" in store.problem, 10, "the damage told")
        for part in tmp_path.glob("records.sqlite*"):
            part.rename(part.with_name(f"damaged-{part.name}"))
        await _all_in(store)
        assert await store.run(run_id(319)) is not None and store.dropped == 0


async def test_a_file_that_is_taken_away_is_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / "records.sqlite"
    async with Store.opened(sqlite_url(file), SystemClock(), tmp_path) as store:
        store.put(begun(1))
        await _all_in(store)
        assert len(await store.runs()) == 1
        for part in tmp_path.glob("records.sqlite*"):
            part.unlink()
        store.put(begun(2))
        await _all_in(store)
        assert [row.run_id for row in await store.runs()] == [run_id(2)]


async def test_a_directory_that_cannot_be_made_is_a_problem_and_not_an_end(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with Store.opened(sqlite_url(tmp_path / "file" / "records.sqlite"), SystemClock(), tmp_path) as store:
        assert store.put(begun(1)) and store.behind == 1 and "file" in store.problem


async def test_a_server_killed_and_started_again_gets_everything(postgresql: Cluster, tmp_path: Path) -> None:
    with postgresql.another() as server:
        url = server.url("postgres")
        with server.running() as child:
            async with Store.opened(url, SystemClock(), tmp_path) as store:
                store.put(begun(1))
                await _all_in(store)
                everyone = [child.pid, *(process.pid for process in psutil.Process(child.pid).children(recursive=True))]
                for pid in everyone:  # the first would else end the others in good order
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await child.exit()
                for n in range(2, 30):
                    store.put(begun(n))
                    store.put(finished(n))
                await wait_until(lambda: store.problem, 10, "its absence noticed")
                with pytest.raises(StoreError):
                    await store.runs()
                assert store.behind == 56
                with server.running():
                    await _all_in(store)
                    assert len(await store.runs()) == 29 and (await store.sums())["ended"] == 28
                    assert store.dropped == 0


async def test_no_message_holds_the_password_of_a_database(
    postgresql: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    for wrong in (f"{PASSWORD}-wrong", f"{PASSWORD}%2F%40"):
        monkeypatch.setenv("DATABASE", postgresql.url("records", "guest", wrong))
        url = resolve("env:DATABASE", tmp_path)
        async with Store.opened(url, SystemClock(), tmp_path) as store:
            assert store.put(begun(1)) and 'password authentication failed for user "guest"' in store.problem
            said.append(store.problem)
            with pytest.raises(StoreError) as error:
                await store.runs()
            said += [str(error.value), repr(error.value), repr(vars(store)), repr(store._database)]
    for bad in (f"mysql://u:{PASSWORD}@h/d", f"postgresql://u:{PASSWORD}@h:port/d", PASSWORD, f"sqlite:{PASSWORD}", "sqlite://"):
        with pytest.raises(StoreRefused) as refused:
            Records(bad, SystemClock())
        said.append(str(refused.value))
    with pytest.raises(StoreRefused, match="carries a password: name it by reference") as literal:
        resolve(f"postgresql://u:{PASSWORD}@h/d", tmp_path)
    said.append(str(literal.value))
    assert said and not [text for text in said if PASSWORD in text] and PASSWORD not in caplog.text


async def test_without_psycopg_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreRefused, match=r"pip install 'stream-probe\[postgresql\]'"):
        async with Store.opened("postgresql://u@h/d", SystemClock(), tmp_path):
            pass


async def test_the_right_password_by_reference_opens_the_database(
    postgresql: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(postgresql.connect("records")) as connection:
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest")
    secret = tmp_path / "url"
    secret.write_text(postgresql.url("records", "guest", PASSWORD) + "\n")
    async with Records.reading(resolve(f"file:{secret}", tmp_path), SystemClock()) as records:
        assert await records.runs() == []
    monkeypatch.delenv("DATABASE", raising=False)
    with pytest.raises(StoreRefused, match="environment variable DATABASE: is not set|environment variable DATABASE"):
        resolve(("env", "DATABASE"), tmp_path)


async def test_a_server_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://probe@127.0.0.1:{free_port()}/records"
    async with Store.opened(url, SystemClock(), tmp_path) as store:
        assert store.put(begun(1)) and store.behind == 1
        await wait_until(lambda: "refused" in store.problem, 10, "the refusal told")
