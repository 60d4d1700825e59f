"""Who answered, and from where: headers as CDNs document and send them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from probe.net.edges import CDNS, WORDS, attribute

_OURS = [
    ({}, ("", "")),
    ({"X-Edge": "edge-a", "X-Cache": "HIT"}, ("edge-a", "hit")),
    ({"x-edge": "edge-b", "x-cache": "MISS"}, ("edge-b", "miss")),
]
_CLOUDFLARE = [
    ({"Server": "cloudflare", "CF-Ray": "8c0f2a1b3d4e5f60-FRA", "CF-Cache-Status": "HIT", "Age": "3"}, ("FRA", "hit")),
    ({"CF-Ray": "8c0f2a1b3d-FRA", "CF-Cache-Status": "DYNAMIC"}, ("FRA", "bypass")),
    ({"CF-Ray": "8c0f2a1b3d-FRA", "CF-Cache-Status": "EXPIRED", "Age": "3"}, ("FRA", "miss")),
    ({"CF-Ray": "8c0f2a1b3d-SIN", "CF-Cache-Status": "REVALIDATED"}, ("SIN", "hit")),
    ({"CF-Ray": "8c0f2a1b3d-SIN", "CF-Cache-Status": "UPDATING"}, ("SIN", "stale")),
    ({"CF-Ray": "8c0f2a1b3d-SIN", "CF-Cache-Status": "NONE/UNKNOWN"}, ("SIN", "bypass")),
    ({"Server": "cloudflare", "CF-Cache-Status": "MISS"}, ("cloudflare", "miss")),
    ({"CF-Ray": "8c0f2a1b3d-LHR", "CF-Cache-Status": "BYPASS", "X-Amz-Cf-Pop": "LHR61-P3", "X-Cache": "Hit from cloudfront"},
     ("LHR", "bypass")),
]  # fmt: skip
_CLOUDFRONT = [
    ({"X-Amz-Cf-Pop": "FRA56-P2", "X-Cache": "Hit from cloudfront", "Via": "1.1 abc.cloudfront.net (CloudFront)"},
     ("FRA56-P2", "hit")),
    ({"X-Amz-Cf-Pop": "FRA56-P2", "X-Cache": "RefreshHit from cloudfront"}, ("FRA56-P2", "hit")),
    ({"X-Amz-Cf-Pop": "FRA56-P2", "X-Cache": "OriginShieldHit from cloudfront"}, ("FRA56-P2", "miss")),
    ({"X-Amz-Cf-Pop": "FRA56-P2", "X-Cache": "Error from cloudfront"}, ("FRA56-P2", "")),
    ({"Server-Timing": 'cdn-upstream-layer;desc="EDGE",cdn-upstream-dns;dur=0,cdn-cache-miss,cdn-pop;desc="PHX50-C2"'},
     ("PHX50-C2", "miss")),
    ({"Server-Timing": 'cdn-cache-hit,cdn-pop;desc="SEA19-C1",cdn-rid;desc="jQ",cdn-hit-layer;desc="REC"'}, ("SEA19-C1", "hit")),
    ({"Via": "1.1 0f.cloudfront.net (CloudFront)", "X-Cache": "Miss from cloudfront"}, ("cloudfront", "miss")),
]  # fmt: skip
_FASTLY = [
    ({"X-Served-By": "cache-lga21931-LGA, cache-fra19133-FRA", "X-Cache": "MISS, HIT", "X-Cache-Hits": "0, 1"}, ("FRA", "hit")),
    ({"X-Served-By": "cache-lga21931-LGA, cache-fra19133-FRA", "X-Cache": "HIT, MISS", "Age": "9"}, ("FRA", "miss")),
    ({"X-Served-By": "cache-fra-eddf8230024-FRA", "X-Cache": "MISS", "Via": "1.1 varnish"}, ("FRA", "miss")),
    ({"X-Served-By": "cache-sin-wsss1830061-SIN", "X-Cache-Hits": "0, 16"}, ("SIN", "hit")),
    ({"X-Served-By": "cache-sin-wsss1830061-SIN", "X-Cache-Hits": "4, 0"}, ("SIN", "miss")),
]
_AKAMAI = [
    ({"X-Cache": "TCP_MEM_HIT from a69-174-50-208 (AkamaiGHost/5.7.2-5726413) (-)"}, ("a69-174-50-208", "hit")),
    ({"X-Cache": "TCP_MISS from a165-254-246-9.deploy.akamaitechnologies.com (AkamaiGHost/11) (-)",
      "X-Cache-Remote": "TCP_HIT from a23-67-252-148.deploy.akamaitechnologies.com (AkamaiGHost/11) (-)"},
     ("a165-254-246-9", "miss")),
    ({"X-Cache": "TCP_REFRESH_FAIL_HIT from a1-2-3-4.deploy.akamaitechnologies.com"}, ("a1-2-3-4", "stale")),
    ({"Akamai-Cache-Status": "Miss from child, Hit from parent"}, ("akamai", "miss")),
    ({"Akamai-Cache-Status": "HitStale from child"}, ("akamai", "stale")),
    ({"Akamai-Cache-Status": "NotCacheable from child, NotCacheable from parent"}, ("akamai", "bypass")),
    ({"Akamai-Cache-Status": "Error from child"}, ("akamai", "")),
    ({"Server-Timing": 'cdn-cache; desc=HIT, edge; dur=3, ak_p; desc="1729596272284_388762143_745994121_313_0";dur=1'},
     ("akamai", "hit")),
    ({"Server": "AkamaiGHost"}, ("akamai", "")),
    ({"Akamai-GRN": "0.bc85d817.1658419977.1592c61", "X-Cache": "TCP_IMS_HIT"}, ("akamai", "hit")),
]  # fmt: skip
_GOOGLE = [
    ({"Via": "1.1 google", "Age": "65"}, ("google", "hit")),
    ({"Via": "1.1 google"}, ("google", "")),
    ({"Via": "1.1 google", "Cache-Status": "uncacheable", "Cache-ID": "LHR-abcd1234"}, ("LHR", "bypass")),
    ({"Via": "1.1 google", "X-Cache-Status": "revalidated", "X-Cache-ID": "FRA-6fa4"}, ("FRA", "hit")),
    ({"Via": "1.1 google", "X-Cache-Status": "disabled"}, ("google", "bypass")),
]
_ALIBABA = [
    ({"Via": "cache36.l2cn1818[23,200-0,M], cache14.l2cn1818[39,0], kunlun7.cn1481[0,200-0,H], kunlun7.cn1481[1,0]",
      "Age": "1080", "X-Cache": "HIT TCP_MEM_HIT dirn:-2:-2", "X-Swift-CacheTime": "1765", "EagleId": "3df09a1b1563862"},
     ("cn1481", "hit")),
    ({"Via": "cache55.l2cn2630[28,28,200-0,M], cache39.l2cn2630[30,0], vcache10.cn838[85,85,200-0,M], vcache15.cn838[86,0]",
      "X-Cache": "MISS TCP_MISS dirn:-2:-2"}, ("cn838", "miss")),
    ({"Via": "cache3.l2de2[0,0,200-0,H], ens-cache8.de11[2,0]", "X-Cache": "MISS TCP_REFRESH_MISS dirn:9:1"}, ("de11", "miss")),
    ({"EagleId": "3df0", "X-Cache": "HIT TCP_HIT dirn:2:1"}, ("alibaba", "hit")),
]  # fmt: skip
_TENCENT = [
    ([("X-Cache-Lookup", "Cache Hit"), ("X-NWS-LOG-UUID", "13733582990050331190")], ("tencent", "hit")),
    ([("X-Cache-Lookup", "Cache Miss"), ("X-Cache-Lookup", "Hit From Inner Cluster"), ("X-NWS-LOG-UUID", "33946395")],
     ("tencent", "miss")),
    ([("X-Cache-Lookup", "Hit From MemCache"), ("X-Cache-Lookup", "Hit From Upstream"), ("X-NWS-LOG-UUID", "3")],
     ("tencent", "hit")),
    ([("X-Cache-Lookup", "Hit From Upstream"), ("X-NWS-LOG-UUID", "3")], ("tencent", "miss")),
]  # fmt: skip
_BUNNY = [
    (
        {"Server": "BunnyCDN-DE1-1067", "CDN-PullZone": "6194262", "CDN-Cache": "HIT", "CDN-RequestCountryCode": "DE"},
        ("DE1", "hit"),
    ),
    ({"Server": "BunnyCDN-PHX1-1155", "CDN-Cache": "EXPIRED"}, ("PHX1", "miss")),
    ({"CDN-PullZone": "6194262", "CDN-Cache": "BYPASS"}, ("bunny", "bypass")),
    ({"X-77-POP": "frankfurtDE", "X-77-Cache": "HIT"}, ("frankfurtDE", "hit")),
]
_STANDARDS = [
    ({"Cache-Status": "Origin; fwd=miss, ExampleCache; hit; ttl=376"}, ("ExampleCache", "hit")),
    ({"Cache-Status": "ExampleCache; hit; ttl=-412"}, ("ExampleCache", "stale")),
    ({"Cache-Status": '"edge 7"; fwd=uri-miss; stored'}, ("edge-7", "miss")),
    ({"Cache-Status": '"edge, 7"; fwd=stale; fwd-status=304; detail="a, b"'}, ("edge-7", "miss")),
    ({"Cache-Status": "Edge; fwd=bypass"}, ("Edge", "bypass")),
    ({"CF-Ray": "8c0f2a1b3d-FRA", "Cache-Status": "Edge; hit"}, ("FRA", "hit")),
    ([("Cache-Status", "Origin; hit"), ("Cache-Status", "Edge; fwd=miss")], ("Edge", "miss")),
    ({"CMSD-Dynamic": '"CDNA-312.663";etp=115;rtt=16,"CDNB-3ak1";etp=96;rtt=8;mb=5000'}, ("CDNB-3ak1", "")),
    ({"CMSD-Static": 'ot=v,sf=h,st=v,d=5000,br=2000,n="OriginProviderA"'}, ("", "")),
    ({"Via": "1.1 origin, 1.1 edge-c (nginx)", "Age": "12"}, ("edge-c", "hit")),
    ({"Via": "1.1 edge-c", "Age": "0"}, ("edge-c", "")),
    ({"X-Served-By": "app-7", "X-Cache-Status": "HIT"}, ("app-7", "hit")),
    ({"Server-Timing": "cache;desc=MISS, db;dur=53"}, ("", "miss")),
    ({"X-Cache": "STALE"}, ("", "stale")),
    ({"Via": "nonsense", "CF-Ray": "x", "Age": "soon", "X-Cache": "", "Cache-Status": ";,;"}, ("", "")),
]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [*_OURS, *_CLOUDFLARE, *_CLOUDFRONT, *_FASTLY, *_AKAMAI, *_GOOGLE, *_ALIBABA, *_TENCENT, *_BUNNY, *_STANDARDS],
)
def test_edges_and_caches_are_told_from_headers(
    headers: dict[str, str] | list[tuple[str, str]], expected: tuple[str, str]
) -> None:
    assert attribute(CIMultiDictProxy(CIMultiDict(headers))) == expected


_NAMES = sorted({row.header for cdn in CDNS.values() for row in (*cdn.edges, *cdn.caches)})
_VALUES = st.text() | st.lists(
    st.sampled_from([*WORDS, *_NAMES, '"', "[", ",", ";", "hit", " from ", "ttl=-", "1.1 ", "-FRA"])
).map("".join)


@example([("X-77-POP", "0" * 65)])
@given(st.lists(st.tuples(st.sampled_from(_NAMES), _VALUES), max_size=8))
def test_whatever_is_sent_the_labels_stay_small_and_clean(headers: list[tuple[str, str]]) -> None:
    edge, cache = attribute(CIMultiDict(headers))
    assert len(edge) <= 64
    assert all(c.isascii() and (c.isalnum() or c in "._-") for c in edge.removesuffix("…"))  # the mark of a cut
    assert cache in ("hit", "miss", "stale", "bypass", "")


@pytest.mark.timeout(5)
@pytest.mark.parametrize("piece", ['"', "[", ",", ";hit", "; hit ", "a-", "cache1.", "TCP_HIT from a1-", "1.1 ", '\\"', " "])
def test_the_longest_header_a_server_may_send_is_read_in_no_time(piece: str) -> None:
    value = (piece * 16_384)[:16_384]
    attribute(CIMultiDict({name: value for name in _NAMES}))
