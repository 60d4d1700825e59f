"""Runbooks: for each alert what it means, where to look first, what to do, who, and when to roll back; Markdown.

The SRE workbook's chapter on on-call asks that each page leads to a text that says what to do. Written by hand such texts name
thresholds that have changed and people who have left; made from the objectives they cannot. What a machine cannot know
(texts/*.yaml is general, `runbooks.yaml` is the platform's own) is merged in and never lost: a name that no longer fits is a
mistake, not silence.

Regions share one text, with a row and a note each: at four in the morning nobody compares three versions.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from probe.errors import ConfigError, Located
from probe.rules import runbook_words as words
from probe.rules.advice import advice, phases, phases_of
from probe.rules.conditions import Alert, Kind, Scope
from probe.rules.escalated import Escalation
from probe.rules.fleet import Beat, Cell, Fleet, Slo
from probe.rules.groups import text as rule_text
from probe.rules.links import about_probe, dashboard_url, runbook_name, runs_url
from probe.rules.review import FILE, Review, review, review_group
from probe.scenario.runbooks import Note, NotesFile
from probe.scenario.steps import Publish, View
from probe.scenario.units import format_duration

FOLDER = "runbooks"
INDEX = f"{FOLDER}/README.md"
ALL = "all"
_TEMPLATES = Path(__file__).parent / "templates"
_BLANK = re.compile(r"\n{3,}")
_HEAD = "<!-- Made by `probe rules`; what is written here is lost, what stands in runbooks.yaml is kept. {} -->\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A row of the table of places: where, and where to look."""

    name: str
    dashboard: str
    runs: str
    measured: str


def runbooks(
    fleet: Fleet, alerts: Sequence[Alert], notes: NotesFile | None = None, escalation: Escalation | None = None
) -> dict[str, str]:
    """Path below the output folder → text: one for each alert, an index of all, and the rules that record when each is due for
    review. Raises ConfigError where a note is about nothing that is here."""
    notes = notes or NotesFile()
    if mistakes := list(_about_nothing(fleet, alerts, notes)):
        raise ConfigError(mistakes)
    due = reviews(alerts, notes)
    files = {INDEX: _signed(_index(fleet, alerts, due)), f"rules/{FILE}.yaml": rule_text([review_group(due)])}
    for alert in alerts:
        files[f"{FOLDER}/{runbook_name(alert.name)}.md"] = _signed(_book(fleet, alert, notes, escalation))
    return files


def reviews(alerts: Sequence[Alert], notes: NotesFile | None = None) -> dict[str, Review]:
    """Label `runbook` → when it is due."""
    notes = notes or NotesFile()
    return {
        runbook_name(alert.name): review(notes.runbooks, _own(alert, notes), alert.labels.get("owner", "")) for alert in alerts
    }


def edited(text: str) -> bool:
    """Whether somebody has written into a made runbook, which making it again would lose."""
    head, _, body = text.partition("\n")  # whose words may be another version's
    return not head.endswith(f" {_sum(body)} -->")


def _signed(body: str) -> str:
    return _HEAD.format(_sum(body)) + body


def _sum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _keys(alert: Alert) -> tuple[str, ...]:
    """What a note can be about, to be about this alert; the most special last."""
    return (ALL, alert.kind.value, *((alert.slo.name,) if alert.slo else ()), alert.name)


def _own(alert: Alert, notes: NotesFile) -> list[Note]:
    found = notes.runbooks.runbooks
    return [found[key] for key in dict.fromkeys(_keys(alert)) if key in found]


def _about_nothing(fleet: Fleet, alerts: Sequence[Alert], notes: NotesFile) -> Iterator[Located]:
    known = list(dict.fromkeys([ALL, *(kind.value for kind in Kind), *(key for alert in alerts for key in _keys(alert))]))
    cells = [cell for slo in fleet.slos for cell in slo.cells]
    regions = {agent.region for agent in fleet.agents}.union(*({cell.region, cell.publish_region} for cell in cells))
    for name, note in notes.runbooks.runbooks.items():
        if name not in known:
            close = get_close_matches(name, known, 1)
            meant = f"did you mean {close[0]}?" if close else "known are all, kinds, objectives and alerts by name"
            yield notes.mistake(("runbooks", name), f"there is no alert, objective or kind of this name; {meant}")
        for region in note.regions:
            if region not in regions:
                message = f"no agent views or publishes there; there are {', '.join(sorted(regions))}"
                yield notes.mistake(("runbooks", name, "regions", region), message)


def _book(fleet: Fleet, alert: Alert, notes: NotesFile, escalation: Escalation | None) -> str:
    slo = alert.slo
    own = _own(alert, notes)
    found = advice(alert.kind, slo.indicator if slo else "")
    text = _template().render(
        alert=alert,
        slo=slo,
        summary=words.summary(alert),
        severity=words.severity(fleet, alert),
        budget=words.budget(slo) if slo else "",
        fires=words.fires(alert),
        over=words.over(alert),
        review=words.reviewed(review(notes.runbooks, own, alert.labels["owner"])),
        advice=found,
        first_look=words.first_look(alert),
        runs_title="The last runs" if about_probe(alert) else "The last runs that failed",
        second_look=words.second_look(fleet, alert),
        third_title="What only this alert needs." if slo is None else f"What only `{slo.indicator}` needs.",
        places=list(_places(fleet, alert)),
        gates=list(_gates(fleet, slo)),
        phases=[(phase.value, phases()[phase]) for phase in _phases(fleet, alert)],
        rollback=words.rollback(alert, found.suspects),
        escalation=escalation(alert) if escalation else words.usual(fleet, alert),
        notes={
            "texts": [note.text.strip() for note in own if note.text],
            "rollbacks": [note.rollback.strip() for note in own if note.rollback],
            "regions": _by_region(own),
            "incidents": [
                {"on": one.on, "said": f"[{words.cell(one.what)}]({one.link})" if one.link else words.cell(one.what)}
                for note in own
                for one in note.incidents
            ],
        },
        scenario=slo.scenario if slo else "SCENARIO",
    )
    return _BLANK.sub("\n\n", text.rstrip()) + "\n"


