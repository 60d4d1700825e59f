"""What every running command takes, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import Number

_RUN = Group("Running", sort_key=1)
_OUT = Group("Output", sort_key=2)


def _run(text: str, **more: object) -> Parameter:
    return Parameter(group=_RUN, help=text, negative=(), show_default=False, **more)  # type: ignore[arg-type]  # passed on as they are


def _out(text: str, **more: object) -> Parameter:
    return Parameter(group=_OUT, help=text, negative=(), **more)  # type: ignore[arg-type]  # passed on as they are


PORT = Number(gte=0, lte=65535)  # the system would take 99999 for 34463
_FILES = "Directory for verdict.json, report.html, junit.xml, observations.jsonl, metrics.prom, trace.json."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """Options shared by `probe run` and `probe smoke`."""

    region: Annotated[
        tuple[str, ...], _run("Region this machine stands in; repeatable. Default: $PROBE_REGION, or the scenario's only one.")
    ] = ()
    set: Annotated[
        tuple[str, ...], _run("Change a field of the scenario, such as --set platform.url=https://live.example; repeatable.")
    ] = ()
    seed: Annotated[int | None, _run("Repeats a run's random choices. Default: a fresh one, told in the verdict.")] = None
    sandbox: Annotated[bool, _run("Start the embedded platform and run against it.")] = False
    state: Annotated[
        Path | None, _run("Where the ledger of what runs create is kept. Default: $XDG_STATE_HOME/stream-probe.")
    ] = None
    metrics_port: Annotated[
        int | None,
        _run("Serve Prometheus metrics on 127.0.0.1 at this port meanwhile (0: any, told in the log).", validator=PORT),
    ] = None
    out: Annotated[Path, _out(_FILES)] = Path("out")
    json: Annotated[bool, _out("Print the verdict as JSON, and nothing else.")] = False
    quiet: Annotated[bool, _out("Print the one-line verdict only.", name=("--quiet", "-q"))] = False
    verbose: Annotated[bool, _out("Log more, as JSON lines on stderr.", name=("--verbose", "-v"))] = False
    release: Annotated[str, _out("What is looked at (a version, a commit). Default: platform.release of the scenario.")] = ""
