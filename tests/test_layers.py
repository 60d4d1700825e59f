"""The layers of the design hold, and what watches them would notice: each contract breaks on a planted import."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.tools import ROOT

# Where an import is planted, the import, and the id of the contract that must break.
PLANTED = [
    ("probe/wire/planted.py", "from probe.run import engine", "layers"),
    ("probe/media/planted.py", "import probe.net", "layers"),
    ("probe/judge/planted.py", "import asyncio", "pure"),
    ("probe/model/planted.py", "def late() -> None:\n    import time", "pure"),
    ("probe/sandbox/planted.py", "import probe.plan", "sandbox"),
    ("probe/drivers/planted.py", "import av", "pyav"),
    ("probe/media/planted_too.py", "import aiortc", "aiortc"),
]


def _lint(folder: Path) -> dict[str, str]:
    """Contract name → KEPT or BROKEN; AssertionError where the linter itself failed."""
    command: list[str | Path] = [Path(sys.executable).parent / "lint-imports", "--config", ROOT / "pyproject.toml", "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)
    results = dict(re.findall(r"^(.+?) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE))
    assert results, done.stdout + done.stderr
    return results


def _copy(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "_scenarios")
    return shutil.copytree(ROOT / "probe", folder / "probe", ignore=ignored)


def _contracts() -> dict[str, str]:
    """Contract id → name."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {contract["id"]: contract["name"] for contract in settings["contracts"]}


def test_every_contract_holds() -> None:
    assert _lint(ROOT) == dict.fromkeys(_contracts().values(), "KEPT")


def test_every_contract_breaks_on_a_planted_import(tmp_path: Path) -> None:
    _copy(tmp_path)
    for file, text, _ in PLANTED:
        (tmp_path / file).write_text(f'"""Planted."""\n\n{text}\n')
    names = _contracts()
    assert {contract for _, _, contract in PLANTED} == set(names)
    assert _lint(tmp_path) == {names[contract]: "BROKEN" for _, _, contract in PLANTED}


def test_a_folder_in_no_layer_is_noticed(tmp_path: Path) -> None:
    (_copy(tmp_path) / "stray.py").write_text('"""In no layer."""\n')
    assert _lint(tmp_path)[_contracts()["layers"]] == "BROKEN"


def test_no_module_reads_the_clock_but_clock(tmp_path: Path) -> None:
    stray = tmp_path / "stray.py"
    stray.write_text("import asyncio\nimport time\n\ntime.monotonic_ns()\nasyncio.create_task\n")
    command: list[str | Path] = [
        Path(sys.executable).parent / "ruff",
        "check",
        "--config",
        ROOT / "pyproject.toml",
        "--output-format",
        "concise",
        stray,
    ]
    said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    assert said.count("TID251") == 2, said
