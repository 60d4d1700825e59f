"""Which addresses a server may name."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.errors import Failure
from probe.model.stage import Phase
from probe.net.addresses import AddressPolicy

PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "169.254.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "239.255.255.255",
    "255.255.255.255",
    "240.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "100::1",
]
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "172.15.0.1",
    "172.32.0.1",
    "100.63.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "2a00:1450::1",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("ip", PRIVATE)
def test_special_addresses_are_refused(ip: str) -> None:
    with pytest.raises(Failure) as caught:
        AddressPolicy().check("cdn.test", ip, Phase.ICE)
    assert (caught.value.phase, caught.value.reason) == (Phase.ICE, "address_refused")


@pytest.mark.parametrize("ip", PUBLIC)
def test_public_addresses_are_allowed(ip: str) -> None:
    AddressPolicy().check("cdn.test", ip)


@pytest.mark.parametrize("ip", ["", "localhost", "127.1", "0x7f000001", "2130706433", "1.2.3.4.5", "::g"])
def test_what_is_no_address_is_refused(ip: str) -> None:
    assert AddressPolicy().refusal("cdn.test", ip) is not None


def test_the_platforms_own_host_may_be_anywhere_and_no_other() -> None:
    policy = AddressPolicy.for_platform("http://Live.Example:8080/base")
    for host in ("live.example", "LIVE.EXAMPLE", "live.example."):
        policy.check(host, "10.0.0.1")
    for host in ("live.example.evil.test", "evil-live.example", "example", "10.0.0.1"):
        assert policy.refusal(host, "10.0.0.1") is not None


def test_hosts_addresses_and_networks_can_be_listed() -> None:
    policy = AddressPolicy.of(
        "edge.internal", "origin.internal:8443", "10.20.0.0/16", "fd00::/8", "192.168.7.7", "http://[::1]:80/"
    )
    for host, ip in (
        ("edge.internal", "10.0.0.1"),
        ("origin.internal", "10.0.0.1"),
        ("x", "10.20.1.1"),
        ("x", "fd00::1"),
        ("x", "192.168.7.7"),
        ("::1", "::1"),
        ("x", "::ffff:10.20.0.1"),
    ):
        policy.check(host, ip)
    for host, ip in (("x", "10.21.0.1"), ("x", "192.168.7.8"), ("x", "127.0.0.1"), ("x", "::2")):
        assert policy.refusal(host, ip) is not None


@pytest.mark.parametrize("entry", ["", "http://", "a b", "a/b", "user@host", "10.0.0.0/33"])
def test_a_list_entry_that_means_nothing_is_refused(entry: str) -> None:
    with pytest.raises(ValueError):
        AddressPolicy.of(entry)


@given(st.ip_addresses())
def test_nothing_special_is_ever_allowed_unlisted(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    allowed = AddressPolicy().refusal("cdn.test", str(ip)) is None
    if allowed:
        assert not (ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified)
        assert not ip.is_private or ip in ipaddress.ip_network("64:ff9b::/96")


@given(st.ip_addresses(v=4))
def test_hiding_an_address_inside_ipv6_gains_nothing(ip: ipaddress.IPv4Address) -> None:
    policy = AddressPolicy()
    if policy.refusal("x", str(ip)) is not None:
        number = int(ip)
        forms = [number | 0xFFFF << 32, int(ipaddress.IPv6Address("64:ff9b::")) | number, 0x2002 << 112 | number << 80 | 1]
        assert all(policy.refusal("x", str(ipaddress.IPv6Address(form))) for form in forms)


@given(st.ip_addresses(), st.integers(0, 32))
def test_what_is_listed_is_allowed(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int) -> None:
    assert AddressPolicy.of(f"{ip}/{bits}").refusal("x", str(ip)) is None
