"""Which alert keeps which other one quiet: few, and never an unrelated one.

Alertmanager takes a label of `equal` that both alerts lack for equal, and thereby one broken rule for a reason to silence the
fleet. So every label of `equal` is asked to be there, on both sides; and whatever else could tell the louder alert from others
is asked to be absent from it: an alert about one protocol does not keep one about the whole region quiet, which may have a
reason of its own. And `region` means two things: where something is viewed, and, beside a `publish_region`, where it was
published; one is never held for the other. Labels are those that the given alerts carry.

Three kinds only. P1 keeps quiet the P2 of the same promise at the same place, and anywhere if it is bad everywhere: whoever is
paged need not also be asked to look today. A page that rooms do not start keeps quiet, page or triage, what the same scenario
promises its viewers at the same place, of whichever protocol: who sees no room has no first frame, and no session to come back
to. It never keeps quiet what has a service of its own (payment, chat, gifts, moderation, sign-in), nor another place: an ingest
that is broken says nothing of those who view in that region. A page of all regions counted together keeps nothing quiet in that
way: it may be of one of them. A region that fell silent, or whose agents stand still, keeps quiet what is true of every such one:
agents missing, runs that were not made. It never keeps quiet an alert about users.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, combinations
from typing import Any

from probe.rules.conditions import Alert, Kind, Scope
from probe.rules.faults import WATCHED
from probe.rules.fleet import Severity, Source
from probe.rules.promql import EVERYWHERE
from probe.scenario.indicators import INDICATORS

SAME = ("slo", "region")  # of every alert
_VIEWED = 'publish_region=""'  # region is the viewing one; where there is a publishing one, region is that
APART = ("scenario", "service", "publish_region", "protocol")  # of those that have them


def inhibitions(alerts: Sequence[Alert]) -> list[dict[str, Any]]:
    """The `inhibit_rules`."""
    loud = [alert for alert in alerts if not alert.shadow]
    return [*_by_severity([alert for alert in loud if alert.slo is not None]), *_by_start(loud), *_by_silence(loud)]


def says_no_room(alert: Alert) -> bool:
    """Whether it is a page that rooms do not start, and knows where."""
    return alert.slo is not None and (
        alert.slo.indicator == "room_start" and alert.severity is Severity.P1 and Scope.REGION in alert.scopes
    )


def needs_a_room(alert: Alert) -> bool:
    """Whether it is about what viewers have only of a room that started."""
    return alert.slo is not None and INDICATORS[alert.slo.indicator].of in WATCHED


def _by_start(alerts: Sequence[Alert]) -> Iterator[dict[str, Any]]:
    starts, viewers = [one for one in alerts if says_no_room(one)], [one for one in alerts if needs_a_room(one)]
    scopes = {scope for alert in starts for scope in alert.scopes} if viewers else set()
    for scope, there, where, equal in (
        (Scope.REGION, [_VIEWED], [_VIEWED], ["scenario", "region"]),
        (Scope.PUBLISH, [], [], ["scenario", "region", "publish_region"]),
        (Scope.EVERYWHERE, [_VIEWED, f'region="{EVERYWHERE}"'], ['region!=""'], ["scenario"]),
    ):
        if scope in scopes:
            yield {
                "source_matchers": [names(starts), 'shadow!="true"', 'protocol=""', *_there(equal), *there],
                "target_matchers": [names(viewers), *_there(equal), *where],
                "equal": equal,
            }


def _by_severity(alerts: Sequence[Alert]) -> Iterator[dict[str, Any]]:
    pages = [alert for alert in alerts if alert.severity is Severity.P1]
    known = [label for label in APART if any(label in labels(alert) for alert in alerts)]
    always = [label for label in known if all(label in alert.labels for alert in pages)]
    maybe = [label for label in known if label not in always]
    found = {frozenset(label for label in maybe if label in labels(alert)) for alert in pages}
    # A label that an expression brings may be empty in some series and not in others.
    for there in sorted({part for labels in found for part in _parts(labels)}, key=lambda part: (len(part), sorted(part))):
        equal = [*SAME, *(label for label in known if label in always or label in there)]
        absent = [f'{label}=""' for label in maybe if label not in there]
        yield {
            "source_matchers": ['severity="P1"', 'shadow!="true"', *_there(equal), *absent],
            "target_matchers": ['severity="P2"', *_there(equal), *(one for one in absent if one == _VIEWED)],
            "equal": equal,
        }
    if any(Scope.EVERYWHERE in alert.scopes for alert in pages):
        equal = ["slo", *always]
        absent = [f'{label}=""' for label in maybe]
        yield {
            "source_matchers": ['severity="P1"', 'shadow!="true"', f'region="{EVERYWHERE}"', *_there(equal), *absent],
            "target_matchers": ['severity="P2"', 'region!=""', *_there(equal)],
            "equal": equal,
        }


def _by_silence(alerts: Sequence[Alert]) -> Iterator[dict[str, Any]]:
    """What the silence, or the standstill, of a region makes true. Of an alert about an ingest, `region` is the ingest's."""
    silent = [alert for alert in alerts if alert.kind is Kind.SILENCE and alert.severity is Severity.P1]
    still = [alert for alert in alerts if alert.kind is Kind.STALE]
    fewer = [alert for alert in alerts if alert.kind is Kind.SILENCE and alert.severity is Severity.P2]
    unmade = [alert for alert in alerts if alert.slo is not None and alert.slo.source is Source.COVERAGE]
    for sources, targets, more in ((silent, [*still, *fewer], []), ([*silent, *still], unmade, [_VIEWED])):
        if sources and targets:
            yield {
                "source_matchers": [names(sources), 'shadow!="true"', 'region!=""'],
                "target_matchers": [names(targets), 'region!=""', *more],
                "equal": ["region"],
            }


def labels(alert: Alert) -> frozenset[str]:
    """Every label that it may carry, but its name."""
    published = ("publish_region",) if Scope.PUBLISH in alert.scopes else ()
    return frozenset((*alert.labels, *alert.by, *published))


def _parts(labels: frozenset[str]) -> Iterable[frozenset[str]]:
    ordered = sorted(labels)
    return (frozenset(part) for part in chain.from_iterable(combinations(ordered, n) for n in range(len(ordered) + 1)))


def _there(equal: Sequence[str]) -> list[str]:
    return [f'{label}!=""' for label in equal]


def names(alerts: Iterable[Alert]) -> str:
    """A matcher of alerts by name."""
    return one_of("alertname", (alert.name for alert in alerts))


def one_of(label: str, values: Iterable[str], *, none: bool = False) -> str:
    """A matcher: the label is one of the values; `none`: it is none of them."""
    found = list(dict.fromkeys(values))
    if len(found) == 1:
        return f"{label}{'!=' if none else '='}{_quoted(found[0])}"
    return f"{label}{'!~' if none else '=~'}{_quoted('|'.join(_literal(value) for value in found))}"


def _literal(value: str) -> str:
    """A text as RE2 takes it for itself."""
    return "".join(f"\\{sign}" if sign in r"\.+*?()|[]{}^$" else sign for sign in value)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