def _by_region(own: Sequence[Note]) -> list[tuple[str, list[str]]]:
    regions: dict[str, list[str]] = {}
    for note in own:
        for region, text in note.regions.items():
            regions.setdefault(region, []).append(text.strip())
    return sorted(regions.items())


def _places(fleet: Fleet, alert: Alert) -> Iterator[Place]:
    """A row for each place that the alert tells apart."""
    slo = alert.slo
    if slo is None or about_probe(alert):
        for agent in fleet.agents:
            dashboard = dashboard_url(fleet, alert, {"region": agent.region})
            runs = runs_url(fleet, region=agent.region)
            yield Place(
                name=f"{agent.region}: {agent.name}", dashboard=dashboard, runs=_linked(runs), measured=_measured(agent.beats)
            )
        return
    paths = {(cell.publish_region, cell.region): cell for cell in slo.cells}  # a run counts once, whatever it is viewed by
    publishing = dict.fromkeys(publish for publish, _ in paths)
    if Scope.PUBLISH in alert.scopes and len(publishing) > 1:
        for name in publishing:
            cells = [cell for cell in paths.values() if cell.publish_region == name]
            yield _place(fleet, alert, slo, {"publish_region": name, "region": name}, cells)
    for name in dict.fromkeys(region for _, region in paths):
        yield _place(fleet, alert, slo, {"region": name}, [cell for cell in paths.values() if cell.region == name])


def _place(fleet: Fleet, alert: Alert, slo: Slo, at: Mapping[str, str], cells: Sequence[Cell]) -> Place:
    views = dict.fromkeys(cell.region for cell in cells)
    links = {region: runs_url(fleet, region=region, scenario=slo.scenario, verdict="fail") for region in views}
    return Place(
        name=f"published in {at['region']}" if "publish_region" in at else f"viewed in {at['region']}",
        dashboard=dashboard_url(fleet, alert, at),
        runs=", ".join(_linked(link, region) for region, link in links.items()),
        measured=_measured(cells),
    )


def _linked(url: str, name: str = "runs") -> str:
    return f"[{name}]({url})" if url else "`/runs` of its agent"


def _measured(parts: Sequence[Cell | Beat]) -> str:
    rate = sum(part.runs_per_hour for part in parts)
    share = sum(part.runs_per_hour * part.share for part in parts) / rate if rate else 1.0
    return f"{rate:,.4g} runs/h" + (f", {share:.0%} of the week" if share < 1 else "")


def _gates(fleet: Fleet, slo: Slo | None) -> Iterator[Mapping[str, str]]:
    """Gates of the scenario that ask for the same indicator."""
    for scenario, gate in fleet.gates:
        if slo is None or scenario != slo.scenario or slo.indicator not in {term.indicator for term in gate.when.terms}:
            continue
        opens = f", opens at `{gate.resume}`" if gate.resume else ""
        owner = gate.owner or fleet.scenarios[scenario].owner
        closes = f"closes by {' and '.join(gate.by)} at `{gate.when}`{opens}. Closed: {gate.action} ({owner})."
        said = f"{closes} `probe gate {gate.name}` says how it stands."
        yield {"name": gate.name, "said": said}


def _phases(fleet: Fleet, alert: Alert) -> Sequence[Any]:
    slo = alert.slo
    if slo is None or about_probe(alert):
        return ()
    journey = fleet.scenarios[slo.scenario].journey if slo.scenario in fleet.scenarios else ()
    return phases_of(slo.indicator, sorted(_protocols(journey)))


def _protocols(journey: Sequence[Any]) -> set[str]:
    found = {step.publish for step in journey if isinstance(step, Publish)}
    return found | {viewer.via for step in journey if isinstance(step, View) for viewer in step.view}


def _index(fleet: Fleet, alerts: Sequence[Alert], due: Mapping[str, Review]) -> str:
    lines = [
        f"# Runbooks of {fleet.name}",
        "",
        "| alert | severity | about | owner | next review |",
        "| --- | --- | --- | --- | --- |",
    ]
    for alert in sorted(alerts, key=lambda one: (one.severity, one.name)):
        name = runbook_name(alert.name)
        about = f"`{alert.slo.name}`: {alert.slo.meaning}" if alert.slo else "the probe itself"
        found = due[name]
        by = str(found.due) if found.reviewed else "never read through"
        lines.append(f"| [{alert.name}]({name}.md) | {alert.severity} | {words.cell(about)} | {alert.labels['owner']} | {by} |")
    return "\n".join(lines) + "\n"


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown, of files that its reader's own people wrote
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"duration": format_duration, "sentence": words.sentence}
    environment.globals |= {"target": words.target, "spare": words.spare}
    return environment.get_template("runbook.md.j2")
