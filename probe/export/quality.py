"""Quality of what a segmented player was offered and got: the ladder declared against what came, and how its manifest behaved."""

from __future__ import annotations

from probe.export import figures
from probe.export.figures import Spread
from probe.export.verdict_model import DeliveryDoc, RungDoc, SpreadDoc
from probe.model.observation import UNHEARD, Rung, Window
from probe.model.verdict import SessionResult

_LEAST = 1  # seconds of a rendition before its frame rate is told


def spread_doc(seen: Spread | None) -> SpreadDoc | None:
    return None if seen is None else SpreadDoc(n=seen.n, p50=seen.p50, p95=seen.p95, max=seen.max)


def ladder(session: SessionResult) -> list[RungDoc]:
    """Every rendition declared or delivered."""
    came: dict[str, list[Window]] = {}
    rated: dict[str, list[Window]] = {}
    before = ""
    for window in figures.counted_windows(session):
        if window.rendition and window.decoded:
            came.setdefault(window.rendition, []).append(window)
            # The first second of each stay at a rendition has a picture more than it has time between pictures, or another's.
            if window.rendition == before and window.media_seconds > 0:
                rated.setdefault(window.rendition, []).append(window)
            before = window.rendition
    declared = {rung.name: rung for rung in session.ladder}
    names = dict.fromkeys([*declared, *came])
    return [_rung(name, declared.get(name), came.get(name, []), rated.get(name, [])) for name in names]


def _rung(name: str, declared: Rung | None, windows: list[Window], media: list[Window]) -> RungDoc:
    seconds = sum(w.media_seconds for w in media)
    bits = figures.spread(8 * w.bytes / w.media_seconds for w in media)
    last = windows[-1] if windows else None
    return RungDoc(
        rendition=name,
        codecs=declared.codecs or None if declared else None,
        width=declared.width if declared else None,
        height=declared.height if declared else None,
        bandwidth=declared.bandwidth if declared else None,
        frame_rate=declared.frame_rate if declared else None,
        delivered_width=last.width or None if last else None,
        delivered_height=last.height or None if last else None,
        delivered_frame_rate=round(sum(w.decoded for w in media) / seconds, 2) if seconds >= _LEAST else None,
        delivered_bitrate=spread_doc(bits),
    )


def delivery(session: SessionResult) -> DeliveryDoc | None:
    """The manifest's behaviour over the stay; None for what has none."""
    seen = figures.seen_deliveries(session)
    if not seen:
        return None
    return DeliveryDoc(
        reloads=sum(d.reloads for d in seen),
        discontinuities=sum(d.discontinuities for d in seen),
        backwards=sum(d.backwards for d in seen),
        unmoved_seconds_max=max(d.unmoved for d in seen),
        part_gap_seconds_max=max((d.part_gap for d in seen if d.part_gap is not None), default=None),
        live_latency_seconds=spread_doc(figures.spread(d.live_latency for d in seen if d.live_latency is not None)),
        buffered_seconds=spread_doc(figures.spread(d.buffered for d in seen if d.buffered is not None)),
        switches=len(session.switches),
    )


def sounds(session: SessionResult) -> int | None:
    """Sound marks heard; None where none were sent, or none could be heard by us."""
    heard = sum(w.sounds for w in figures.counted_windows(session))
    return heard if session.sound and (heard or UNHEARD not in session.facts) else None
