"""The sound mark: a 50 ms chirp, 600 to 3400 Hz, its onset at each whole second of Unix time on the stamp clock.

Heard by a matched filter at 8 kHz: the correlation's peak is a few samples wide whatever the phase, and its place is
found between samples, so the onset is known well under a millisecond after Opus or AAC. A pure tone was tried and
locks to the wrong cycle under loss. The mark does not say which second it is: the pictures' stamps do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]  # mono, -1..1

SECONDS = 0.050
LOW_HZ, HIGH_HZ = 600.0, 3400.0
RATE = 8000  # what ChirpFinder listens at
SCORE = 0.6  # correlation, 0..1, from which a peak is a chirp; noise stays under 0.35

_RAMP = 0.002
_BLOCK = 2048
_TEMPLATE = round(SECONDS * RATE)
_STEP = _BLOCK - 2 * _TEMPLATE
_EDGE = 8  # a peak this near a block's beginning was the block before's to judge: its foot is not the peak
_APART = RATE // 2  # chirps come once a second; two in half of one are an echo


def chirp(rate: int, early: float = 0.0) -> Samples:
    """The mark at `rate` Hz, peak 1. `early` (seconds, under one sample) is how far before sample 0 its onset lies."""
    t = np.arange(round(SECONDS * rate)) / rate + early
    phase = 2 * np.pi * (LOW_HZ * t + (HIGH_HZ - LOW_HZ) * t * t / (2 * SECONDS))
    ramp = np.minimum(t, SECONDS - t).clip(0, _RAMP) / _RAMP
    return (np.sin(phase) * (0.5 - 0.5 * np.cos(np.pi * ramp))).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Mark:
    """A chirp heard: its onset in samples at RATE since the first one pushed, and how alike it was (0..1)."""

    onset: float
    score: float


class ChirpFinder:
    """Takes mono sound at RATE in any pieces; tells each chirp once, at most a quarter of a second after its end."""

    def __init__(self) -> None:
        template = chirp(RATE)
        # Half a spectrum, so that what comes back is analytic: the envelope does not mind the phase.
        self._filter = (2 * np.conj(np.fft.rfft(template, _BLOCK))).astype(np.complex64)
        self._filter[[0, -1]] /= 2
        self._spectrum = np.zeros(_BLOCK, np.complex64)
        self._norm = float(np.sqrt((template**2).sum()))
        self._held = np.zeros(0, np.float32)
        self._start = 0  # position of held[0]
        self._last = -float(_APART)

    def push(self, samples: Samples) -> list[Mark]:
        """Marks found now, oldest first."""
        self._held = np.concatenate((self._held, samples))
        marks = []
        while len(self._held) >= _BLOCK:
            mark = self._look(self._held[:_BLOCK])
            if mark is not None:
                marks.append(mark)
            self._held = self._held[_STEP:]
            self._start += _STEP
        return marks

    def _look(self, block: Samples) -> Mark | None:
        np.multiply(np.fft.rfft(block), self._filter, out=self._spectrum[: _BLOCK // 2 + 1])
        match = np.fft.ifft(self._spectrum)[: _BLOCK - _TEMPLATE]
        found = match.real**2 + match.imag**2
        peak = int(found.argmax())
        if not _EDGE <= peak < _STEP + _EDGE:
            return None
        heard = block[peak : peak + _TEMPLATE].astype(np.float64)
        score = math.sqrt(found[peak]) / (self._norm * max(math.sqrt(heard @ heard), 1e-3))
        if score < SCORE:
            return None
        before, here, after = np.sqrt(found[peak - 1 : peak + 2].astype(np.float64)).tolist()
        bend = before - 2 * here + after
        onset = self._start + peak + (0.5 * (before - after) / bend if bend else 0.0)
        if onset - self._last < _APART:
            return None
        self._last = onset
        return Mark(onset, min(score, 1.0))
