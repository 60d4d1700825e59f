"""Which edge answered, and whether from its cache: a table of what servers and CDNs put into headers.

The first row whose headers are there names the edge; the first that says something of the cache names that. Values
become labels, so they are short, and of a closed alphabet. RFC 9211 Cache-Status and RFC 9110 Via are standards, the
rest are habits of their makers; an edge nobody names stays empty rather than guessed from an address.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Read = Callable[[str], str]

_WORDS = {
    word: meaning
    for meaning, words in {
        "hit": "hit memhit tcp_hit tcp_mem_hit refreshhit revalidated",
        "miss": "miss expired tcp_miss tcp_expired_miss tcp_refresh_miss",
        "stale": "stale updating",
        "bypass": "bypass dynamic pass none uncacheable",
    }.items()
    for word in words.split()
}
_LABEL = re.compile(r"[^A-Za-z0-9._-]+")


def _word(value: str) -> str:
    """`HIT`, `Hit from cloudfront`, `MISS, HIT` (the last, nearest to us, counts)."""
    nearest = value.rsplit(",", 1)[-1].strip().lower()
    words = nearest.split()
    return _WORDS.get(words[0].strip(";:") if words else "", "")


def _cache_status(value: str) -> str:
    """RFC 9211: the last member of the list is the cache nearest to us."""
    parameters = {p.strip().lower().partition("=")[0]: p.partition("=")[2].strip().lower() for p in _last(value).split(";")[1:]}
    if "hit" in parameters:
        return "stale" if parameters.get("ttl", "").startswith("-") else "hit"
    forward = parameters.get("fwd")
    if forward is None:
        return ""
    return "bypass" if forward == "bypass" else "miss"


def _age(value: str) -> str:
    """A response that spent time in a cache came from one (RFC 9111 §5.1). Zero says nothing."""
    return "hit" if value.strip().isdigit() and int(value) > 0 else ""


def _last(value: str) -> str:
    return value.rsplit(",", 1)[-1].strip()


def _via(value: str) -> str:
    """`1.1 edge-a (nginx)` → edge-a."""
    words = _last(value).split()
    return words[1] if len(words) > 1 else ""


def _ray(value: str) -> str:
    """`8c0f2a…-FRA` → FRA."""
    return value.rpartition("-")[2] if "-" in value else ""


def _member(value: str) -> str:
    return _last(value).split(";")[0].strip().strip('"')


EDGES: tuple[tuple[str, Read], ...] = (
    ("X-Edge", str.strip), ("CF-Ray", _ray), ("X-Amz-Cf-Pop", str.strip), ("X-Served-By", _last), ("Cache-Status", _member),
    ("Via", _via),
)  # fmt: skip
CACHES: tuple[tuple[str, Read], ...] = (
    ("Cache-Status", _cache_status), ("CF-Cache-Status", _word), ("X-Cache", _word), ("X-Cache-Status", _word), ("Age", _age),
)  # fmt: skip


def attribute(headers: Mapping[str, str]) -> tuple[str, str]:
    """(edge, cache): cache is hit, miss, stale, bypass or empty; edge at most 64 letters, digits and `._-`, or empty."""
    edge = next((e for name, read in EDGES if (e := read(headers.get(name, "")))), "")
    cache = next((c for name, read in CACHES if (c := read(headers.get(name, "")))), "")
    return _LABEL.sub("-", edge)[:64].strip("-"), cache
