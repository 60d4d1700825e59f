"""Delta updates: a playlist that leaves out what its reader knows, put together again (RFC 8216bis §6.2.5.1, EXT-X-SKIP).

The skipped segments are taken from the list known before. Tags that count for all segments after them may stand in the part
that was skipped: an EXT-X-MAP goes on holding. Where the known list has not all that is skipped the delta means nothing, and
the reader has to ask for the whole.
"""

from __future__ import annotations

from dataclasses import replace

from probe.wire.playlist_facts import Init, Media, Segment


def merged(known: Media | None, delta: Media) -> Media | None:
    """The whole playlist; None where `known` lacks a segment that `delta` skips. One that skips nothing comes out as it is."""
    if not delta.skipped:
        return delta
    wanted = range(delta.media_sequence, delta.media_sequence + delta.skipped)
    had = {segment.sequence: segment for segment in (known.segments if known else ()) if segment.sequence in wanted}
    if len(had) != delta.skipped:
        return None
    kept = tuple(had[sequence] for sequence in wanted)
    before = kept[-1].init
    new = tuple(_inheriting(segment, before) for segment in delta.segments)
    opening = _inheriting(delta.opening, before) if delta.opening else None
    return replace(delta, skipped=0, segments=(*kept, *new), opening=opening)


def may_skip(known: Media | None, age: float) -> bool:
    """Whether to ask for a delta: the server makes them, and what we know is `age` seconds old, less than half of what it
    leaves out."""
    return known is not None and known.skip_until is not None and age < known.skip_until / 2


def _inheriting(segment: Segment, init: Init | None) -> Segment:
    return segment if segment.init is not None else replace(segment, init=init)
