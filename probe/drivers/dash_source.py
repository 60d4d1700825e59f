"""Where a DASH viewer's bytes come from: the manifest, initialization segments, segments whole or chunk by chunk.

Every request goes through net/, which times it, names its edge, limits it, checks the address a manifest made us go to and
sends the credential to its own origins only. Of the video we take the representation with most bits per second that the
device can decode and show and that is not encrypted; of the sound likewise. No switching between representations.

Which segments are there is a question of the wall clock, and machines' clocks are wrong: where the server's Date is further
from ours than a Date can be, its time is taken. UTCTiming is told and not fetched.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from probe.drivers.base import SessionIO, Spec
from probe.drivers.hls_source import Piece
from probe.errors import Failure, Unsupported
from probe.model.clock import NS, Clock
from probe.model.observation import UNHEARD, Rung
from probe.model.stage import Phase, Stage, StageTimer
from probe.model.text import quoted
from probe.net.client import Answer, Client
from probe.plan import Device
from probe.wire import mpd
from probe.wire.abr import playable
from probe.wire.cmcd import Cmcd, Format, Kind
from probe.wire.mpd import Manifest, Period, Representation
from probe.wire.mpd_boxes import Splitter
from probe.wire.mpd_follow import Due

INIT_LIMIT = 1 << 20
SEGMENT_LIMIT = 32 << 20
_PARSED_HERE = 16 * 1024  # longer manifests are read in a thread: the loop has packets to stamp
_MANIFEST_SECONDS = 10.0
_SEGMENT_SECONDS = 20.0
_SEGMENT_DURATIONS = 4.0
_DATE_ERROR = 2.5  # seconds: a Date says whole ones, and a manifest may lie in a cache that does not tell its age
DECODED = ("h264",)  # of what a device may, what the screen does
_HEARD = ("mp4a", "opus")


@dataclass(slots=True)
class Source:
    """One viewer's. `stages` is marked while it is there; take it away once the start is done."""

    http: Client
    clock: Clock
    spec: Spec
    facts: dict[str, str]
    stages: StageTimer | None
    cmcd: Cmcd
    skew: int = 0  # ns to add to our wall clock
    top: int | None = None
    _inits: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # kind → (address, its init segment)
    _names: dict[str, str] = field(default_factory=dict)  # representation → its rung
    _location: str = ""

    @classmethod
    def of(cls, spec: Spec, io: SessionIO, http: Client) -> Source:
        return cls(http, io.clock, spec, io.facts, io.stages, Cmcd(spec.session, Format.DASH, on=spec.cmcd))

    def wall(self) -> int:
        """Unix ns by the clock the manifest is read by."""
        return self.clock.wall().unix_ns + self.skew

    async def load(self) -> Manifest:
        """The manifest as it is now."""
        answer = await self._get(self._location or self.spec.url, Phase.PLAYLIST, Kind.MANIFEST, mpd.MAX_BYTES, _MANIFEST_SECONDS)
        self._set_clock(answer)
        if len(answer.body) <= _PARSED_HERE:
            manifest = mpd.parse(answer.body, answer.url)
        else:
            manifest = await asyncio.to_thread(mpd.parse, answer.body, answer.url)
        self._location = manifest.location or self._location
        if manifest.clocks:
            self.facts["utc_timing"] = manifest.clocks[0][0].removeprefix("urn:mpeg:dash:utc:")
        return manifest

    def choose(self, period: Period, kind: str) -> Representation | None:
        """What this device plays of `period`; None where there is nothing for it."""
        chosen = choose(period, kind, self.spec.device)
        if chosen is None:
            if kind == "audio" and (offered := period.of("audio")):
                self.facts[UNHEARD] = quoted(offered[0].codecs, 80) or "encrypted"
            return None
        self._names[chosen[1].id] = chosen[0]
        return chosen[1]

    async def fetch(self, due: Due, *, buffered: float | None) -> Piece:
        """A segment whole, and first its initialization segment where that is another than the one before."""
        init = await self._init(due.representation)
        answer = await self._get(
            mpd.address(due.representation, due.spot), Phase.SEGMENT, _kind(due.representation), SEGMENT_LIMIT,
            self._patience(due), due.representation, due.duration, buffered,
        )  # fmt: skip
        self.cmcd.fetched(len(answer.body), answer.took)
        self._keep(due.representation, init)
        return Piece(answer.body, init, answer.began + answer.took, rendition=self._names.get(due.representation.id, ""))

    async def chunks(self, due: Due, known: int = 0, *, buffered: float | None) -> AsyncGenerator[tuple[Piece, int], None]:
        """The same while it comes in: whenever chunks became whole, a piece of them, and how many they are. The first `known`
        are passed over. Close it when it is left early."""
        init = await self._init(due.representation)
        splitter, count = Splitter(), 0
        async with self.http.stream(
            "GET", mpd.address(due.representation, due.spot), purpose=Phase.SEGMENT.value, phase=Phase.SEGMENT,
            headers=self._headers(_kind(due.representation), due.representation, due.duration, buffered),
            credential=self.spec.credential, limit=SEGMENT_LIMIT, stages=self.stages, stage=Stage.SEGMENT,
            timeout=self._patience(due),
        ) as answer:  # fmt: skip
            async for data, arrived in answer.chunks():
                found = splitter.feed(data)
                new = found[max(0, known - count) :]
                count += len(found)
                if new:
                    whole = b"".join(chunk.data for chunk in new)
                    yield (
                        Piece(whole, init, arrived, rendition=self._names.get(due.representation.id, ""), wall=new[0].produced),
                        len(new),
                    )
                    self._keep(due.representation, init)
                    init = None
        if not count:
            raise Failure(Phase.SEGMENT, "empty", f"{splitter.rest} bytes and no chunk in them")

    async def _init(self, representation: Representation) -> bytes | None:
        """The initialization segment, if it is another than this kind of media's last."""
        url = mpd.address(representation, None)
        known = self._inits.get(representation.kind)
        if not url or (known is not None and known[0] == url):
            return None
        answer = await self._get(url, Phase.INIT, Kind.INIT, INIT_LIMIT, _MANIFEST_SECONDS)
        return answer.body

    def _keep(self, representation: Representation, init: bytes | None) -> None:
        if init is not None:
            self._inits[representation.kind] = (mpd.address(representation, None), init)

    def _patience(self, due: Due) -> float:
        return max(_SEGMENT_SECONDS, _SEGMENT_DURATIONS * due.duration)

    async def _get(
        self, url: str, phase: Phase, kind: Kind, limit: int, timeout: float, representation: Representation | None = None,
        duration: float | None = None, buffered: float | None = None,
    ) -> Answer:  # fmt: skip
        return await self.http.request(
            "GET", url, purpose=phase.value, phase=phase,
            headers=self._headers(kind, representation, duration, buffered), credential=self.spec.credential,
            limit=limit, stages=self.stages, stage=Stage(phase.value), timeout=timeout,
        )  # fmt: skip

    def _headers(
        self, kind: Kind, representation: Representation | None, duration: float | None, buffered: float | None
    ) -> dict[str, str]:
        headers = self.cmcd.headers(
            kind, bitrate=representation.bandwidth if representation else None,
            top=self.top if kind is not Kind.AUDIO else None, duration=duration, buffered=buffered,
            startup=self.stages is not None,
        )  # fmt: skip
        return {**headers, "User-Agent": self.spec.device.user_agent} if self.spec.device.user_agent else headers

    def _set_clock(self, answer: Answer) -> None:
        """Where our clock is off, the earliest it can be by the server's: a segment asked for too early is an error of ours."""
        try:
            said = round(parsedate_to_datetime(answer.headers.get("Date", "")).timestamp() * NS)
            said += min(int(answer.headers.get("Age", "0")), 86_400) * NS
        except (ValueError, TypeError, OverflowError):
            return
        off = said - self.clock.wall(answer.began + answer.took).unix_ns
        self.skew = off if abs(off) > _DATE_ERROR * NS else 0
        if self.skew:
            self.facts["clock_skew"] = f"{self.skew / NS:+.1f} s"


