"""The table: what sessions told of cuts, against what happened."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from tests.drill.cut.cuts import Lived, Measured

COLUMNS = (
    *("protocol", "cuts", "ended", "outage p50", "error p50", "max"),
    *("reconnect p50", "p95", "error p50", "max", "of it told late", "rest max"),
)


def errors(lived: Sequence[Lived], what: str, *, as_told: bool = False) -> list[float]:
    """ms by which the session's word differs from the truth, of all cuts in which it gave one. `as_told`: from the truth as it
    is where the path came back when the session was told so."""
    found = []
    for one in lived:
        told, true = getattr(one.told, what), getattr(one.as_told if as_told else one.true, what)
        if told is not None and true is not None:
            found.append((told - true) / 1e6)
    return found


def table(measured: Measured) -> str:
    rows = [COLUMNS]
    for protocol in dict.fromkeys(sorted(one.protocol for one in measured.lived)):
        lived = [one for one in measured.lived if one.protocol == protocol]
        ended = Counter(str(one.told.outcome) for one in lived)
        outages = [one.true.outage / 1e6 for one in lived if one.true.outage is not None and one.told.outage is not None]
        back = [one.true.reconnect / 1e6 for one in lived if one.true.reconnect is not None and one.told.reconnect is not None]
        outage, reconnect = errors(lived, "outage"), errors(lived, "reconnect")
        rows.append(
            (
                protocol,
                str(len(lived)),
                ", ".join(f"{count} {what}" for what, count in ended.most_common()),
                _p(outages, 50),
                *_error(outage),
                _p(back, 50),
                _p(back, 95),
                *_error(reconnect),
                _p([one.late / 1e6 for one in lived], 50),
                _error(errors(lived, "reconnect", as_told=True))[1],
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(["ms; errors are the session's word less the truth", *lines, "", *_cuts(measured)])


def _cuts(measured: Measured) -> list[str]:
    cuts = measured.cuts
    calling = [(cut.calling[1] - cut.calling[0]) / 1e6 for cut in cuts]
    returning = [(cut.returning[1] - cut.returning[0]) / 1e6 for cut in cuts]
    silent = [(cut.first - cut.last) / 1e6 - cut.length * 1e3 for cut in cuts]
    return [
        f"{len(cuts)} cuts of {min(c.length for c in cuts):g} to {max(c.length for c in cuts):g} s; "
        f"nft took {_p(calling, 50)} ms (at most {max(calling):.0f}) to begin one, "
        f"{_p(returning, 50)} ms (at most {max(returning):.0f}) to end it",
        f"on the wire: silence longer than asked for by {_p(silent, 50)} ms (at most {max(silent):.0f}); "
        f"{sum(cut.leaked for cut in cuts)} packets passed in a cut; {measured.wire_dropped} packets not seen",
        f"{measured.missed} cuts of a viewer of which its session told nothing",
    ]


def _p(values: Sequence[float], percent: int) -> str:
    if not values:
        return "-"
    return f"{statistics.quantiles(values, n=100, method='inclusive')[percent - 1] if len(values) > 1 else values[0]:.0f}"


def _error(values: Sequence[float]) -> tuple[str, str]:
    worst = max(values, key=abs, default=None)
    return ("-", "-") if worst is None else (f"{statistics.median(values):+.1f}", f"{worst:+.1f}")
