"""The commands about drills. As in `app`: each parses and hands over, no more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from probe.cli.console import on_console
from probe.cli.drill_calendar import drill_list, drill_people
from probe.cli.options import Options

drill = App(name="drill", help="Break something on purpose, see whether the platform recovers, and put everything back.")
_RUN, _OUT = Group("Running", sort_key=1), Group("Output", sort_key=2)


@drill.command
def run(
    *files: Path,
    dry_run: Annotated[bool, Parameter(group=_RUN, negative=(), help="Tell every command and its undo; touch nothing.")] = False,
    sandbox: Annotated[bool, Parameter(group=_RUN, negative=(), help="Start the embedded platform, and break that.")] = False,
    set: Annotated[
        tuple[str, ...],
        Parameter(group=_RUN, negative=(), show_default=False, help="Change a field of the scenario; repeatable."),
    ] = (),
    region: Annotated[
        tuple[str, ...],
        Parameter(
            group=_RUN, negative=(), show_default=False, help="Where it breaks things, instead of the drill's; repeatable."
        ),
    ] = (),
    policy: Annotated[
        Path | None, Parameter(group=_RUN, help="What may be touched. Default: $PROBE_DRILL_POLICY, or the machine's own.")
    ] = None,
    state: Annotated[
        Path | None, Parameter(group=_RUN, help="Where the ledger is kept. Default: $XDG_STATE_HOME/stream-probe.")
    ] = None,
    store: Annotated[
        str | None,
        Parameter(group=_RUN, help="Records and leases, shared by all who drill: a URL, env:NAME. Default: in --state."),
    ] = None,
    compare: Annotated[
        Path | None, Parameter(group=_RUN, help="The --out of an earlier run of this drill. Default: its last run in --store.")
    ] = None,
    alertmanager: Annotated[str | None, Parameter(group=_RUN, help="Its address: who was paged, and for what else.")] = None,
    prometheus: Annotated[str | None, Parameter(group=_RUN, help="Its address: which alert fired first.")] = None,
    seed: Annotated[int | None, Parameter(group=_RUN, help="Repeats the traffic's random choices.")] = None,
    out: Annotated[Path, Parameter(group=_OUT, help="Directory for scorecard.html, verdict.json and what they stand on.")] = Path(
        "out"
    ),
    as_json: Annotated[bool, Parameter(group=_OUT, name="--json", negative=(), help="Print the scorecard as JSON.")] = False,
    quiet: Annotated[bool, Parameter(group=_OUT, name=("--quiet", "-q"), negative=(), help="Print the verdict only.")] = False,
    verbose: Annotated[bool, Parameter(group=_OUT, name=("--verbose", "-v"), negative=(), help="Log more.")] = False,
) -> int:
    """Break it, see what becomes of it, put it back. Exit 0 pass, 1 weakness, 3 inconclusive, invalid or aborted, 5 NOT RESTORED.

    Nothing is touched before every target is found and allowed, the undo of everything is on disk, a watchdog is awake that
    undoes it whatever becomes of this process, and the platform was seen to be well. A fault that is not seen to be there makes
    the drill invalid, never a pass. Ctrl-C puts everything back first.

    Examples
    --------
    `probe drill run origin-restart`                 one that comes along, on the embedded platform

    `probe drill run origin-restart --dry-run`       every command and its undo

    `probe drill run scenarios/drills/*.yaml --out results/drills`     all of them, and one page over them

    `probe drill run our.yaml --policy drill-policy.yaml --store env:DATABASE_URL --alertmanager http://alerts:9093`

    Parameters
    ----------
    files
        Drill files, or names of the ones that come along (`probe drill list`).
    """
    from probe.cli import drill_run as command

    asked = command.Options(
        files=files, dry=dry_run, sandbox=sandbox, sets=set, regions=region, policy=policy, state=state, store=store,
        compare=compare, alertmanager=alertmanager, prometheus=prometheus,
        out=out, json=as_json, quiet=quiet, verbose=verbose, seed=seed,
    )  # fmt: skip
    return on_console(lambda console: command.run(asked, console), Options(json=as_json))


@drill.command
def recover(
    *,
    state: Annotated[Path | None, Parameter(help="As given to the drill. Default: $XDG_STATE_HOME/stream-probe.")] = None,
    look: Annotated[bool, Parameter(name="--list", negative=(), help="Say what is left in place; touch nothing.")] = False,
    force_expired: Annotated[
        bool, Parameter(negative=(), help="Also undo what a drill that still runs should have undone by now.")
    ] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON.")] = False,
) -> int:
    """Put back what drills that were killed left in place, and see that it is gone. Exit 0 all is well, 5 something is not.

    Each drill writes what it is about to break, and its undo, into a ledger before it breaks it. Its watchdog undoes that when
    the drill is killed; this does where the watchdog was killed too, the machine lost its power, or the target could not be
    reached. It may be run at any time, by several at once: what a living drill guards is left to it.

    Examples
    --------
    `probe drill recover`                   as the user who ran the drill

    `probe drill recover --list`            what is left, and how it would be put back; 5 where there is any

    `probe drill recover --state /var/lib/stream-probe-drills --json`   at boot, and by a timer: deploy/systemd
    """
    from probe.cli import drill_recover as command

    return on_console(
        lambda _: command.run(state, look_only=look, force_expired=force_expired, as_json=as_json), Options(json=as_json)
    )


drill.command(drill_list, name="list")
drill.command(drill_people, name="people")


@drill.command
def export(file: Path) -> int:
    """Print a drill as a Chaos Toolkit experiment, for `chaos run`; it runs as safely there.

    Its one action is the whole drill, under our ledger and watchdog; every verdict but pass makes `chaos run` end with 1.
    `probe drill run` reads such a file too, and anybody else's experiment that says in its `extensions` what a drill must.

    Examples
    --------
    `probe drill export origin-restart > experiment.json && chaos run experiment.json`

    Parameters
    ----------
    file
        A drill file, or the name of one that comes along.
    """
    from probe.cli import drill_toolkit as command

    return on_console(lambda _: command.export(file), Options(json=True))


@drill.command
def journal(path: Path, *, as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON.")] = False) -> int:
    """Of a drill's --out: print it as a Chaos Toolkit journal. Of a journal: what it comes to by our rules, as exit code too.

    A journal says completed where the fault's action failed; here that is invalid (3). One whose rollback failed, or was never
    run after an action, is not restored (5).

    Examples
    --------
    `probe drill journal out > journal.json`

    `probe drill journal journal.json`      0 pass, 1 weakness, 3 invalid, inconclusive or aborted, 5 not restored

    Parameters
    ----------
    path
        The directory that a drill was written to, or a Chaos Toolkit journal.
    """
    from probe.cli import drill_toolkit as command

    folder = path.is_dir()
    return on_console(lambda _: command.tell(path, folder, as_json), Options(json=True))
