"""The matrix as people read it: broadcasts down, protocols across, in each cell the sign, the first frame and the latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probe.export import quality
from probe.export.words import in_seconds
from probe.model.verdict import MatrixCell, SessionResult, Verdict

_ORDER = ("whep", "rtmp", "srt", "http-flv", "ws-flv", "http-ts", "ll-hls", "hls", "dash")
SIGNS = {Verdict.PASS: "✓", Verdict.WARN: "!", Verdict.FAIL: "✕", Verdict.INCONCLUSIVE: "?"}


@dataclass(frozen=True, slots=True)
class Box:
    """One cell. `said` is what is wrong with it; `first`, `latency` empty where nothing was measured."""

    state: str
    sign: str
    first: str
    latency: str
    said: str


@dataclass(frozen=True, slots=True)
class Grid:
    """`rows`: (broadcast, its protocol where that is not its name, a Box or None for each column)."""

    columns: list[str]
    rows: list[tuple[str, str, list[Box | None]]]


def grid(cells: Sequence[MatrixCell]) -> Grid | None:
    """None where there is nothing to compare: one broadcast, over one protocol or two."""
    columns = list(dict.fromkeys(_column(cell) for cell in sorted(cells, key=_delay)))
    if len({cell.of for cell in cells}) < 2 and len(columns) < 3:
        return None
    rows = []
    for of, ingest in dict.fromkeys((cell.of, cell.ingest) for cell in cells):
        mine = {_column(cell): cell for cell in cells if (cell.of, cell.ingest) == (of, ingest)}
        boxes = [_box(mine[name]) if name in mine else None for name in columns]
        rows.append((of or "not ours" if not ingest else of or ingest, ingest, boxes))
    return Grid(columns, rows)


def _delay(cell: MatrixCell) -> int:
    """Protocols in the order of how far behind live they are as a rule."""
    return _ORDER.index(cell.protocol) if cell.protocol in _ORDER else len(_ORDER)


def _column(cell: MatrixCell) -> str:
    return cell.protocol if cell.device == "default" else f"{cell.protocol} on {cell.device}"


def _box(cell: MatrixCell) -> Box:
    said = cell.reason
    if cell.viewers > 1 and cell.started < cell.viewers:
        said = f"{cell.started} of {cell.viewers}" + (f": {said}" if said else "")
    return Box(
        cell.result.value,
        SIGNS[cell.result],
        "" if cell.first_frame is None else in_seconds(cell.first_frame),
        "" if cell.latency is None else in_seconds(cell.latency),
        said,
    )


def grid_text(cells: Sequence[MatrixCell]) -> list[str]:
    """The same in lines of plain text, columns aligned."""
    made = grid(cells)
    if made is None:
        return []
    table = [["", *made.columns]]
    for name, ingest, boxes in made.rows:
        table.append([name if name == ingest or not ingest else f"{name} ({ingest})", *(_words(box) for box in boxes)])
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _words(box: Box | None) -> str:
    if box is None:
        return ""
    figures = "/".join(filter(None, (box.first, box.latency)))
    return " ".join(filter(None, (box.sign, box.said or figures)))


def ladder_lines(session: SessionResult) -> list[tuple[str, ...]]:
    """A viewer's renditions: name, declared size, codecs, rate and frame rate, and what was delivered of each."""
    lines: list[tuple[str, ...]] = []
    for rung in quality.ladder(session):
        got = rung.delivered_bitrate
        lines.append(
            (
                rung.rendition,
                _size(rung.width, rung.height),
                rung.codecs or "–",
                "–" if rung.bandwidth is None else f"{rung.bandwidth / 1000:.0f} kbit/s",
                "–" if rung.frame_rate is None else f"{rung.frame_rate:g}",
                _size(rung.delivered_width, rung.delivered_height),
                "–" if got is None else f"{got.p50 / 1000:.0f} kbit/s",
                "–" if rung.delivered_frame_rate is None else f"{rung.delivered_frame_rate:g}",
            )
        )
    return lines


def _size(width: int | None, height: int | None) -> str:
    return f"{width}×{height}" if width and height else "–"
