"""What somebody else left where encoded loops are kept: nothing of it is read, waited for or followed, and it is replaced."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from probe.media.loopcache import LoopCache
from tests.tools import requires_root

UNITS = [b"a" * 1000, b"b" * 2000]


def written(directory: Path, key: str) -> Path:
    LoopCache(directory).put(key, UNITS)
    return directory / f"{key}.loop"


def endless(place: Path) -> None:
    place.symlink_to("/dev/zero")


def link(place: Path) -> None:
    place.symlink_to(written(place.parent / "elsewhere", "x"))


def pipe(place: Path) -> None:
    os.mkfifo(place)


def device(place: Path) -> None:
    place.symlink_to("/dev/full")


def theirs(place: Path) -> None:
    requires_root("a file of another user is to lie there")
    os.chown(written(place.parent, place.stem), 65534, 65534)


def half(place: Path) -> None:
    whole = written(place.parent, place.stem).read_bytes()
    place.write_bytes(whole[: len(whole) // 2])


def flipped(place: Path) -> None:
    data = bytearray(written(place.parent, place.stem).read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)


@pytest.mark.parametrize("plant", [endless, link, pipe, device, theirs, half, flipped])
@pytest.mark.timeout(5)
def test_what_is_not_our_own_whole_file_is_absent_and_replaced(plant: Callable[[Path], None], tmp_path: Path) -> None:
    cache, place = LoopCache(tmp_path), tmp_path / "x.loop"
    plant(place)
    assert cache.get("x") is None
    cache.put("x", UNITS)
    assert cache.get("x") == UNITS
    assert place.is_file() and not place.is_symlink()


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    cache = LoopCache(tmp_path)
    cache.put("x", UNITS)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        cache.put("x", [b"c" * (2 << 20)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert cache.get("x") == UNITS and os.listdir(tmp_path) == ["x.loop"]


def test_whoever_writes_at_once_sees_whole_entries_only(tmp_path: Path) -> None:
    """Of more than fits, so that all the time the oldest go."""
    seen: list[list[bytes] | None] = []
    known = {n: [bytes([n]) * 50_000] for n in range(4)}

    def work(n: int) -> None:
        cache = LoopCache(tmp_path, limit=120_000)
        for _ in range(50):
            cache.put("x", known[n])
            cache.put(f"own-{n}", known[n])
            seen.append(cache.get("x"))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [units for units in seen if units is not None and units not in known.values()] == []
    assert any(units is not None for units in seen)
    assert not list(tmp_path.glob("new-*"))
