"""Where a redirect leads, and what may go along (RFC 9110 §15.4). Pure rules; the client does the walking.

307 and 308 keep method and body, 303 turns to GET, 301 and 302 turn a POST to GET as every browser does. The probe goes
further than the RFC in what it drops: crossing to another origin only harmless headers go along, and a JSON body, which
may hold a password, does not go at all. An SDP offer does: WHIP balances load by 307 (RFC 9725 §4.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from yarl import URL

from probe.errors import Failure
from probe.model.stage import Phase
from probe.net.credential import Credential, origin_of

STATUSES = frozenset({301, 302, 303, 307, 308})
MOST = 5
_LONGEST_URL = 8192
_HARMLESS = frozenset({
    "accept", "accept-language", "cache-control", "if-match", "if-modified-since", "if-none-match", "pragma", "range",
    "cmcd-request", "cmcd-object", "cmcd-session", "cmcd-status",  # for whichever CDN answers in the end
})  # fmt: skip
_ODD = frozenset(' "<>\\^`{|}')


def parse(text: str | URL, phase: Phase, base: URL | None = None) -> URL:
    """An absolute http(s) or ws(s) URL, escapes left as they are (signed URLs break when requoted), without fragment and
    userinfo, which is never sent. Raises Failure(phase, malformed)."""
    raw = str(text)
    try:
        if len(raw) > _LONGEST_URL:
            raise ValueError("too long")
        plain = raw.isascii() and raw.isprintable() and not _ODD.intersection(raw)
        url = URL(raw, encoded=plain)
        if base is not None:
            url = base.join(url)
        origin_of(url)
        if url.port is None or not 0 < url.port < 65536:
            raise ValueError("no such port")
        return url.with_user(None).with_fragment(None)
    except ValueError as error:
        raise Failure(phase, "malformed", "what should be an http URL is none") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One exchange to be had."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None = None
    content_type: str | None = None
    credential: Credential | None = None

    @property
    def token(self) -> str | None:
        return self.credential.token_for(self.url) if self.credential else None


def follow(hop: Hop, status: int, location: str, phase: Phase) -> Hop:
    """The hop that `location` asks for. Raises Failure(phase, …): malformed, redirect_refused."""
    url = parse(location, phase, hop.url)
    if url.scheme not in ("http", "https") or (hop.url.scheme == "https" and url.scheme != "https"):
        raise Failure(phase, "redirect_refused", f"from {hop.url.scheme} to {url.scheme}")
    following = replace(hop, url=url)
    if (status == 303 and hop.method != "HEAD") or (status in (301, 302) and hop.method == "POST"):
        following = replace(following, method="GET", body=None, content_type=None)
    if origin_of(url) == origin_of(hop.url):
        return following
    credential = hop.credential if hop.credential and hop.credential.token_for(url) else None
    if following.body is not None and following.content_type == "application/json" and credential is None:
        raise Failure(phase, "redirect_refused", "a body that may hold secrets does not follow to another origin")
    headers = {name: value for name, value in hop.headers.items() if name.lower() in _HARMLESS}
    return replace(following, headers=headers, credential=credential)