def ladder(period: Period) -> list[tuple[Rung, Representation]]:
    """The declared video, a rung each: named by its shorter side (`360p`), and its bandwidth too where that is not enough."""
    offered = period.of("video")
    sides = Counter(_side(r) for r in offered)
    names: Counter[str] = Counter()
    rungs = []
    for r in offered:
        name = _side(r)
        if sides[name] > 1 or not name:
            name = f"{name} {'' if r.bandwidth is None else f'{r.bandwidth // 1000}k'}".strip() or "unnamed"
        names[name] += 1
        rung = Rung(
            name=name if names[name] == 1 else f"{name} {names[name]}", codecs=quoted(r.codecs, 80),
            width=r.width, height=r.height, bandwidth=r.bandwidth, frame_rate=r.frame_rate,
        )  # fmt: skip
        rungs.append((rung, r))
    return rungs


def choose(period: Period, kind: str, device: Device) -> tuple[str, Representation] | None:
    """(name, what this device plays of `period`); None where there is nothing for it."""
    if kind == "audio":
        heard = [r for r in period.of("audio") if not r.protection and _heard(r)]
        best = max(heard, key=lambda r: r.bandwidth or 0, default=None)
        return None if best is None else ("", best)
    rungs = {rung.name: (rung, r) for rung, r in ladder(period) if not r.protection}
    codecs = [codec for codec in device.codecs if codec in DECODED]
    fit = playable([rung for rung, _ in rungs.values()], codecs, device.max_height)
    return (fit[-1].name, rungs[fit[-1].name][1]) if fit else None


def check(period: Period, device: Device) -> Representation:
    """The video this device plays of `period`.

    Raises Failure(playlist, no_video); Unsupported with what was offered, where none can be decoded or all is encrypted."""
    chosen = choose(period, "video", device)
    if chosen is not None:
        return chosen[1]
    offered = period.of("video")
    if not offered:
        raise Failure(Phase.PLAYLIST, "no_video", f"{len(period.representations)} representations, none with a picture")
    if all(r.protection for r in offered):
        raise Unsupported(f"the picture is encrypted: {offered[0].protection}")
    raise Unsupported(f"nothing this device decodes among: {'; '.join(describe(r) for r in offered[:8])}")


def describe(representation: Representation) -> str:
    """`640x360 avc1.42e01e 800000 bit/s`, as far as it is known."""
    size = f"{representation.width}x{representation.height}" if representation.width and representation.height else ""
    bits = "" if representation.bandwidth is None else f"{representation.bandwidth} bit/s"
    return " ".join(filter(None, (size, quoted(representation.codecs, 80), bits)))


def _side(representation: Representation) -> str:
    return f"{min(representation.width, representation.height)}p" if representation.width and representation.height else ""


def _heard(representation: Representation) -> bool:
    said = [codec.strip().lower() for codec in representation.codecs.split(",") if codec.strip()]
    return not said or any(codec.startswith(_HEARD) for codec in said)


def _kind(representation: Representation) -> Kind:
    if representation.kind == "audio":
        return Kind.AUDIO
    return Kind.MUXED if "," in representation.codecs else Kind.VIDEO
