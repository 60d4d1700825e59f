"""Which rendition to play: what a device can take, and what the path carries.

Of the declared rungs those are playable whose codec the device and we both decode and whose shorter side is within the
device's; play begins with the highest bandwidth among them, for that is what a viewer on a good path comes to see and what
has to be judged. Switching is a plain throughput rule, the idea of hls.js's EWMA controller:

- Throughput is the lower of two exponentially weighted means of (bytes ÷ time from first to last byte), half-lives 3 s and
  9 s of fetching. A piece that came in one breath counts as 50 ms: it says that the path is not slow, not how fast it is.
- Down when the buffer drains (a piece took longer to come than to play, or less than half of the fullest buffer is left)
  and throughput × 0.8 is less than the rung's bandwidth: to the highest rung below 0.8 × throughput, else to the lowest.
- Up when for 8 s nothing was switched, the buffer is not draining, and throughput × 0.7 carries a higher rung: one rung.
  A step up that is taken back within 20 s doubles the wait, up to two minutes.
- A fetch is abandoned when half the piece's duration has passed, and what is missing will come later than the buffer lasts.

Not attempted: bandwidth as really delivered, dropped frames, a cap by the size of a window. Pure; seconds, bytes, bit/s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probe.model.observation import Rung

_FAST, _SLOW = 3.0, 9.0
_SHORTEST = 0.05
_DOWN, _UP = 0.8, 0.7
_STABLE, _STABLE_MAX = 8.0, 120.0
_REGRET = 20.0
_DRAINED = 0.5
_CODECS = {
    "h264": ("avc1", "avc3"),
    "hevc": ("hvc1", "hev1", "dvh1", "dvhe"),
    "vp8": ("vp08", "vp8"),
    "vp9": ("vp09", "vp9"),
    "av1": ("av01",),
}
_PICTURES = (*(prefix for prefixes in _CODECS.values() for prefix in prefixes), "dva1", "dvav", "vvc1", "vvi1", "mp4v")


def pictured(rung: Rung) -> bool:
    """It has a picture, or does not say."""
    codecs = _listed(rung)
    return not codecs or any(c.startswith(_PICTURES) for c in codecs)


def playable(rungs: Sequence[Rung], codecs: Sequence[str], max_height: int | None) -> list[Rung]:
    """Those a device can play, by rising bandwidth. Where all are too high, the lowest: a player shows it shrunk."""
    prefixes = tuple(prefix for codec in codecs for prefix in _CODECS.get(codec, ()))
    fit = [r for r in rungs if pictured(r) and (not _listed(r) or (prefixes and any(c.startswith(prefixes) for c in _listed(r))))]
    fit.sort(key=lambda r: (r.bandwidth or 0, _side(r)))
    if max_height is None or not fit:
        return fit
    within = [r for r in fit if _side(r) <= max_height]
    return within or [min(fit, key=lambda r: (_side(r), r.bandwidth or 0))]


class Throughput:
    """What the path carries, in bit/s; None before the first piece."""

    def __init__(self) -> None:
        self._means = {_FAST: (0.0, 0.0), _SLOW: (0.0, 0.0)}  # half-life → (weighted mean, weight)

    def add(self, size: int, took: float) -> None:
        """`size` bytes came within `took` seconds, from the first to the last."""
        took = max(took, _SHORTEST)
        for half, (mean, weight) in self._means.items():
            keep = 0.5 ** (took / half)
            self._means[half] = keep * mean + (1 - keep) * size * 8 / took, keep * weight + (1 - keep)

    @property
    def estimate(self) -> float | None:
        if not self._means[_FAST][1]:
            return None
        return min(mean / weight for mean, weight in self._means.values())


@dataclass(frozen=True, slots=True)
class Fetched:
    """One piece: bytes, seconds from first to last byte, seconds of media in it."""

    size: int
    took: float
    duration: float


class Switcher:
    """One player's. `rungs` by rising bandwidth, as `playable` gives them; play begins at the last."""

    def __init__(self, rungs: Sequence[Rung]) -> None:
        self._rungs = list(rungs)
        self._at = len(rungs) - 1
        self._path = Throughput()
        self._fullest = 0.0
        self._since = 0.0
        self._raised: float | None = None
        self._patience = _STABLE

    @property
    def current(self) -> Rung:
        return self._rungs[self._at]

    @property
    def highest(self) -> Rung:
        return self._rungs[-1]

    @property
    def throughput(self) -> float | None:
        return self._path.estimate

    def fetched(self, piece: Fetched, buffered: float, now: float) -> Rung | None:
        """A piece came in, `buffered` seconds are there to be shown. The rung to go to; None: stay."""
        self._path.add(piece.size, piece.took)
        self._fullest = max(self._fullest, buffered)
        draining = piece.took > piece.duration or buffered < _DRAINED * self._fullest
        estimate = self._path.estimate or 0.0
        if draining and self._bandwidth(self._at) > _DOWN * estimate:
            return self._down(estimate, now)
        rested = not draining and now - self._since >= self._patience
        if rested and self._at + 1 < len(self._rungs) and self._bandwidth(self._at + 1) <= _UP * estimate:
            self._raised = now
            return self._to(self._at + 1, now)
        return None

    def hopeless(self, size: int, whole: int | None, passed: float, duration: float, buffered: float) -> bool:
        """Whether to abandon a fetch of which `size` of `whole` bytes came in `passed` seconds. None: not known, then taken
        from the rung's bandwidth."""
        if self._at == 0 or passed < duration / 2:
            return False
        missing = (whole if whole is not None else self._bandwidth(self._at) * duration / 8) - size
        rest = missing * passed / size if size else float("inf")
        return rest > max(buffered, duration / 2)

    def abandoned(self, size: int, passed: float, now: float) -> Rung | None:
        """The fetch under way was abandoned. The rung to go to; None where there is none below."""
        self._path.add(size, passed)
        return self._down(self._path.estimate or 0.0, now)

    def stay(self, rung: Rung) -> None:
        """The rung asked for cannot be had now: play goes on with `rung`."""
        self._at = self._rungs.index(rung)

    def _down(self, estimate: float, now: float) -> Rung | None:
        if self._at == 0:
            return None
        if self._raised is not None and now - self._raised < _REGRET:
            self._patience = min(_STABLE_MAX, 2 * self._patience)
        self._raised = None
        carried = [n for n in range(self._at) if self._bandwidth(n) <= _DOWN * estimate]
        return self._to(carried[-1] if carried else 0, now)

    def _to(self, at: int, now: float) -> Rung:
        self._at, self._since, self._fullest = at, now, 0.0
        return self.current

    def _bandwidth(self, at: int) -> int:
        return self._rungs[at].bandwidth or 0


def _listed(rung: Rung) -> list[str]:
    return [c.strip() for c in rung.codecs.split(",") if c.strip()]


def _side(rung: Rung) -> int:
    return min(rung.width, rung.height) if rung.width and rung.height else rung.height or 0
