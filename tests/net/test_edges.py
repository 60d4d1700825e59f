"""Who answered, and from where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from probe.net.edges import CACHES, EDGES, attribute


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ("", "")),
        ({"X-Edge": "edge-a", "X-Cache": "HIT"}, ("edge-a", "hit")),
        ({"x-edge": "edge-b", "x-cache": "MISS"}, ("edge-b", "miss")),
        ({"CF-Ray": "8c0f2a1b3d-FRA", "CF-Cache-Status": "DYNAMIC"}, ("FRA", "bypass")),
        ({"CF-Ray": "8c0f2a1b3d-FRA", "CF-Cache-Status": "EXPIRED", "Age": "3"}, ("FRA", "miss")),
        (
            {"X-Amz-Cf-Pop": "FRA56-P2", "X-Cache": "Hit from cloudfront", "Via": "1.1 abc.cloudfront.net (CloudFront)"},
            ("FRA56-P2", "hit"),
        ),
        ({"X-Amz-Cf-Pop": "FRA56-P2", "X-Cache": "RefreshHit from cloudfront"}, ("FRA56-P2", "hit")),
        ({"X-Amz-Cf-Pop": "FRA56-P2", "X-Cache": "Error from cloudfront"}, ("FRA56-P2", "")),
        ({"X-Served-By": "cache-lga21931-LGA, cache-fra19133-FRA", "X-Cache": "MISS, HIT"}, ("cache-fra19133-FRA", "hit")),
        ({"Cache-Status": "Origin; fwd=miss, ExampleCache; hit; ttl=376"}, ("ExampleCache", "hit")),
        ({"Cache-Status": "ExampleCache; hit; ttl=-412"}, ("ExampleCache", "stale")),
        ({"Cache-Status": '"edge 7"; fwd=uri-miss; stored'}, ("edge-7", "miss")),
        ({"Cache-Status": "Edge; fwd=bypass"}, ("Edge", "bypass")),
        ({"Via": "1.1 origin, 1.1 edge-c (nginx)", "Age": "12"}, ("edge-c", "hit")),
        ({"Via": "1.1 edge-c", "Age": "0"}, ("edge-c", "")),
        ({"X-Cache": "STALE"}, ("", "stale")),
        ({"Via": "nonsense", "CF-Ray": "x", "Age": "soon", "X-Cache": ""}, ("", "")),
    ],
)
def test_edges_and_caches_are_told_from_headers(headers: dict[str, str], expected: tuple[str, str]) -> None:
    assert attribute(CIMultiDict(headers)) == expected


@given(st.dictionaries(st.sampled_from([name for name, _ in (*EDGES, *CACHES)]), st.text()))
def test_whatever_is_sent_the_labels_stay_small_and_clean(headers: dict[str, str]) -> None:
    edge, cache = attribute(CIMultiDict(headers))
    assert len(edge) <= 64 and all(c.isascii() and (c.isalnum() or c in "._-") for c in edge)
    assert cache in ("hit", "miss", "stale", "bypass", "")
