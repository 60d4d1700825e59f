"""Whether a query can be answered at all: every series it names exists, with every label it asks for.

A panel on a name that nobody exports is empty for ever, and an empty panel looks like good news. So each query of ours is held
against the table of metrics and against what the recording rules bring forth. This reads just enough PromQL for that: names,
matchers, and the labels of by, on and the like; whether the query is otherwise well formed is promtool's to say, and whether it
is answered a test's, on a real Prometheus. What Grafana fills in ($region, $__range) passes as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from probe.model.metrics import METRICS, MetricKind

Known = Mapping[str, frozenset[str]]  # series → its labels

TARGET = frozenset({"job", "instance"})  # what a scrape adds to everything
_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
    |(?P<range>\[[^\]]*\])
    |(?P<variable>\$\{[^}]*\}|\$\w+)
    |(?P<number>(?:\d[\d.]*(?:[eE][-+]?\d+)?)(?:ms|[smhdwy])?)
    |(?P<name>[A-Za-z_:][\w:]*)
    |(?P<sign>=~|!~|!=|==|>=|<=|.)""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end"})
_LISTS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_CLOSING = {")": "(", "}": "{"}


@dataclass(frozen=True, slots=True)
class Selector:
    """A series as a query asks for it, and the labels that it names in braces."""

    name: str
    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a query names: series, and labels by which it groups or joins."""

    selectors: tuple[Selector, ...]
    groups: frozenset[str]


def exported() -> dict[str, frozenset[str]]:
    """Every series that an agent can export, and those that Prometheus makes of scraping it."""
    known = {"up": TARGET, "scrape_duration_seconds": TARGET}
    for metric in METRICS.values():
        labels = TARGET.union(metric.labels)
        if metric.kind is MetricKind.HISTOGRAM:
            known |= {f"{metric.name}_sum": labels, f"{metric.name}_count": labels, f"{metric.name}_bucket": labels | {"le"}}
        else:
            known[metric.name] = labels
    return known


def problems(query: str, known: Known) -> list[str]:
    """What keeps `query` from being answered, in words; empty where nothing does."""
    try:
        found = asked(query)
    except ValueError as error:
        return [f"{error} in {query}"]
    out = [] if found.selectors else [f"no series in {query}"]
    labels: set[str] = set()
    for selector in found.selectors:
        if selector.name not in known:
            out.append(f"nobody makes {selector.name}, of {query}")
            continue
        labels |= known[selector.name]
        out += [f"{selector.name} has no label {label}, of {query}" for label in sorted(selector.labels - known[selector.name])]
    if not out:
        out = [f"nothing there has the label {label}, by which {query} groups" for label in sorted(found.groups - labels)]
    return out


def asked(query: str) -> Asked:
    """What `query` names. Raises ValueError where a bracket is left open or closes nothing."""
    tokens = [(str(m.lastgroup), m[0]) for m in _TOKEN.finditer(query) if m.lastgroup != "space"]
    _balanced(text for kind, text in tokens if kind == "sign")
    selectors: list[Selector] = []
    groups: set[str] = set()
    at = 0
    while at < len(tokens):
        kind, text = tokens[at]
        after = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        at += 1
        if kind == "name" and text in _LISTS:
            if after == "(":
                inside, at = _until(tokens, at + 1, ")")
                groups |= {name for what, name in inside if what == "name"}
        elif text == "{":
            inside, at = _until(tokens, at, "}")
            selectors.append(_selector("", inside))
        elif kind == "name" and text.lower() not in _WORDS and after != "(" and not _before_list(tokens, at):
            if after == "{":
                inside, at = _until(tokens, at + 1, "}")
                selectors.append(_selector(text, inside))
            else:
                selectors.append(Selector(text, frozenset()))
    return Asked(tuple(selectors), frozenset(groups))


def _before_list(tokens: list[tuple[str, str]], at: int) -> bool:
    """Whether what stands before `at` is an aggregation with its labels first: sum by (x) (…)."""
    return at < len(tokens) and tokens[at][1] in ("by", "without")


def _until(tokens: list[tuple[str, str]], at: int, closing: str) -> tuple[list[tuple[str, str]], int]:
    end = next(place for place in range(at, len(tokens)) if tokens[place][1] == closing)
    return tokens[at:end], end + 1


def _selector(name: str, inside: list[tuple[str, str]]) -> Selector:
    labels = {text for kind, text in inside if kind == "name"}
    if "__name__" in labels:
        place = next(place for place, (_, text) in enumerate(inside) if text == "__name__")
        name = inside[place + 2][1][1:-1]
    return Selector(name, frozenset(labels - {"__name__"}))


def _balanced(signs: Iterable[str]) -> None:
    open_: list[str] = []
    for sign in signs:
        if sign in "({":
            open_.append(sign)
        elif sign in _CLOSING and (not open_ or open_.pop() != _CLOSING[sign]):
            raise ValueError(f"a {sign} that closes nothing")
    if open_:
        raise ValueError(f"a {open_[-1]} that is left open")
