"""The ladder of one HLS viewer: the renditions its master playlist declares, the one it plays, the sound that goes with it.

A browser decodes more than we do: of a device's codecs those count here that we decode as well. A master that offers only
others is unsupported, one that offers no picture at all has failed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from probe.drivers.base import SessionIO, Spec
from probe.drivers.hls_source import Source
from probe.errors import Failure, Unsupported
from probe.model.observation import Ladder, Rung
from probe.model.stage import Phase
from probe.model.text import quoted
from probe.net.client import Client
from probe.wire.abr import Switcher, pictured, playable
from probe.wire.cmcd import Cmcd, Format, Kind
from probe.wire.playlist_facts import Master, Media, Sound, Variant

DECODED = ("h264",)


class Renditions:
    """One viewer's. `open` reads the address; from then on `source` is the rendition to play. `media`: its playlist, where the
    address was that of a media playlist itself. `scouting`: nothing is told."""

    def __init__(self, spec: Spec, io: SessionIO, http: Client, *, scouting: bool = False) -> None:
        self.cmcd = Cmcd(spec.session, Format.HLS, on=spec.cmcd)
        self.source = Source(url=spec.url, http=http, clock=io.clock, spec=spec, cmcd=self.cmcd, stages=None)
        if not scouting:
            self.source.stages = io.stages
        self.media: Media | None = None
        self.switcher: Switcher | None = None
        self.sound: Source | None = None
        self._io, self._spec, self._scouting = io, spec, scouting
        self._variants: dict[str, Variant] = {}
        self._opened = False

    async def open(self) -> None:
        """Raises Failure, Unsupported; once it is done it does nothing."""
        if self._opened:
            return
        read = await self.source.first()
        if isinstance(read, Media) and read.skipped:
            raise Failure(Phase.PLAYLIST, "malformed", "a delta update nobody asked for")
        self._opened = True
        if isinstance(read, Media):
            self.media = read
            return
        rungs = ladder(read)
        fit = choose(read, rungs, self._spec)
        self._variants = {rung.name: variant for rung, variant in zip(rungs, read.variants, strict=True)}
        self.switcher = Switcher(fit)
        chosen = self._variants[self.switcher.current.name]
        if not self._scouting:
            self._io.emit(Ladder(rungs=tuple(rungs)))
            self._io.facts["variants"] = str(len(rungs))
            self._io.facts["variant"] = describe(chosen)
        self.source = self.of(self.switcher.current)
        sound = _sound(read, chosen)
        if sound is not None and not self._scouting:
            self.source.kind = Kind.VIDEO
            self.sound = replace(self.source, url=sound.uri, kind=Kind.AUDIO, rendition="", bandwidth=None, stages=None)
            self._io.facts["sound"] = quoted(f"of its own: {sound.name or sound.group}", 80)

    def of(self, rung: Rung) -> Source:
        """The source of a rung of the ladder."""
        assert self.switcher is not None
        return replace(
            self.source, url=self._variants[rung.name].uri, rendition=rung.name, bandwidth=rung.bandwidth,
            top=self.switcher.highest.bandwidth, _init=None, _ahead={},
        )  # fmt: skip


def ladder(master: Master) -> list[Rung]:
    """A rung per variant, in its order. Named by its shorter side (`360p`), and its bandwidth too where that is not enough
    (`360p 800k`)."""
    heights = Counter(_height(variant) for variant in master.variants)
    names: Counter[str] = Counter()
    rungs = []
    for variant in master.variants:
        name = _height(variant)
        if heights[name] > 1 or not name:
            name = f"{name} {'' if variant.bandwidth is None else f'{variant.bandwidth // 1000}k'}".strip() or "unnamed"
        names[name] += 1
        rungs.append(
            Rung(
                name=name if names[name] == 1 else f"{name} {names[name]}",
                codecs=quoted(",".join(variant.codecs), 80),
                width=variant.resolution[0] if variant.resolution else None,
                height=variant.resolution[1] if variant.resolution else None,
                bandwidth=variant.bandwidth,
                frame_rate=variant.frame_rate,
            )
        )
    return rungs


def choose(master: Master, rungs: list[Rung], spec: Spec) -> list[Rung]:
    """The rungs to play, by rising bandwidth.

    Raises Unsupported with what was offered; Failure(playlist, no_variant) where no variant has a picture."""
    codecs = [codec for codec in spec.device.codecs if codec in DECODED]
    fit = playable(rungs, codecs, spec.device.max_height)
    if fit:
        return fit
    offered = [describe(v) for v, rung in zip(master.variants, rungs, strict=True) if pictured(rung)]
    if offered:
        raise Unsupported(f"no {' or '.join(codecs) or 'picture'} among the variants: {'; '.join(offered[:8])}")
    raise Failure(Phase.PLAYLIST, "no_variant", f"{len(master.variants)} variants, none with a picture")


def describe(variant: Variant) -> str:
    """`640x360 avc1.42e01e,opus 800000 bit/s`, as far as it is known."""
    size = "x".join(map(str, variant.resolution)) if variant.resolution else ""
    bits = "" if variant.bandwidth is None else f"{variant.bandwidth} bit/s"
    return " ".join(filter(None, (size, quoted(",".join(variant.codecs), 80), bits)))


def _height(variant: Variant) -> str:
    return f"{min(variant.resolution)}p" if variant.resolution else ""


def _sound(master: Master, chosen: Variant) -> Sound | None:
    group = [sound for sound in master.sounds if sound.group == chosen.audio] if chosen.audio else []
    return next((sound for sound in group if sound.default), group[0] if group else None)
