"""Edges: which refuse or fail requests for media, from which cache, and where; before players' retries run out."""

from __future__ import annotations

from probe.model.metrics import PREFIX
from probe.rules.boards.shared import BAD, GOOD, MODE, NAMES, PLACES, RUN, WINDOW, Shown, marks, ways
from probe.rules.grafana import Board, Row, Variable
from probe.rules.links import Dashboard
from probe.rules.panels import Column, Panel, Query, lines, stat, table

_REQUESTS = f"{PREFIX}edge_requests_total"
_PROTOCOL = Variable(name="protocol", label="Protocol", series=f'{_REQUESTS}{{scenario=~"$scenario"}}', of="protocol")
_EDGE = Variable(name="edge", label="Edge", series=f'{_REQUESTS}{{scenario=~"$scenario"}}', of="edge")
_OF = f'{RUN},protocol=~"$protocol",edge=~"$edge"'
_FAILED = ',class=~"4xx|5xx|none"'


def edges(shown: Shown) -> Board:
    return Board(
        uid=Dashboard.EDGES.value,
        title=f"{shown.fleet.name}: {NAMES[Dashboard.EDGES].lower()}",
        about="Requests for playlists, init sections, segments and parts, by the edge that answered.",
        variables=(*PLACES, _PROTOCOL, _EDGE, MODE, WINDOW),
        marks=marks(),
        links=ways(Dashboard.EDGES),
        rows=(
            Row(title="Now", panels=_now()),
            Row(title="By edge", panels=_by_edge()),
            Row(title="What their clients see", panels=_seen()),
        ),
    )


def _sum(by: str, more: str = "", window: str = "$window") -> str:
    return f"sum by ({by}) (increase({_REQUESTS}{{{_OF}{more}}}[{window}]))"


def _share(by: str, more: str, of: str = "", window: str = "$window") -> str:
    return f"{_sum(by, more, window)} / ({_sum(by, of, window)} > 0)"


def _now() -> tuple[Panel, ...]:
    return (
        stat("Requests", f"sum(increase({_REQUESTS}{{{_OF}}}[$__range]))", "Over the time shown.", decimals=0, width=6),
        stat(
            "Failed",
            f"sum(increase({_REQUESTS}{{{_OF}{_FAILED}}}[$__range])) / (sum(increase({_REQUESTS}{{{_OF}}}[$__range])) > 0)",
            "Share of requests: status 4xx, 5xx, or no answer at all.",
            unit="percentunit",
            steps=BAD,
            width=6,
        ),
        stat(
            "From cache",
            f'sum(increase({_REQUESTS}{{{_OF},cache="hit"}}[$__range])) /'
            f' (sum(increase({_REQUESTS}{{{_OF},cache=~"hit|miss"}}[$__range])) > 0)'
            f" or 0 * sum(increase({_REQUESTS}{{{_OF}}}[$__range]))",
            "Hits, of the answers that say hit or miss; 0 as well where no edge says.",
            unit="percentunit",
            width=6,
        ),
        stat("Edges", f"count(count by (edge) ({_REQUESTS}{{{_OF}}}))", "That answered.", width=6),
    )


def _by_edge() -> tuple[Panel, ...]:
    return (
        table(
            "Edges",
            "Over the time shown.",
            (
                Column(title="edge", label="edge"),
                Column(title="viewed in", label="region"),
                Column(title="protocol", label="protocol"),
                Column(title="requests", query=_sum("edge, region, protocol", window="$__range"), unit="short"),
                Column(
                    title="failed",
                    query=_share("edge, region, protocol", _FAILED, window="$__range"),
                    unit="percentunit",
                    steps=BAD,
                ),
            ),
        ),
        lines(
            "Failed, by edge",
            "Share of requests. One edge alone: that machine. All of a region: its shield or the origin.",
            Query(expr=_share("edge, region", _FAILED), legend="{{edge}} {{region}}"),
            unit="percentunit",
            steps=BAD,
            min=0,
        ),
        lines(
            "Cache, by edge",
            "Answers by what the edge said of its cache. `none`: it does not say.",
            Query(expr=_sum("edge, cache"), legend="{{edge}} {{cache}}"),
            unit="short",
            min=0,
        ),
    )


def _seen() -> tuple[Panel, ...]:
    return (
        lines(
            "Answers by class",
            "4xx from hits: a rule or a token. 5xx from misses: the origin. `none`: the network or the machine.",
            Query(expr=_sum("cache, class"), legend="{{class}} {{cache}}"),
            unit="short",
            stacked=True,
            min=0,
        ),
        lines(
            "Viewers that started, over HTTP",
            "Share of untainted attempts by protocol.",
            Query(
                expr=f'sum by (protocol, region) (increase({PREFIX}outcomes_total{{{RUN},role="viewer",protocol=~"$protocol",'
                'tainted="false",outcome="done"}[$window])) / (sum by (protocol, region)'
                f' (increase({PREFIX}outcomes_total{{{RUN},role="viewer",protocol=~"$protocol",tainted="false",'
                'outcome=~"done|failed"}[$window])) > 0)',
                legend="{{protocol}} {{region}}",
            ),
            unit="percentunit",
            steps=GOOD,
            min=0,
            max=1,
        ),
    )
