"""Does the sandbox grow? Threads, descriptors and resident memory of its processes, looked at between runs."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

WARM = 3  # runs before the first look counts: imports, pools and caches fill
RSS_PER_RUN = 512 * 1024  # bytes; spans and rooms it remembers by design are a fraction of it
RSS_SLACK = 16 << 20


@dataclass(frozen=True, slots=True)
class Look:
    threads: int
    descriptors: int
    rss: int

    def __str__(self) -> str:
        return f"{self.threads} threads, {self.descriptors} descriptors, {self.rss / 2**20:.1f} MiB"


class Growth:
    """`look` after each run, when nobody is connected."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._looks: list[Look] = []

    def look(self) -> None:
        root = psutil.Process(self._pid)
        family = [root, *root.children(recursive=True)]
        self._looks.append(
            Look(sum(p.num_threads() for p in family), sum(p.num_fds() for p in family), sum(p.memory_info().rss for p in family))
        )

    def __str__(self) -> str:
        if not self._looks:
            return "sandbox: not looked at"
        first, last = self._first_and_last()
        return f"sandbox: {first} after {min(WARM, len(self._looks))} runs, {last} after {len(self._looks)}"

    def complaints(self) -> list[str]:
        """What grew that should not."""
        if len(self._looks) <= WARM:
            return []
        first, last = self._first_and_last()
        found = []
        if last.threads > first.threads:
            found.append(f"the sandbox grew from {first.threads} to {last.threads} threads")
        if last.descriptors > first.descriptors + 2:  # a connection kept alive may be closing
            found.append(f"the sandbox grew from {first.descriptors} to {last.descriptors} descriptors")
        if last.rss - first.rss > RSS_SLACK + RSS_PER_RUN * (len(self._looks) - WARM):
            found.append(f"the sandbox grew from {first} to {last}")
        return found

    def _first_and_last(self) -> tuple[Look, Look]:
        return self._looks[min(WARM, len(self._looks)) - 1], self._looks[-1]
