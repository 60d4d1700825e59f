"""The commands. Each parses, hands over, and turns what comes back into an exit code; the work is elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console

from probe.cli import exits
from probe.cli.compare import Comparing
from probe.cli.files import find, vocabulary
from probe.cli.guarded import guarded
from probe.cli.invoke import invoke
from probe.cli.options import PORT, Options
from probe.cli.serve import serve_sandbox
from probe.errors import ConfigError
from probe.scenario.jsonschema import json_schema
from probe.scenario.load import load
from probe.version import VERSION

app = App(
    name="probe",
    version=VERSION,
    version_flags=[],
    help="""Watches a live-streaming platform the way its people use it, and says go or no-go, with reasons.

A newcomer needs nothing: `probe smoke` starts an embedded live platform, broadcasts, watches, chats, gifts, cuts the
viewers off, and judges. Exit codes: 0 go, 1 no-go, 2 bad configuration, 3 inconclusive, 4 internal error,
130/143 interrupted.""",
)


@app.command
def smoke(
    *files: Path,
    options: Options = Options(),  # noqa: B008  # cyclopts reads the default's type
    comparing: Comparing = Comparing(),  # noqa: B008
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
    return _guarded(lambda console: invoke("smoke", files, options, console, comparing), options)


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
    return _guarded(lambda console: invoke("run", (file,), options, console), options)


@app.command
def check(
    *files: Path, secrets: Annotated[bool, Parameter(negative=(), help="Also ask that every secret is there.")] = False
) -> int:
    """Find every mistake in scenario files, each with file:line:column; open no socket.

    Examples
    --------
    `probe check room-start.yaml`           exit 0, or 2 with one line a mistake

    Parameters
    ----------
    files
        Scenario files.
    """
    mistakes = 0
    for file in files:
        try:
            scenario = load(find(file), words=vocabulary(), secrets=secrets)
            print(f"{file}: {scenario.name}: {len(scenario.journey)} steps, {len(scenario.regions)} regions: valid")
        except ConfigError as error:
            mistakes += len(error.mistakes)
            print(error)
    if not files:
        print("name at least one scenario file", file=sys.stderr)
    return exits.BAD_CONFIGURATION if mistakes or not files else 0


@app.command
def schema(
    what: Annotated[str, Parameter(help="scenario, objectives, agent, fleet, oncall, runbooks, verdict or metrics")] = "scenario",
) -> int:
    """Print the JSON Schema of a kind of file (for editors) or of verdict.json, or the page about the metrics.

    Examples
    --------
    `probe schema > scenario.schema.json`

    `probe schema fleet > fleet.schema.json`

    `probe schema verdict`

    `probe schema metrics > deploy/metrics.md`
    """
    from probe.agent import config, fleet_file
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
    return _guarded(lambda console: serve_sandbox(console, port, state), Options())


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

    return _guarded(lambda _: command.trace(request_id, store=store, agent=agent, as_json=as_json), Options())


@app.command
def oncall(
    file: Path = Path("oncall.yaml"),
    *,
    at: Annotated[str | None, Parameter(help="When, such as 2026-12-24T18:00; default: now.")] = None,
    tz: Annotated[str, Parameter(help="Time zone of --at and --week.")] = "UTC",
    region: Annotated[str | None, Parameter(help="Of the alert; default: all that are told apart.")] = None,
    owner: Annotated[str | None, Parameter(help="Of the alert; default: every queue.")] = None,
    queue: Annotated[str | None, Parameter(help="The queue, instead of an owner.")] = None,
    severity: Annotated[str | None, Parameter(help="P1 or P2; default: both.")] = None,
    check: Annotated[bool, Parameter(negative=(), help="Lay it over the year: who is on how much, every hole named.")] = False,
    week: Annotated[bool, Parameter(negative=(), help="Draw the seven days from then.")] = False,
    svg: Annotated[Path | None, Parameter(help="Draw them as a picture into this file.")] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON.")] = False,
) -> int:
    """Say who is called, now or at any time: who is on, who comes next, and after which step of the SLA.

    Examples
    --------
    `probe oncall oncall.yaml`                                  who is on now, in every queue

    `probe oncall oncall.yaml --at 2026-12-25T09:00 --tz Europe/Berlin --owner media-sre --region eu --severity P1`

    `probe oncall oncall.yaml --check`                          two years, every change of clocks: no hole, no overlap

    `probe oncall oncall.yaml --week --tz Asia/Singapore`       a picture; for a wiki: `--svg week.svg`

    Parameters
    ----------
    file
        Queues, shifts, escalation, receivers.
    """
    from probe.cli import oncall as command

    asked = command.Asked(at=at, tz=tz, region=region, owner=owner, queue=queue, severity=severity)
    return _guarded(
        lambda console: command.oncall(file, console, asked, check=check, week=week, as_json=as_json, picture=svg),
        Options(json=as_json),
    )


@app.command
def rules(
    file: Path = Path("fleet.yaml"),
    *,
    out: Annotated[Path | None, Parameter(help="Write everything into this directory.")] = None,
    check: Annotated[Path | None, Parameter(help="Compare this directory with what would be written; 1 if it differs.")] = None,
    explain: Annotated[bool, Parameter(negative=(), help="Say of each alert what sets it off, how soon, and why.")] = False,
    openslo: Annotated[bool, Parameter(negative=(), help="Print the objectives as OpenSLO v1.")] = False,
    only: Annotated[
        tuple[str, ...], Parameter(negative=(), help="rules, tests, alertmanager, dashboards, runbooks, openslo or rollouts.")
    ] = (),
    every: Annotated[str | None, Parameter(help="Of a scenario: how often each region runs it. Default: 1m.")] = None,
    oncall: Annotated[Path | None, Parameter(help="Who is called. Default: the fleet's, or oncall.yaml beside it.")] = None,
    runbooks: Annotated[Path | None, Parameter(help="Your own words for runbooks. Default: runbooks.yaml beside it.")] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON.")] = False,
) -> int:
    """Make what decides from the objectives: Prometheus rules and their tests, Alertmanager's settings, dashboards, runbooks.

    Without --out nothing is written. There, what is no longer made is removed if we made it; what others put there is left.

    Examples
    --------
    `probe rules`                                    the fleet that comes along: which alerts there are

    `probe rules fleet.yaml --explain`               what pages, after how many failures, how soon, and why

    `probe rules fleet.yaml --out deploy/monitoring` then `--check deploy/monitoring` in CI

    `probe rules room-start --every 2m --explain`    a scenario alone, as if each of its regions ran it every 2 minutes

    Parameters
    ----------
    file
        fleet.yaml, or a scenario. Default: the fleet that comes along.
    """
    from probe.cli import rules as command

    asked = command.Asked(
        oncall=oncall, runbooks=runbooks, every=every, only=only, out=out, check=check, explain=explain, openslo=openslo,
        as_json=as_json,
    )  # fmt: skip
    return _guarded(lambda console: command.rules(file, asked, console), Options(json=as_json))


@app.command
def backtest(
    file: Path = Path("fleet.yaml"),
    *,
    pattern: Annotated[
        tuple[str, ...],
        Parameter(
            negative=(),
            show_default=False,
            help="What happens: name, name:times=2,lasts=1h,loss=20%,noise=0.1%, or a+b; repeatable. Default: each.",
        ),
    ] = (),
    days: Annotated[float, Parameter(help="How long each is.")] = 30,
    target: Annotated[
        tuple[str, ...], Parameter(negative=(), show_default=False, help="For every objective, such as 99.5%; repeatable.")
    ] = (),
    against: Annotated[
        tuple[str, ...], Parameter(negative=(), show_default=False, help="static or sloth; repeatable. Default: both.")
    ] = ("static", "sloth"),
    every: Annotated[str | None, Parameter(help="Of a scenario: how often each region runs it. Default: 1m.")] = None,
    region: Annotated[
        tuple[str, ...], Parameter(negative=(), show_default=False, help="Of a scenario: where it runs; repeatable.")
    ] = (),
    from_store: Annotated[
        tuple[str, ...],
        Parameter(
            negative=(), show_default=False, help="Replay agents' records: a file, a URL, env:NAME, or agent.yaml; repeatable."
        ),
    ] = (),
    from_json: Annotated[Path | None, Parameter(help="Replay verdict.json documents, one a line.")] = None,
    incidents: Annotated[Path | None, Parameter(help="What was truly wrong in the recorded time (YAML).")] = None,
    shadow: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Only what alerts marked shadow would have paged.")
    ] = False,
    prometheus: Annotated[str | None, Parameter(help="With --shadow: ask this Prometheus what it saw firing.")] = None,
    seed: Annotated[int, Parameter(help="Another seed is another month.")] = 1,
    out: Annotated[Path, Parameter(help="Directory for backtest.html and backtest.json.")] = Path("out"),
    as_json: Annotated[bool, Parameter(name="--json", negative=(), show_default=False, help="Print JSON.")] = False,
    quiet: Annotated[
        bool, Parameter(negative=(), name=("--quiet", "-q"), show_default=False, help="Print what it comes to only.")
    ] = False,
) -> int:
    """Who would have been woken, when and for what: months of failures against our rules, static thresholds and Sloth's shapes.

    Patterns: region-down, ingest-down, protocol-down, partial, slow-burn, flapping, campaign-night, deploys, brown-out,
    agent-silent, noise.

    Examples
    --------
    `probe backtest`                                            the fleet that comes along, every pattern

    `probe backtest fleet.yaml --target 99% --target 99.5%`     choose a target with evidence

    `probe backtest room-start --every 4m --region eu --region us --pattern slow-burn:loss=5%,lasts=3d+noise`

    `probe backtest fleet.yaml --from-store records.sqlite`     our own past, as agents recorded it

    `probe backtest fleet.yaml --shadow --prometheus http://127.0.0.1:9090`     what new alerts would have paged

    Parameters
    ----------
    file
        fleet.yaml, or a scenario. Default: the fleet that comes along.
    """
    from probe.cli import backtest as command

    asked = command.Asked(
        pattern=pattern, days=days, target=target, against=against, every=every, region=region, from_store=from_store,
        from_json=from_json, incidents=incidents, shadow=shadow, prometheus=prometheus, seed=seed, out=out,
    )  # fmt: skip
    return _guarded(lambda console: command.backtest(file, asked, console, as_json=as_json, quiet=quiet), Options(json=as_json))


@app.command
def gate(
    name: str,
    *,
    region: Annotated[str, Parameter(help="Where; default: everywhere, and the worst decides.")] = "",
    agent: Annotated[str | None, Parameter(help="Its address. Default: $PROBE_AGENT, else http://127.0.0.1:9464.")] = None,
    auth: Annotated[str | None, Parameter(help="user:password, as env:NAME or file:PATH. Default: $PROBE_AUTH.")] = None,
    store: Annotated[str | None, Parameter(help="Ask records, not the agent: a file, a URL, env:NAME, or agent.yaml.")] = None,
    wait: Annotated[str | None, Parameter(help="Ask again for so long, such as 5m, until it is no longer inconclusive.")] = None,
    override: Annotated[str | None, Parameter(help="Put your word in place of the rule's: pass or fail.")] = None,
    lasts: Annotated[str | None, Parameter(name="--for", help="How long your word holds, such as 30m.")] = None,
    reason: Annotated[str | None, Parameter(help="Why.")] = None,
    by: Annotated[str | None, Parameter(help="Who answers for it. Default: this user.")] = None,
    clear: Annotated[bool, Parameter(negative=(), help="Take a word away again.")] = False,
    as_: Annotated[str | None, Parameter(name="--as", help="Print a snippet instead: argo, flagger, github or gitlab.")] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON.")] = False,
) -> int:
    """May it go on? Exit 0 pass or warn, 1 fail, 3 inconclusive (no data, or nobody to ask), 2 no such gate or a wrong question.

    Examples
    --------
    `probe gate hold-campaign --region eu`                     of the agent on this machine

    `probe gate hold-campaign --agent https://probe.example --wait 5m`   in a pipeline

    `probe gate payment --override pass --for 30m --reason "known outage of the test bank"`   recorded, and ends by itself

    `probe gate payment --clear`                               before it does

    `probe gate release --as argo > analysis.yaml`             the same question, asked by a rollout

    Parameters
    ----------
    name
        The gate's name, as its scenario has it.
    """
    from probe.cli import gate as command

    asked = command.Asked(
        name=name, region=region, agent=agent, auth=auth, store=store, wait=wait, override=override, lasts=lasts, reason=reason,
        by=by, clear=clear, snippet=as_, as_json=as_json,
    )  # fmt: skip
    return _guarded(lambda _: command.gate(asked), Options(json=as_json))


@app.command
def version() -> int:
    """Print the version."""
    print(VERSION)
    return 0


def _guarded(work: Callable[[Console], Coroutine[Any, Any, int]], options: Options) -> int:
    """Run it on a loop of its own; errors become one clear text and the contract's exit code."""
    console = Console(stderr=options.json, highlight=False)
    return guarded(lambda: work(console))


def main() -> None:
    """Entry point of the console command."""
    sys.exit(app())
