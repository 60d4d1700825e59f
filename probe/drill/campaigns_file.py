"""campaigns.yaml and the drills that it names → what a calendar is made of, or every mistake in it at once.

A campaign's failures are as many as `top` says, and each has a drill that there is and somebody who answers for it: a list on
which one is missing looks like a plan and is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from probe.drill.core.calendar import Kind, Known
from probe.drill.core.campaigns import Campaigns
from probe.drill.mapping_file import load_mapping, refused
from probe.drill.shelf import shelf
from probe.scenario.check import Finding
from probe.scenario.located import dotted
from probe.scenario.units import describe


@dataclass(frozen=True, slots=True)
class CampaignsFile:
    """The file, and the drills and rehearsals that stand where it says."""

    campaigns: Campaigns
    known: tuple[Known, ...]


def load_campaigns(path: Path, *, env: Mapping[str, str]) -> CampaignsFile:
    """Read the file and look at its drills. Raises ConfigError with all mistakes."""
    campaigns, document = load_mapping(path, Campaigns, "calendar", env)
    known: list[Known] = []
    for index, place in enumerate(campaigns.drills):
        try:
            known += shelf([path.parent / place])
        except OSError as error:
            document.mistake(("drills", index), f"{path.parent / place}: {error.strerror}", f"drills[{index}]")
    if not document.mistakes:
        for finding in findings(campaigns, known):
            document.mistake(finding.path, finding.message, dotted(finding.path), key=finding.key)
    if document.mistakes:
        raise refused(document)
    return CampaignsFile(campaigns, tuple(known))


def findings(campaigns: Campaigns, known: Sequence[Known]) -> Iterator[Finding]:
    """What is wrong between the file and the drills that there are."""
    tags = {tag for one in known for tag in one.tags}
    files: dict[tuple[str, str], str] = {}
    for one in known:
        if files.setdefault((one.name, one.kind), one.file) != one.file:
            first = files[one.name, one.kind]
            yield Finding(("drills",), f"{one.file} and {first} are both called {one.name!r}; whose run would count?")
    for index, rule in enumerate(campaigns.policy):
        for i, drill in enumerate(rule.drills):
            if message := _missing(drill, known, rule.kind):
                yield Finding(("policy", index, "drills", i), message)
        if rule.tag is not None and rule.tag not in tags:
            yield Finding(
                ("policy", index, "tag"), f"no drill has the tag {rule.tag!r}; there are {', '.join(sorted(tags)) or 'none'}"
            )
    for name, campaign in campaigns.campaigns.items():
        path = ("campaigns", name)
        if (count := len(campaign.failures)) < campaigns.top:
            message = f"names {count} of the {campaigns.top} failures that it is to be rehearsed for (top)"
            yield Finding((*path, "failures"), message)
        for i, failure in enumerate(campaign.failures):
            if message := _missing(failure.drill, known, "drill"):
                yield Finding((*path, "failures", i, "drill"), message)
        for i, rehearsal in enumerate(campaign.people):
            if message := _missing(rehearsal, known, "people"):
                yield Finding((*path, "people", i), message)


def _missing(name: str, known: Sequence[Known], kind: Kind) -> str:
    names = [one.name for one in known if one.kind == kind]
    if name in names:
        return ""
    close = get_close_matches(name, names, 1)
    what = "drill" if kind == "drill" else "rehearsal"
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names) or 'none'}"
    return f"there is no {what} {describe(name)}; {hint}"
