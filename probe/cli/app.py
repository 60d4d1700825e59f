"""The commands. Each parses, hands over, and turns what comes back into an exit code; the work is elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console

from probe.cli import exits
from probe.cli.checking import checked
from probe.cli.compare import Comparing
from probe.cli.console import on_console
from probe.cli.deciding import backtest, gate, oncall, rules
from probe.cli.drilling import drill
from probe.cli.invoke import invoke
from probe.cli.options import PORT, Options
from probe.cli.serve import serve_sandbox
from probe.errors import ConfigError
from probe.scenario.jsonschema import json_schema
from probe.version import VERSION

app = App(
    name="probe",
    version=VERSION,
    version_flags=[],
    help="""Watches a live-streaming platform the way its people use it, and says go or no-go, with reasons.

A newcomer needs nothing: `probe smoke` starts an embedded live platform, broadcasts, watches, chats, gifts, cuts the
viewers off, and judges. Exit codes: 0 go, 1 no-go, 2 bad configuration, 3 inconclusive, 4 internal error,
5 a drill's fault was not restored, 130/143 interrupted.""",
)


@app.command
def smoke(
    *files: Path,
    options: Options = Options(),  # noqa: B008  # cyclopts reads the default's type
    comparing: Comparing = Comparing(),  # noqa: B008  # as above
) -> int:
    """Go or no-go: run one or more scenarios, and give one verdict. Without files: the sandbox and room-start.

    With --compare also: is this build worse than the last good one? Each run is a sample, so a comparison takes several on both
    sides: 6 of each show a large difference, 15 most of what people feel. Keep each --out of the good build; they add up.

    Examples
    --------
    `probe smoke`                                              the whole journey on the embedded platform

    `probe smoke room-start.yaml --region eu`                  before an event, from a machine in eu

    `probe smoke bare-whip-whep.yaml --set platform.url=http://127.0.0.1:8889`   any WHIP/WHEP server

    `probe smoke a.yaml b.yaml --json --out results/`          for CI: the verdict alone on stdout, files in results/

    `probe smoke live.yaml --repeat 8 --release 1.4 --out good`                   the good build, eight runs of it

    `probe smoke live.yaml --repeat 8 --release 1.5 --compare good --compare-fail`   no-go where 1.5 is worse

    `probe smoke live.yaml --repeat 6 --release 1.5 --compare-store env:DATABASE_URL`   against a week of an agent's runs

    Parameters
    ----------
    files
        Scenario files, or names of the ones that come along (room-start, every-way, bare-whip-whep, and one for each of
        mediamtx, srs, nginx-rtmp, node-media-server, livekit, ovenmediaengine, ant-media, cloudflare-stream, aws-ivs).
    """
    return on_console(lambda console: invoke("smoke", files, options, console, comparing), options)


@app.command
def run(file: Path, options: Options = Options()) -> int:  # noqa: B008  # cyclopts reads the default's type
    """Run one scenario once and judge it. The same as `smoke` with one file, recorded as an adhoc run.

    Examples
    --------
    `probe run room-start --sandbox`        watch it work

    `probe run my.yaml --seed 7 -v`         the same random choices again, with more logs

    Parameters
    ----------
    file
        Scenario file, or the name of one that comes along.
    """
    return on_console(lambda console: invoke("run", (file,), options, console), options)


@app.command
def check(
    *files: Path, secrets: Annotated[bool, Parameter(negative=(), help="Also ask that every secret is there.")] = False
) -> int:
    """Find every mistake in scenarios, drills, rehearsals, policies and campaigns, each with file:line:column; open no socket.

    Examples
    --------
    `probe check room-start.yaml`           exit 0, or 2 with one line a mistake

    `probe check drills/*.yaml`             what a drill's scenario and its faults' parameters lack, too

    Parameters
    ----------
    files
        Files; what each is stands in it.
    """
    mistakes = 0
    for file in files:
        try:
            print(f"{file}: {checked(file, secrets=secrets)}")
        except ConfigError as error:
            mistakes += len(error.mistakes)
            print(error)
    if not files:
        print("name at least one file", file=sys.stderr)
    return exits.BAD_CONFIGURATION if mistakes or not files else 0


