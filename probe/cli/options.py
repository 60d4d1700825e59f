"""What every running command takes, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

_RUN = Group("Running", sort_key=1)
_OUT = Group("Output", sort_key=2)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """Options shared by `probe run` and `probe smoke`."""

    region: Annotated[tuple[str, ...], Parameter(group=_RUN, help="Region this machine stands in; repeat for several. Default: $PROBE_REGION, or the scenario's only one.")] = ()  # fmt: skip
    set: Annotated[tuple[str, ...], Parameter(group=_RUN, help="Change a field of the scenario: --set platform.url=https://live.example", negative=())] = ()  # fmt: skip
    seed: Annotated[int | None, Parameter(group=_RUN, help="Repeats a run's random choices. Default: a fresh one, told in the verdict.")] = None  # fmt: skip
    sandbox: Annotated[bool, Parameter(group=_RUN, help="Start the embedded platform and run against it.", negative=())] = False
    state: Annotated[Path | None, Parameter(group=_RUN, help="Where the ledger of what runs create is kept. Default: $XDG_STATE_HOME/stream-probe.")] = None  # fmt: skip
    metrics_port: Annotated[int | None, Parameter(group=_RUN, help="Serve Prometheus metrics on 127.0.0.1 at this port meanwhile (0: any, told in the log).")] = None  # fmt: skip
    out: Annotated[Path, Parameter(group=_OUT, help="Directory for verdict.json, report.html, junit.xml, observations.jsonl, metrics.prom and trace.json.")] = Path("out")  # fmt: skip
    json: Annotated[bool, Parameter(group=_OUT, help="Print the verdict as JSON, and nothing else.", negative=())] = False
    quiet: Annotated[bool, Parameter(group=_OUT, name=("--quiet", "-q"), help="Print the one-line verdict only.", negative=())] = False
    verbose: Annotated[bool, Parameter(group=_OUT, name=("--verbose", "-v"), help="Log more, as JSON lines on stderr.", negative=())] = False
    release: Annotated[str, Parameter(group=_OUT, help="What is being looked at (a version, a commit): goes into the verdict.")] = ""
