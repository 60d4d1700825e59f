"""Common Media Client Data (CTA-5004, version 1): what a player tells the edge about itself with each request.

Written as request headers and never as a query argument: a query changes cache keys, and a measurement that brings about
its own misses measures itself. Each key goes to the header the specification gives it, sorted, in structured-field syntax
(RFC 8941 dictionaries): integers bare, tokens bare, strings quoted, true as the bare key and false as nothing at all.
Rounding is the specification's: bl, dl and mtp to the nearest hundred. A key is sent when its value is known, else left out.

Left out on purpose: `cid` (what we could put there comes out of a URL, and URLs carry secrets), `nor` and `nrr` (we do not
want an edge to fetch ahead for us), `pr` (always 1, which the specification says to leave out), `v` (1, likewise), `rtp`
(we cap nothing).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import StrEnum

_LONGEST_SID = 64
_REMEMBERED = 5  # answers the measured throughput is taken over
_SMALLEST = 16 * 1024  # bytes; what is smaller measures the way to the edge, not what it carries
_LARGEST = 10**15 - 1  # RFC 8941 §3.3.1
_NAMES = {
    **dict.fromkeys(("br", "d", "ot", "tb"), "CMCD-Object"),
    **dict.fromkeys(("bl", "dl", "mtp", "su"), "CMCD-Request"),
    **dict.fromkeys(("sf", "sid", "st"), "CMCD-Session"),
    "bs": "CMCD-Status",
}


class Format(StrEnum):
    """`sf`, the streaming format."""

    DASH = "d"
    HLS = "h"


class Kind(StrEnum):
    """`ot`, what is asked for."""

    MANIFEST = "m"
    INIT = "i"
    VIDEO = "v"
    AUDIO = "a"
    MUXED = "av"


_MEDIA = frozenset({Kind.VIDEO, Kind.AUDIO, Kind.MUXED})


class Cmcd:
    """One player's, of something live. `session` is our own id of it; `on` False: `headers` gives none."""

    def __init__(self, session: str, form: Format, *, on: bool = True) -> None:
        self._on = on
        self._session: dict[str, int | bool | str] = {"sf": form.value, "st": "l"}
        sid = "".join(c for c in session if " " <= c <= "~")[:_LONGEST_SID]
        if sid:
            self._session["sid"] = '"' + sid.replace("\\", "\\\\").replace('"', '\\"') + '"'
        self._fetched: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)
        self._starved = False

    def fetched(self, size: int, took: int) -> None:
        """An answer of `size` bytes came in `took` ns. Not for one the server wrote as the media came to be: that is the
        stream's own pace and no throughput."""
        if size >= _SMALLEST and took > 0:
            self._fetched.append((size, took))

    def starved(self) -> None:
        """The buffer ran dry; told once, with the next request for media."""
        self._starved = True

    def headers(
        self,
        kind: Kind,
        *,
        bitrate: float | None = None,
        top: float | None = None,
        duration: float | None = None,
        buffered: float | None = None,
        startup: bool = False,
    ) -> dict[str, str]:
        """The headers of one request. `bitrate` of what is asked for and `top` of the highest rendition this player may
        choose in bit/s, as declared; `duration` of it and `buffered` (media not shown yet) in seconds. `startup`: nothing is
        shown until it is there. Every None, and what makes no sense, is left out."""
        if not self._on:
            return {}
        values: dict[str, int | bool | str | None] = {**self._session, "ot": kind.value, "su": startup}
        if kind in _MEDIA:
            buffered_ms = _rounded(buffered, 1000, 100)
            values |= {
                "br": _rounded(bitrate, 1e-3),
                "tb": _rounded(top, 1e-3),
                "d": _rounded(duration, 1000),
                "bl": buffered_ms,
                "dl": None if startup else buffered_ms,  # at a rate of 1 the deadline is what is left of the buffer
                "bs": self._starved,
            }
            self._starved = False
        values["mtp"] = _rounded(self._throughput(), 1e-3, 100)
        return _write({key: value for key, value in values.items() if value is not None and value is not False})

    def _throughput(self) -> float | None:
        """Bit/s over the last answers; None before the first."""
        took = sum(took for _, took in self._fetched)
        return sum(size for size, _ in self._fetched) * 8e9 / took if took else None


def _rounded(value: float | None, scale: float, to: int = 1) -> int | None:
    """`value` × `scale` to the nearest multiple of `to`, halves up."""
    if value is None or not 0 <= value * scale <= _LARGEST:
        return None
    return int(value * scale / to + 0.5) * to


def _write(values: Mapping[str, int | bool | str]) -> dict[str, str]:
    headers: dict[str, list[str]] = {}
    for key in sorted(values):
        value = values[key]
        headers.setdefault(_NAMES[key], []).append(key if value is True else f"{key}={value}")
    return {name: ",".join(pairs) for name, pairs in headers.items()}