@app.command
def schema(
    what: Annotated[
        str,
        Parameter(
            help="scenario, objectives, agent, fleet, oncall, runbooks, drill, drill-policy, rehearsal, campaigns, verdict, "
            "drill-score or metrics"
        ),
    ] = "scenario",
) -> int:
    """Print the JSON Schema of a kind of file (for editors), of verdict.json or of scorecard.json, or the page about the metrics.

    Examples
    --------
    `probe schema > scenario.schema.json`

    `probe schema fleet > fleet.schema.json`

    `probe schema verdict`

    `probe schema metrics > deploy/metrics.md`
    """
    from probe.agent import config, fleet_file
    from probe.drill import schema as drills
    from probe.drill.core import campaigns, people, policy
    from probe.drill.core import score as drill_score
    from probe.export.reference import reference
    from probe.export.verdict_json import schema as verdict_schema
    from probe.scenario import objectives_file
    from probe.scenario import oncall as on_call
    from probe.scenario import runbooks as runbook_notes

    schemas: dict[str, Callable[[], dict[str, Any]]] = {
        "scenario": json_schema,
        "objectives": objectives_file.json_schema,
        "agent": config.json_schema,
        "fleet": fleet_file.json_schema,
        "oncall": on_call.json_schema,
        "runbooks": runbook_notes.json_schema,
        "verdict": verdict_schema,
        "drill": drills.json_schema,
        "drill-policy": policy.json_schema,
        "rehearsal": people.json_schema,
        "campaigns": campaigns.json_schema,
        "drill-score": drill_score.json_schema,
    }
    if what == "metrics":
        print(reference(), end="")
    elif what in schemas:
        print(json.dumps(schemas[what](), indent=2))
    else:
        print(f"no schema of {what!r}; there are {', '.join([*schemas, 'metrics'])}", file=sys.stderr)
        return exits.BAD_CONFIGURATION
    return 0


@app.command
def sandbox(
    *,
    port: Annotated[int, Parameter(help="Port of the platform; its edges and admin take others. 0: any.", validator=PORT)] = 0,
    state: Annotated[Path | None, Parameter(help="Directory of its database. Default: a temporary one.")] = None,
) -> int:
    """Run the embedded live platform until Ctrl-C, and print how to reach it.

    Examples
    --------
    `probe sandbox --port 8080`             then `probe smoke room-start` against it, with the variables it prints
    """
    return on_console(lambda console: serve_sandbox(console, port, state), Options())


@app.command
def agent(
    file: Path,
    *,
    check: Annotated[bool, Parameter(negative=(), help="Say what it would do, or every mistake; open nothing.")] = False,
    once: Annotated[bool, Parameter(negative=(), help="Run every schedule once, record it, and exit by the verdicts.")] = False,
    to: Annotated[
        str, Parameter(help="With --once: hand every run to the agent at this address, which counts, judges and records it.")
    ] = "",
    to_login: Annotated[str, Parameter(help="Where user:password for that agent is: env:NAME, file:PATH or command:WORDS.")] = "",
    verbose: Annotated[bool, Parameter(negative=(), name=("--verbose", "-v"), help="Log more.")] = False,
) -> int:
    """Run scenarios on a schedule for months: measure, export, record. SIGHUP or a changed file reloads, SIGTERM drains.

    Its HTTP service has /metrics, /runs, /gate/NAME, /healthz and /readyz. /probe?scenario=NAME makes a run now and answers with
    that run's own metrics, as blackbox_exporter does: they are in no series of /metrics, and enter no objective and no gate.

    A counter that is born at 1 and dies never alerts: with --once --to the runs are told by an agent that stays, whose agent.yaml
    has the same schedules in the same region. What it does not take in 30 s waits under `state` for the next time, exit code 4.

    Examples
    --------
    `probe agent agent.yaml --check`        what it would do, or every mistake with its line

    `probe agent agent.yaml`                until SIGTERM

    `probe agent agent.yaml --once`         for a cron job: every schedule once

    `probe agent agent.yaml --once --to https://agent.eu.example:9464 --to-login env:HANDOVER`   a job whose counters live on

    Parameters
    ----------
    file
        agent.yaml: where this agent stands, what it runs and when, where its findings go.
    """
    if (to and not once) or (to_login and not to):
        print("--to goes with --once, and --to-login with --to", file=sys.stderr)
        return exits.BAD_CONFIGURATION
    if check:
        from probe.cli import agent as command

        return command.check(file, Console(highlight=False))
    from probe.cli.standing import become

    become(file, once=once, verbose=verbose, to=to, login=to_login)


@app.command
def trace(
    request_id: str,
    *,
    store: Annotated[str | None, Parameter(help="Where the records are: a file or a URL; env:NAME, file:PATH hold one.")] = None,
    agent: Annotated[Path | None, Parameter(help="The agent.yaml that says so.")] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON.")] = False,
) -> int:
    """Find the run, step and trace of a request, by the X-Request-ID that the platform logged. Exit 0 found, 1 not.

    Without --store and --agent the records of this machine's own agent are asked.

    Examples
    --------
    `probe trace 4f1c22d0a9b3e817-b41d09c2aa6f3e15 --agent agent.yaml`

    `probe trace 4f1c22d0a9b3e817-b41d09c2aa6f3e15 --store env:DATABASE_URL --json`

    Parameters
    ----------
    request_id
        What stood in the request's X-Request-ID.
    """
    from probe.cli import trace as command

    return on_console(lambda _: command.trace(request_id, store=store, agent=agent, as_json=as_json), Options())


for decision in (oncall, rules, backtest, gate):
    app.command(decision)
app.command(drill)


@app.command
def version() -> int:
    """Print the version."""
    print(VERSION)
    return 0


def main() -> None:
    """Entry point of the console command."""
    sys.exit(app())
