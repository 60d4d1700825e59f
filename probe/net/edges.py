"""Which edge answered, and whether from its cache: a table of what servers and CDNs put into headers.

The table is data: per CDN, in order of trust, rows of (header, which member of its list, pattern, meaning). The first CDN
that a row names as the answering one tells the edge and the cache state, so that a CDN never speaks for the one behind it;
only where it is silent about its cache does the standard (RFC 9211) speak. An edge is the place (POP) where the CDN says it,
else its name: places are few, machines are many, and labels have to stay few.

The state is that of the cache nearest to us: `MISS, HIT` of a shielded Fastly is a hit, `HIT, MISS` a miss, since the viewer
waited for the shield. What was fresh when asked again counts as a hit, what was served although it was not as stale. An edge
nobody names stays empty rather than guessed from an address. Left out: CDN-RequestCountryCode (where the viewer is),
`n` of CMSD-Static (who made the object), X-Cache-Remote (a parent's state).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from multidict import MultiMapping

from probe.model.text import quoted


class Which(Enum):
    """Which member of a header's comma-separated list, all its lines joined, a row looks at."""

    FIRST = 0  # the CDN writes its own state first
    LAST = -1  # each cache on the way appends
    ANY = 1  # its members are of different kinds


FIRST, LAST, ANY = Which


class Row(NamedTuple):
    """`pattern` is searched, without regard to case, in the member; what it captures is the edge's name, or the word that
    tells the cache's state. `meaning`, where set, stands for that."""

    header: str
    which: Which
    pattern: str
    meaning: str = ""


class Cdn(NamedTuple):
    """Rows in order of trust; one of `edges` has to match for `caches` to be looked at."""

    edges: tuple[Row, ...]
    caches: tuple[Row, ...]


_ALL, _WORD = r"(.+)", r"^([\w/]+)"

# RFC 9211; `ttl` negative: it had expired when it was served.
_CACHE_STATUS = (
    Row("Cache-Status", LAST, r"^(?=.*;\s*hit\s*(?:;|$))(?=.*;\s*ttl=-)", "stale"),
    Row("Cache-Status", LAST, r";\s*hit\s*(?:;|$)", "hit"),
    Row("Cache-Status", LAST, r";\s*fwd=bypass\b", "bypass"),
    Row("Cache-Status", LAST, r";\s*fwd=", "miss"),
)
# RFC 9111 §5.1: what spent time in a cache came from one. Zero says nothing.
_AGE = Row("Age", LAST, r"^0*[1-9]\d*$", "hit")

CDNS: dict[str, Cdn] = {
    # Our own sandbox, and whoever names an edge outright.
    "named": Cdn((Row("X-Edge", LAST, _ALL),), (Row("X-Cache", LAST, _WORD),)),
    # Cloudflare docs, "Cloudflare HTTP headers" and "Cache responses".
    "cloudflare": Cdn(
        (Row("CF-Ray", LAST, r"-([A-Z]{3})$"), Row("Server", LAST, r"^cloudflare$", "cloudflare")),
        (Row("CF-Cache-Status", LAST, _WORD),),
    ),
    # CloudFront developer guide, "Adding or removing response headers" and "Server-Timing header".
    "cloudfront": Cdn(
        (
            Row("X-Amz-Cf-Pop", LAST, _ALL),
            Row("Server-Timing", ANY, r'^cdn-pop;\s*desc="?([\w-]+)'),
            Row("Via", LAST, r"\(CloudFront\)$", "cloudfront"),
        ),
        (Row("X-Cache", LAST, r"^(\w+) from cloudfront"), Row("Server-Timing", ANY, r"^cdn-cache-(hit|miss|refresh)\b")),
    ),
    # Fastly docs, "X-Served-By", "X-Cache", "X-Cache-Hits": each node appends, the last one is ours.
    "fastly": Cdn(
        (Row("X-Served-By", LAST, r"^cache-.*-([A-Z]{3})$"),),
        (
            Row("X-Cache", LAST, _WORD),
            Row("X-Cache-Hits", LAST, r"^0+$", "miss"),
            Row("X-Cache-Hits", LAST, r"^\d+$", "hit"),
        ),
    ),
    # Akamai techdocs, "Pragma headers" and "Return Cache Status": `Hit from child, Miss from parent`, the child is ours.
    "akamai": Cdn(
        (
            Row("X-Cache", FIRST, r"^TCP_\w+ from (a\d+-\d+-\d+-\d+)\b"),
            Row("Akamai-GRN", ANY, _ALL, "akamai"),
            Row("Akamai-Cache-Status", ANY, _ALL, "akamai"),
            Row("X-Akamai-Request-ID", ANY, _ALL, "akamai"),
            Row("Server-Timing", ANY, r"^ak_p\b", "akamai"),
            Row("Server", LAST, r"^Akamai", "akamai"),
        ),
        (
            Row("Akamai-Cache-Status", FIRST, r"^(\w+) from child"),
            Row("X-Cache", FIRST, _WORD),
            Row("Server-Timing", ANY, r"^cdn-cache;\s*desc=\"?(\w+)"),
        ),
    ),
    # bunny docs, "Find your PoP".
    "bunny": Cdn(
        (Row("Server", LAST, r"^BunnyCDN-([A-Z]+\d*)"), Row("CDN-PullZone", ANY, _ALL, "bunny")),
        (Row("CDN-Cache", LAST, _WORD),),
    ),
    # Alibaba Cloud CDN: `kunlun7.cn1481[0,200-0,H], kunlun7.cn1481[1,0]`, from the origin's side to ours.
    "alibaba": Cdn(
        (
            Row("Via", LAST, r"^[\w-]*(?:cache|kunlun)\d*\.([\w-]+)\["),
            Row("EagleId", ANY, _ALL, "alibaba"),
            Row("X-Swift-CacheTime", ANY, _ALL, "alibaba"),
        ),
        (Row("X-Cache", LAST, _WORD),),
    ),
    # Tencent Cloud CDN FAQ: several lines are normal, and these three mean the node itself had it.
    "tencent": Cdn(
        (Row("X-NWS-LOG-UUID", ANY, _ALL, "tencent"),),
        (
            Row("X-Cache-Lookup", ANY, r"^(?:Cache Hit|Hit From (?:MemCache|Disktank))", "hit"),
            Row("X-Cache-Lookup", ANY, r"^(?:Cache Miss|Hit From|Return Directly)", "miss"),
        ),
    ),
    # Cloud CDN docs, "Custom headers" (`{cdn_cache_id}`, `{cdn_cache_status}` under the names their examples give) and "Age".
    "google": Cdn(
        (
            Row("Cache-ID", LAST, r"^([A-Z]{3})-"),
            Row("X-Cache-ID", LAST, r"^([A-Z]{3})-"),
            Row("Via", LAST, r"^\S+ google$", "google"),
        ),
        (
            *(
                Row(name, LAST, r"^(hit|miss|revalidated|stale|uncacheable|disabled)$")
                for name in ("Cache-Status", "X-Cache-Status", "CDN-Cache-Status")
            ),
            _AGE,
        ),
    ),
    "cdn77": Cdn((Row("X-77-POP", LAST, _ALL),), (Row("X-77-Cache", LAST, _WORD), Row("X-Cache", LAST, _WORD))),
    # Standards: RFC 9211, CTA-5006 (each intermediary appends an item that is its name), RFC 9110 §7.6.3. Then habits.
    "": Cdn(
        (
            Row("Cache-Status", LAST, r'^"?([^";]+)'),
            Row("CMSD-Dynamic", LAST, r'^(?:n=)?"([^"]+)"'),
            Row("X-Served-By", LAST, _ALL),
            Row("Via", LAST, r"^\S+\s+(\S+)"),
        ),
        (
            *_CACHE_STATUS,
            Row("X-Cache", LAST, _WORD),
            Row("X-Cache-Status", LAST, _WORD),
            Row("Server-Timing", ANY, r"^(?:cdn-)?cache;\s*desc=\"?(\w+)"),
            _AGE,
        ),
    ),
}

