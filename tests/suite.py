"""`make test` and `make lint`: the linters, then every test once, then what the figures say.

Nothing stops at the first failure, so one run tells everything. The last line is the count, in words that CI reads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
BRANCHES = 0.95  # of the pure folders
LINTERS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.suite", description=__doc__)
    parser.add_argument("--lint", action="store_true", help="the linters only")
    options, rest = parser.parse_known_args()
    began = time.monotonic()
    failures = [" ".join(command) for command in LINTERS if not _run(Path(sys.executable).parent / command[0], *command[1:])]
    count = ""
    if not options.lint:
        with tempfile.TemporaryDirectory() as folder:
            ran, count = _tests(Path(folder), rest)
            failures += ran
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes; " + ("failed: " + "; ".join(failures) if failures else "all well"))
    if count:
        print(count)
    return 1 if failures else 0


def _tests(folder: Path, arguments: list[str]) -> tuple[list[str], str]:
    """pytest under coverage. Returns what failed, and the closing line."""
    junit, data, report = folder / "junit.xml", folder / "coverage", folder / "coverage.json"
    coverage = (sys.executable, "-m", "coverage")
    failures = []
    pytest = ("-m", "pytest", "--continue-on-collection-errors", "--durations=15", f"--junitxml={junit}", *arguments)
    if not _run(*coverage, "run", f"--data-file={data}", *pytest, within=1200):
        failures.append("pytest")
    if data.exists() and _run(*coverage, "json", "-q", f"--data-file={data}", "-o", report):
        failures += _branches(json.loads(report.read_text()))
    else:
        failures.append("coverage")
    if not junit.exists():
        return failures, "0 passed, 1 failed"
    total = {key: 0 for key in ("tests", "failures", "errors", "skipped")}
    for suite in ElementTree.parse(junit).getroot().iter("testsuite"):
        for key in total:
            total[key] += int(suite.get(key, "0"))
    failed = total["failures"] + total["errors"]
    return failures, f"{total['tests'] - failed - total['skipped']} passed, {failed} failed, {total['skipped']} skipped"


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


def _run(*command: str | Path, within: float = 600) -> bool:
    """Run a command in the checkout; whether it ended well within so many seconds."""
    print("\n$ " + " ".join(Path(command[0]).name if i == 0 else str(part) for i, part in enumerate(command)), flush=True)
    try:
        return subprocess.run([str(part) for part in command], cwd=ROOT, check=False, timeout=within).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"did not end within {within:.0f} s", flush=True)
        return False


if __name__ == "__main__":
    sys.exit(main())
