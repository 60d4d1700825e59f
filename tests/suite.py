"""`make test` and `make lint`: the linters, then every test once, then what the figures say.

Most tests wait: for the next picture, for a deadline. Folders of such run three at a time, and beside them, at the lowest
priority, what only computes: linters, and the tests of what does no IO. Tests marked `timing` come last: whole runs by twos,
the rest with the machine to itself. Each job is a process, whose output is shown whole when it has ended. Nothing stops at the
first failure, so one run tells everything. The last line is the count, in words that CI reads.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path

from tests.jobs import ROOT, Job, run

BRANCHES = 0.95  # of the pure folders
LINTERS = (
    ("mypy",),
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("lint-imports",),
)
COMPUTING = (
    ("wire",),
    ("export", "judge", "model", "plan", "rules", "scenario", "test_layers.py", "test_leftovers.py", "test_readme.py"),
)
PAIRS = ("e2e/", "truth/")  # of what is marked `timing`: whole runs, of which two at a time leave the machine room
ONE_RUN = ("e2e/test_metrics.py", "e2e/test_one_trace.py", "e2e/test_outputs.py")  # serves all three
REST: tuple[str, ...] = ()  # whatever below tests/ is in no list
# From the longest to the shortest: what begins last is what the other lanes have to wait for.
WAITING = (
    ("drivers",),
    ("drill",),
    ("agent",),
    ("sandbox",),
    REST,
    ("chain", "cli", "deploy"),
    ("hostile",),
    ("media",),
    ("run",),
)
NO_TESTS = 5  # pytest's exit code where nothing of a folder is asked for


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.suite", description=__doc__, epilog="Further options are pytest's.")
    parser.add_argument("--lint", action="store_true", help="the linters only")
    options, rest = parser.parse_known_args()
    began = time.monotonic()
    try:
        if options.lint:
            failures, count = run([[deque(_linters())]], live=True), ""
        else:
            with tempfile.TemporaryDirectory() as folder:
                failures, count = _all(_Pytest(Path(folder), tuple(rest)))
    except KeyboardInterrupt:
        print("\ninterrupted")
        return 130
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes; " + ("failed: " + "; ".join(failures) if failures else "all well"))
    if count:
        print(count)
    return 1 if failures else 0


class _Pytest:
    """Jobs of pytest under coverage, and what they leave in `folder`."""

    def __init__(self, folder: Path, options: tuple[str, ...]) -> None:
        self._folder, self._options = folder, options
        self._jobs = 0

    def job(self, places: Sequence[str], which: str, *before: str) -> Job:
        """The tests below these places in tests/ that bear the marks `which` asks for; `before`: what runs pytest."""
        self._jobs += 1
        data, junit = self._folder / f"coverage.{self._jobs}", self._folder / f"junit.{self._jobs}"
        coverage = (sys.executable, "-m", "coverage", "run", f"--data-file={data}")
        options = ("--continue-on-collection-errors", "--durations=8", f"--junitxml={junit}", "-m", which, *self._options)
        paths = [f"tests/{place}" for place in places]
        command = (*before, *coverage, "-m", "pytest", "-q", *options, *paths)
        return Job(f"pytest -m '{which}' {' '.join(paths)}", command, within=900, fine=(0, NO_TESTS))

    def count(self) -> str:
        """Of all jobs together, one failure for each that left no account; prints the names of what failed."""
        total = {key: 0 for key in ("tests", "failures", "errors", "skipped")}
        reports = list(self._folder.glob("junit.*"))
        for report in reports:
            for suite in ElementTree.parse(report).getroot().iter("testsuite"):
                for key in total:
                    total[key] += int(suite.get(key, "0"))
                for case in suite.iter("testcase"):
                    if case.find("failure") is not None or case.find("error") is not None:
                        print(f"failed: {case.get('classname')}::{case.get('name')}")
        failed = total["failures"] + total["errors"]
        passed = total["tests"] - failed - total["skipped"]
        return f"{passed} passed, {failed + self._jobs - len(reports)} failed, {total['skipped']} skipped"

    def coverage(self) -> list[str]:
        """Of all jobs together; what is amiss with it."""
        coverage, data, report = (sys.executable, "-m", "coverage"), self._folder / "coverage", self._folder / "coverage.json"
        combine = Job("coverage combine", (*coverage, "combine", "-q", f"--data-file={data}", str(self._folder)))
        tell = Job("coverage json", (*coverage, "json", "-q", f"--data-file={data}", "-o", str(report)))
        failures = run([[deque([combine, tell])]])
        return failures or _branches(json.loads(report.read_text()))


def _all(pytest: _Pytest) -> tuple[list[str], str]:
    """The linters and every test. Returns what failed, and the closing line."""
    nice = ("nice", "-n", "19")
    cores = len(os.sched_getaffinity(0))
    waiting = deque(pytest.job(places or _rest(), "not timing") for places in WAITING)
    computing = deque([*_linters(*nice), *(pytest.job(places, "not timing", *nice) for places in COMPUTING)])
    failures = run([*[[waiting, computing]] * min(3, cores + 1), [computing]])  # a waiting folder takes .1 to .5 of a core
    timing = _timing()
    apart = [[file] for file in timing if file.startswith(PAIRS) and file not in ONE_RUN]
    pairs = deque(pytest.job(files, "timing") for files in (ONE_RUN, *apart))
    failures += run([[pairs]] * min(2, cores))
    alone = deque([pytest.job([file for file in timing if not file.startswith(PAIRS)], "timing")])
    failures += run([[alone]], live=True)
    return failures + pytest.coverage(), pytest.count()


def _linters(*before: str) -> list[Job]:
    binaries = Path(sys.executable).parent
    return [Job(" ".join(command), (*before, str(binaries / command[0]), *command[1:])) for command in LINTERS]


def _rest() -> list[str]:
    """Whatever below tests/ has tests and is in no list above."""
    listed = {place for places in (*COMPUTING, *WAITING) for place in places} | {"soak", "bench", "data"}
    return sorted({path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")} - listed)


def _timing() -> list[str]:
    """The files with tests marked so."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT / "tests")) for path in files if "pytest.mark.timing" in path.read_text()]


def _branches(report: dict[str, object]) -> list[str]:
    """Prints branch coverage by pure folder; names the whole where it is short of BRANCHES."""
    seen: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    files = report["files"]
    assert isinstance(files, dict)
    for name, file in files.items():
        parts = Path(name).parts
        folder = parts[parts.index("probe") + 1].removesuffix(".py")
        for key in (folder, "all"):
            seen[key][0] += file["summary"]["covered_branches"]
            seen[key][1] += file["summary"]["num_branches"]
    print("\nbranches of the pure folders that tests take:")
    for folder, (covered, branches) in sorted(seen.items(), key=lambda item: item[0] == "all"):
        print(f"  {folder:10} {covered:5} of {branches:5}" + (f"  {covered / branches:6.1%}" if branches else ""))
    covered, branches = seen["all"]
    if covered < BRANCHES * branches:
        for name, file in files.items():
            summary = file["summary"]
            if summary["covered_branches"] < BRANCHES * summary["num_branches"]:
                gone = ", ".join(f"{a}→{b}" for a, b in file["missing_branches"][:12])
                print(f"  {name}: {summary['covered_branches']} of {summary['num_branches']}; not taken {gone}")
        return [f"branch coverage of the pure folders is under {BRANCHES:.0%}"]
    return []


if __name__ == "__main__":
    sys.exit(main())
