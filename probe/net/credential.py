"""Secrets by origin (RFC 6454): a bearer token travels only to the origins it was given for.

Nobody here decides at the moment of sending: whoever makes a Credential says where it may go, and every other origin,
a redirect's or a playlist's, sees a request without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from yarl import URL

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "rtmp": 1935, "rtmps": 443, "srt": None, "turn": 3478, "turns": 5349}
_WEB = {"ws": "http", "wss": "https"}


def origin_of(url: str | URL) -> str:
    """`scheme://host:port` in lower case, a default port left out; ws counts as http, wss as https. A TURN URI (RFC 7065) has an
    origin too, written `turn://host`.

    Raises ValueError for what is not an absolute URL of one of these schemes."""
    parsed = URL(url)
    host = (parsed.raw_host or "").lower().rstrip(".")
    if parsed.scheme not in _PORTS or not host:
        raise ValueError("not an absolute http, https, ws, wss, rtmp, rtmps, srt, turn or turns URL")
    scheme = _WEB.get(parsed.scheme, parsed.scheme)
    name = f"[{host}]" if ":" in host else host
    port = parsed.port
    return f"{scheme}://{name}" if port in (None, _PORTS[scheme]) else f"{scheme}://{name}:{port}"


@dataclass(frozen=True, slots=True)
class Credential:
    """A bearer token (RFC 6750) and the origins, as `origin_of` writes them, that may see it."""

    token: str = field(repr=False)
    origins: frozenset[str]

    def token_for(self, url: str | URL) -> str | None:
        """The token if `url` is of one of its origins."""
        return self.token if self.token and origin_of(url) in self.origins else None
