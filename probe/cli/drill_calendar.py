"""The commands about which drills there are and when each is due. As in `app`: each parses and hands over, no more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from probe.cli.console import on_console
from probe.cli.drill_records import Kept
from probe.cli.options import Options

Store = Annotated[str | None, Parameter(help="Where the records are: a file or a URL; env:NAME, file:PATH hold one.")]
AgentFile = Annotated[Path | None, Parameter(help="The agent.yaml that says so.")]
State = Annotated[Path | None, Parameter(help="As given to the drill; records are there unless elsewhere is said.")]
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON.")]


def drill_list(
    *files: Path,
    due: Annotated[
        bool, Parameter(negative=(), help="Only what is due; exit 1 where something is overdue, 3 if unknown.")
    ] = False,
    campaigns: Annotated[
        Path | None, Parameter(help="campaigns.yaml: policy, campaigns. Default: the one in this directory, else monthly.")
    ] = None,
    since: Annotated[str | None, Parameter(help="Lines for a review: overdue, done and learned, such as since 7d.")] = None,
    store: Store = None,
    agent: AgentFile = None,
    state: State = None,
    as_json: Json = False,
) -> int:
    """Drills and rehearsals: what each does, who owns it, how it ended last, when it is due next.

    Done is what ran to pass or weakness. An invalid, inconclusive or aborted drill showed nothing, and stays due.

    Examples
    --------
    `probe drill list`                                       those of campaigns.yaml here, else those that come along

    `probe drill list drills/ --store records.sqlite`        yours, with what became of them

    `probe drill list --due --campaigns campaigns.yaml`      for CI: exit 1 where one is overdue

    `probe drill list --since 7d`                            lines for the weekly review

    Parameters
    ----------
    files
        Folders or files of drills and rehearsals.
    """
    from probe.cli import drill_list as command

    kept = Kept(store, agent, state)
    asked = command.Asked(files=files, due=due, campaigns=campaigns, since=since, kept=kept, as_json=as_json)
    return on_console(lambda console: command.drill_list(asked, console), Options(json=as_json))


def drill_people(
    file: Path,
    *,
    took_part: Annotated[
        tuple[str, ...], Parameter(negative=(), help="Who was there: anna, or anna=on-call with a role; repeatable.")
    ] = (),
    learned: Annotated[tuple[str, ...], Parameter(negative=(), help="What was learned; repeatable.")] = (),
    on: Annotated[str | None, Parameter(help="When it was held, such as 2026-11-20T14:00 (UTC). Default: now.")] = None,
    store: Store = None,
    agent: AgentFile = None,
    state: State = None,
    as_json: Json = False,
) -> int:
    """A drill of people, without a fault: print the sheet to lead it by; held, record who took part and what was learned.

    Examples
    --------
    `probe drill people war-room-origin-lost`   one that comes along: the scene, the parts, what is told when, what is good

    `probe drill people war-room.yaml --took-part anna=on-call --took-part ben --learned "nobody could find the runbook"`

    Parameters
    ----------
    file
        The rehearsal: a file that begins with `rehearsal:`, or the name of one that comes along.
    """
    from probe.cli import drill_people as command

    kept = Kept(store, agent, state)
    asked = command.Asked(file=file, took_part=took_part, learned=learned, on=on, kept=kept, as_json=as_json)
    return on_console(lambda console: command.drill_people(asked, console), Options(json=as_json))
