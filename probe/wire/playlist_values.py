"""The values in a playlist's tags, each checked before anyone believes it: URIs, byte ranges, sizes, numbers, dates.

A value that makes no sense where the playlist cannot do without it is Failure(playlist, malformed); a URI that leads off the
web is Failure(playlist, address_refused). Sources: RFC 8216 §4.2 (attribute lists) and §4.3.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

from probe.errors import Failure
from probe.model.stage import Phase
from probe.model.text import quoted

LONGEST = 3600.0  # seconds, of a segment or a target duration
SEQUENCES = 1 << 63
_URI = 16 * 1024  # characters
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ATTRIBUTE = re.compile(r'(?<![A-Z0-9-])([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s]*)')


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRange:
    """`[offset, offset + length)` of the resource."""

    offset: int
    length: int

    @property
    def header(self) -> str:
        """Value of a Range request header (RFC 9110 §14.2)."""
        return f"bytes={self.offset}-{self.offset + self.length - 1}"


def malformed(detail: str) -> Failure:
    return Failure(Phase.PLAYLIST, "malformed", detail)


def attributes(line: str) -> dict[str, str]:
    """The attribute list after a tag's colon, quotes taken off; what is no attribute is left out."""
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(line.partition(":")[2])}


@lru_cache(maxsize=1024)  # a playlist is read again and again, most of it as before
def absolute(base: str, uri: str) -> str:
    try:
        joined = urljoin(base, uri)
        parts = urlsplit(joined)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise malformed("a URI that is none") from error
    if parts.scheme not in ("http", "https"):
        raise Failure(Phase.PLAYLIST, "address_refused", f"a URI of scheme {quoted(parts.scheme, 16)!r}")
    if not host or parts.username is not None or parts.password is not None:
        raise Failure(Phase.PLAYLIST, "address_refused", "a URI without a host, or with a user")
    if not joined.isprintable():
        raise malformed("control characters in a URI")
    if len(joined) > _URI:
        raise malformed(f"a URI of {len(joined)} characters")
    return joined


def byterange(text: str | None, implied: int | None) -> ByteRange | None:
    """`<length>[@<offset>]`; without offset it goes on where the last one of the same resource ended."""
    if text is None:
        return None
    length_text, at, offset_text = text.partition("@")
    try:
        length = int(length_text)
        offset = int(offset_text) if at else implied
    except ValueError as error:
        raise malformed("a byte range that is none") from error
    if offset is None or offset < 0 or length <= 0 or offset + length >= SEQUENCES:
        raise malformed("a byte range that is none")
    return ByteRange(offset=offset, length=length)


def resolution(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    try:
        size = int(width), int(height)
    except ValueError as error:
        raise malformed("a RESOLUTION that is none") from error
    if not all(0 < side <= 65_536 for side in size):
        raise malformed("a RESOLUTION out of range")
    return size


def seconds(value: float | None, what: str) -> float:
    if value is None:
        raise malformed(f"a segment without {what}")
    if not math.isfinite(value) or not 0 <= value <= LONGEST:
        raise malformed(f"{what} out of range")
    return float(value)


def optional(value: float | None) -> float | None:
    """A number that may be absent; one that makes no sense is as good as absent."""
    return value if value is not None and math.isfinite(value) and abs(value) <= 1e9 else None


def unix_ns(moment: datetime | None) -> int | None:
    """Unix ns; None without a time zone: such a time is nobody's."""
    if moment is None or moment.tzinfo is None:
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def whole(text: str | int | None) -> int | None:
    """A count or a sequence number that may be absent; one out of range is as good as absent."""
    try:
        number = int(text) if text is not None else -1
    except ValueError:
        return None
    return number if 0 <= number < SEQUENCES else None
