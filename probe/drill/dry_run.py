"""What a drill would do, told before it does anything: every command and its undo, every target, who would put back what.

Made of what `prepare` found, so it is true of this host and these targets at this moment; nothing was touched for it. As JSON,
and as text from the same JSON, so that neither says more than the other. A secret is nowhere in it: parameters name references,
and every text passes the redactor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from probe.drill.core.klass import Klass
from probe.drill.core.policy import PolicyFile
from probe.drill.load import Loaded
from probe.drill.prepare import Ready, targets
from probe.model.clock import NS
from probe.net.redact import Redactor
from probe.scenario.indicators import IN_A_DRILL
from probe.scenario.units import format_duration, format_ratio

_NOBODY = {
    Klass.REVERSIBLE: "",
    Klass.SELF_HEALING: "ends by itself",
    Klass.IRREVERSIBLE: "cannot be put back",
}
_MEASURED = (
    "time to detect: the first alert or gate that fires",
    "time to mitigate",
    "outage and reconnect of each viewer, by protocol and device",
    "viewer-seconds without a picture",
    "who was hit outside the targets",
    "error budget that it would have spent",
)


def dry_run(loaded: Loaded, ready: Sequence[Ready], policy: PolicyFile, redactor: Redactor, now: int) -> dict[str, Any]:
    """The drill as JSON. `now`: CLOCK_BOOTTIME ns, from which expiries are told. Durations are texts with their units."""
    drill = loaded.drill
    document: dict[str, Any] = {
        "drill": drill.drill,
        "file": str(loaded.file),
        "owner": drill.owner,
        "scenario": {"name": loaded.scenario.name, "file": str(loaded.scenario_file)},
        "regions": list(drill.regions),
        "policy": {"name": policy.policy.name, "file": policy.file} if policy.file else {"name": "built-in"},
        "announced": {key: value for key, value in (("channel", drill.comms.channel), ("words", drill.comms.announce)) if value},
        "length": {
            "at_most": format_duration(drill.length),
            "steady": format_duration(drill.steady.within),
            "broken": format_duration(drill.broken),
            "recovery": format_duration(max(one.within for one in drill.recovery)),
        },
        "traffic": list(_traffic(loaded)),
        "steady": [str(one) for one in drill.steady.of],
        "faults": [_fault(one, now) for one in ready],
        "meanwhile": [str(one) for one in drill.meanwhile],
        "abort": [str(one) for one in drill.abort],
        "recovery": [str(one) for one in drill.recovery],
        "leases": list(targets(ready)),
        "measured": [*_MEASURED, *_conditions(loaded)],
    }
    return {key: _redacted(value, redactor) for key, value in document.items()}


def _fault(one: Ready, now: int) -> dict[str, Any]:
    found, use = one.prepared, one.use
    return {
        "name": use.name,
        "kind": use.fault,
        "class": str(found.klass),
        "begins": format_duration(use.at),
        "lasts": format_duration(use.lasts),
        "targets": list(found.targets),
        "share": f"{len(found.targets)} of {found.of}",
        "commands": [{"do": command.do, "undo": command.undo or _NOBODY[found.klass]} for command in found.commands],
        "restored_by": found.restored_by,
        "limit": found.limit,
        "token": f"sp-{one.token}",
        "expires_in": format_duration(max(0, one.expires - now) // NS * NS),
    }


def _traffic(loaded: Loaded) -> Iterator[str]:
    traffic = loaded.drill.traffic
    if traffic.stay:
        yield f"one audience in each of {', '.join(loaded.scenario.regions)}, from before the first fault to the end"
    if traffic.starts is not None:
        often = f"every {format_duration(traffic.starts.every)} in each, {traffic.starts.most} at once"
        yield f"a run of {loaded.scenario.name} begins {often}"


def _conditions(loaded: Loaded) -> Iterator[str]:
    """What each indicator that is looked at means."""
    drill = loaded.drill
    asked = [*drill.steady.of, *drill.meanwhile, *(one.when for one in drill.recovery if one.when is not None)]
    for name in dict.fromkeys(term.indicator for one in asked for term in one.terms):
        yield f"{name}: {IN_A_DRILL[name].meaning}"
    for one in drill.recovery:
        if one.reconnect is not None:
            yield f"reconnect: of the viewers that played, whether {format_ratio(one.reconnect)} play again in time"


def _redacted(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str):
        return redactor.redact(value)
    if isinstance(value, Mapping):
        return {key: _redacted(one, redactor) for key, one in value.items()}
    return [_redacted(one, redactor) for one in value] if isinstance(value, list) else value


def show(document: Mapping[str, Any], console: Console) -> None:
    """Print it for people."""
    length = document["length"]
    _line(console, f"{document['drill']}: a dry run; nothing was touched", "bold")
    _line(console, f"owner {document['owner']}; scenario {document['scenario']['name']}; in {', '.join(document['regions'])}")
    _line(console, f"allowed by {document['policy'].get('file') or 'the built-in policy'}")
    spans = f"steady {length['steady']}, broken {length['broken']}, recovery {length['recovery']}"
    _line(console, f"takes {length['at_most']} at most: {spans}")
    if document["announced"]:
        _line(console, f"is announced: {' '.join(document['announced'].values())}")
    for fault in document["faults"]:
        _show_fault(fault, console)
    _section(console, "traffic", document["traffic"])
    _section(console, "before anything is touched, in each region", document["steady"])
    _section(console, "kept while it is broken", document["meanwhile"])
    _section(console, "stops it at once, and puts everything back", document["abort"])
    _section(console, "recovered means", document["recovery"])
    _section(console, "held meanwhile, so that no other drill touches it", document["leases"])
    _section(console, "measured", document["measured"])


def _show_fault(fault: Mapping[str, Any], console: Console) -> None:
    console.print()
    when = f"at {fault['begins']} for {fault['lasts']}"
    _line(console, f"{fault['name']}: {fault['kind']}, {fault['class'].replace('_', '-')}, {when}", "bold")
    _line(console, f"  hits {fault['share']}: {', '.join(fault['targets'])}")
    table = Table(box=None, padding=(0, 2), show_edge=False)
    table.add_column("does", overflow="fold")
    table.add_column("undone by", overflow="fold")
    for command in fault["commands"]:
        table.add_row(Text(command["do"]), Text(command["undo"]))
    console.print(table)
    if fault["restored_by"]:
        _line(console, f"  brought back by: {fault['restored_by']}")
    if fault["limit"]:
        _line(console, f"  ends at the target, whoever is dead: {fault['limit']}")
    _line(console, f"  named {fault['token']}; gone {fault['expires_in']} from now at the latest")


def _section(console: Console, title: str, lines: Sequence[str]) -> None:
    if lines:
        console.print()
        _line(console, title, "bold")
        for line in lines:
            _line(console, f"  {line}")


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
