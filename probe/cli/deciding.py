"""The commands that make decisions of objectives, or ask for one. As in `app`: each parses and hands over, no more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from probe.cli.console import on_console
from probe.cli.options import Options


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
    return on_console(
        lambda console: command.oncall(file, console, asked, check=check, week=week, as_json=as_json, picture=svg),
        Options(json=as_json),
    )


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
    return on_console(lambda console: command.rules(file, asked, console), Options(json=as_json))


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
    return on_console(lambda console: command.backtest(file, asked, console, as_json=as_json, quiet=quiet), Options(json=as_json))


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
    return on_console(lambda _: command.gate(asked), Options(json=as_json))
