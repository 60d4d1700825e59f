"""What the audience lives through, by protocol and device: how soon, how late, how smooth, how sharp, and who is thrown out."""

from __future__ import annotations

from probe.model.metrics import PREFIX
from probe.rules.boards.shared import BAD, GOOD, MODE, NAMES, PLACES, PROTOCOL, VIEWERS, WINDOW, Shown, marks, ways
from probe.rules.grafana import Board, Row, Variable
from probe.rules.links import Dashboard
from probe.rules.panels import Column, Panel, Query, lines, table

_DEVICE = Variable(
    name="device", label="Device", series=f'{PREFIX}attempts_total{{scenario=~"$scenario",role="viewer"}}', of="device"
)
_WHO = f'{VIEWERS},device=~"$device"'
_BY = "by (protocol, device)"
_LEGEND = "{{protocol}} {{device}}"


def audience(shown: Shown) -> Board:
    return Board(
        uid=Dashboard.AUDIENCE.value,
        title=f"{shown.fleet.name}: {NAMES[Dashboard.AUDIENCE].lower()}",
        about="What viewers live through, by protocol and device.",
        variables=(*PLACES, PROTOCOL, _DEVICE, MODE, WINDOW),
        marks=marks(),
        links=ways(Dashboard.AUDIENCE),
        rows=(
            Row(title="At a glance", panels=(_glance(),)),
            Row(title="How soon, how late", panels=_times()),
            Row(title="How smooth, how sharp", panels=_pictures()),
            Row(title="Staying", panels=_staying(shown)),
        ),
    )


def _sum(name: str, more: str = "", by: str = _BY, window: str = "$window") -> str:
    return f"sum {by} (increase({PREFIX}{name}{{{_WHO}{more}}}[{window}]))"


def _quantile(quantile: float, name: str, window: str = "$window") -> str:
    return f"histogram_quantile({quantile}, {_sum(f'{name}_bucket', by='by (le, protocol, device)', window=window)})"


def _share(above: str, below: str) -> str:
    return f"{above} / ({below} > 0)"


_DONE, _TRIED = ',tainted="false",outcome="done"', ',tainted="false",outcome=~"done|failed"'


def _glance() -> Panel:
    over = "$__range"
    return table(
        "Protocols and devices",
        "Over the time shown. Empty cells: not measured there.",
        (
            Column(title="protocol", label="protocol"),
            Column(title="device", label="device"),
            Column(
                title="started",
                query=_share(_sum("outcomes_total", _DONE, window=over), _sum("outcomes_total", _TRIED, window=over)),
                unit="percentunit",
                steps=GOOD,
            ),
            Column(title="first frame, 95 %", query=_quantile(0.95, "first_frame_seconds", over), unit="s"),
            Column(title="latency, 95 %", query=_quantile(0.95, "e2e_latency_seconds", over), unit="s"),
            Column(
                title="frozen",
                query=_share(_sum("frozen_seconds_total", window=over), _sum("watched_seconds_total", window=over)),
                unit="percentunit",
                steps=BAD,
            ),
            Column(title="freezes", query=_sum("freezes_total", window=over), unit="short"),
            Column(title="bitrate, half below", query=f"8 * {_quantile(0.5, 'bitrate_bytes_per_second', over)}", unit="bps"),
            Column(title="thrown out", query=_sum("sessions_ended_total", ',kind="crashed"', window=over), unit="short"),
        ),
    )


def _times() -> tuple[Panel, ...]:
    return (
        lines(
            "First frame",
            "95 % of the starts that were done, from intent to play.",
            Query(expr=_quantile(0.95, "first_frame_seconds"), legend=_LEGEND, exemplars=True),
            unit="s",
            min=0,
        ),
        lines(
            "End-to-end latency",
            "95 % of frames: leaving the publisher to decoded, by the stamp in the picture.",
            Query(expr=_quantile(0.95, "e2e_latency_seconds"), legend=_LEGEND, exemplars=True),
            unit="s",
            min=0,
        ),
    )


def _pictures() -> tuple[Panel, ...]:
    return (
        lines(
            "Share of time frozen",
            "Freezes by the W3C rule; rebuffering for buffered players.",
            Query(expr=_share(_sum("frozen_seconds_total"), _sum("watched_seconds_total")), legend=_LEGEND),
            unit="percentunit",
            steps=BAD,
            min=0,
        ),
        lines(
            "Freezes and rebuffering",
            "How often.",
            Query(expr=_sum("freezes_total"), legend="freezes " + _LEGEND),
            Query(expr=_sum("rebuffers_total"), legend="rebuffering " + _LEGEND),
            unit="short",
            min=0,
        ),
        lines(
            "Bitrate by rendition",
            "Half of the seconds of media had less. Down together: bandwidth. One rendition thinner: its encoder.",
            Query(
                expr=f"8 * histogram_quantile(0.5, {_sum('bitrate_bytes_per_second_bucket', by='by (le, protocol, rendition)')})",
                legend="{{protocol}} {{rendition}}",
            ),
            unit="bps",
            min=0,
        ),
        lines(
            "Frames that were not right",
            "Lost, corrupt, foreign, stale and the like. A foreign one is another room's.",
            Query(
                expr=_sum("frames_total", ',kind!~"decoded|verified|skipped"', by="by (protocol, kind)"),
                legend="{{protocol}} {{kind}}",
            ),
            unit="short",
            min=0,
        ),
        lines(
            "Sound against picture",
            "How late or early sound is, 95 %.",
            Query(
                expr=f"histogram_quantile(0.95, {_sum('av_skew_seconds_bucket', by='by (le, protocol, kind)')})",
                legend="{{protocol}} {{kind}}",
            ),
            unit="s",
            min=0,
        ),
        lines(
            "Changes of rendition",
            "On screen.",
            Query(expr=_sum("rendition_switches_total"), legend=_LEGEND),
            unit="short",
            min=0,
        ),
    )


def _staying(shown: Shown) -> tuple[Panel, ...]:
    ended = lines(
        "Sessions that ended",
        "Crashed: unplanned, and not back in time. People were watching.",
        Query(expr=_sum("sessions_ended_total", by="by (protocol, kind)"), legend="{{protocol}} {{kind}}"),
        unit="short",
        min=0,
    )
    cuts = lines(
        "Came back from cuts",
        "Share of cuts that a session lived on after.",
        Query(
            expr=_share(
                _sum(
                    "reconnects_total",
                    ',tainted="false",kind!="unplanned",outcome=~"unaffected|resumed|restarted"',
                    "by (protocol, kind)",
                ),
                _sum(
                    "reconnects_total",
                    ',tainted="false",kind!="unplanned",outcome=~"unaffected|resumed|restarted|failed"',
                    "by (protocol, kind)",
                ),
            ),
            legend="{{protocol}} {{kind}}",
        ),
        unit="percentunit",
        steps=GOOD,
        min=0,
        max=1,
    )
    return (ended, cuts) if shown.cuts else (ended,)