WORDS = {
    word: meaning
    for meaning, words in {
        "hit": """hit memhit refreshhit refresh revalidated revalidate tcp_hit tcp_mem_hit tcp_refresh_hit tcp_ims_hit
            tcp_negative_hit tcp_remote_hit""",
        "miss": """miss expired originshieldhit tcp_miss tcp_expired_miss tcp_refresh_miss tcp_client_refresh_miss
            tcp_swapfail_miss""",
        "stale": "stale updating hitstale tcp_refresh_fail_hit tcp_stale_hit",
        "bypass": """bypass dynamic pass none none/unknown uncacheable notcacheable disabled private_nostore
            config_nocache""",
    }.items()
    for word in words.split()
}

_LONGEST = 8192  # characters of a header that are read; those of CDNs have some hundreds
_MEMBER = re.compile(r'(?:"[^"]*"?|\[[^\]]*\]?|[^,"\[])+')  # a comma within quotes or brackets parts nothing
_LABEL = re.compile(r"[^A-Za-z0-9._-]+")
_NAMED_BY = {name: frozenset(row.header.lower() for row in cdn.edges) for name, cdn in CDNS.items()}
_COMPILED = {row.pattern: re.compile(row.pattern, re.IGNORECASE) for cdn in CDNS.values() for row in (*cdn.edges, *cdn.caches)}


def attribute(headers: Mapping[str, str]) -> tuple[str, str]:
    """(edge, cache): cache is hit, miss, stale, bypass or empty; edge at most 64 letters, digits, `._-` and a cut's mark."""
    present = {name.lower() for name in headers}
    for name, cdn in CDNS.items():
        if name and present.isdisjoint(_NAMED_BY[name]):
            continue
        edge = next(filter(None, map(_label, _read(cdn.edges, headers))), "")
        if edge or not name:
            rows = (*cdn.caches, *_CACHE_STATUS) if name else cdn.caches
            return edge, next(filter(None, map(_state, _read(rows, headers))), "")
    return "", ""


def _read(rows: tuple[Row, ...], headers: Mapping[str, str]) -> Iterator[str]:
    """What each row that matches tells, in order."""
    for row in rows:
        for member in _members(headers, row):
            match = _COMPILED[row.pattern].search(member)
            if match is not None:
                yield row.meaning or match.group(1)
                break


def _members(headers: Mapping[str, str], row: Row) -> list[str]:
    if row.header not in headers:
        return []
    lines = headers.getall(row.header) if isinstance(headers, MultiMapping) else [headers[row.header]]
    if sum(map(len, lines)) > _LONGEST:
        return []
    members = [stripped for member in _MEMBER.findall(",".join(lines)) if (stripped := member.strip())]
    return members if row.which is ANY or not members else [members[row.which.value]]


def _label(value: str) -> str:
    return quoted(_LABEL.sub("-", value), 64).strip("-")


def _state(word: str) -> str:
    return WORDS.get(word.lower(), "")
