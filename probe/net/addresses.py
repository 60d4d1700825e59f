"""Which addresses the probe will connect to.

A platform under test names hosts: in redirects, `Location`, playlists, `Link`, ICE candidates. A hostile or broken one
could so turn the probe against the network it stands in (server-side request forgery). Public addresses are allowed;
everything special (IANA special-purpose registries, RFC 6890) only where the host is the platform's own or was
listed. The client checks the address it is about to connect to, after the name was resolved, so that a name which
resolves differently the second time (DNS rebinding) gains nothing. Ports are not judged.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from yarl import URL

from probe.errors import Failure
from probe.model.stage import Phase

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SHARED = ipaddress.IPv4Network("100.64.0.0/10")  # RFC 6598, carrier-grade NAT
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: how an IPv6-only network reaches IPv4


def bare(host: str) -> str:
    """A host as it is compared: lower case, without brackets and the root's dot."""
    return host.strip().strip("[]").rstrip(".").lower()


def _embedded(ip: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one carries: mapped, 6to4, Teredo or NAT64."""
    if isinstance(ip, IPv4Address):
        return None
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


def special(ip: Address) -> str | None:
    """What kind of special-purpose address it is, in words; None for a public one."""
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return "an IPv4-mapped address"
        inner = _embedded(ip)
        if inner is not None and (kind := special(inner)) is not None:
            return f"{kind} inside IPv6"
        if ip in _NAT64:
            return None
        if ip.is_site_local:
            return "a private address"
    if ip.is_unspecified:
        return "the unspecified address"
    if ip.is_loopback:
        return "a loopback address"
    if ip.is_link_local:
        return "a link-local address"
    if ip.is_multicast:
        return "a multicast address"
    if isinstance(ip, IPv4Address) and ip in _SHARED:
        return "a carrier-grade NAT address"
    if ip.is_private:
        return "a private address"
    if ip.is_reserved or not ip.is_global:
        return "a reserved address"
    return None


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Host names and networks that may be special. Empty: public addresses only."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, *entries: str) -> AddressPolicy:
        """From URLs and host:port (the host counts), host names, IP addresses and CIDRs. Raises ValueError for anything else."""
        return cls().including(entries)

    @classmethod
    def for_platform(cls, url: str, allow: Iterable[str] = ()) -> AddressPolicy:
        """The platform's own host, and what its scenario lists."""
        return cls.of(url, *allow)

    def including(self, entries: Iterable[str]) -> AddressPolicy:
        """This policy and more entries, as in `of`."""
        hosts, networks = set(self.hosts), list(self.networks)
        for entry in entries:
            text = entry.strip()
            try:
                networks.append(ipaddress.ip_network(text.strip("[]"), strict=False))
                continue
            except ValueError:
                pass
            host = URL(text if "://" in text else f"//{text}").raw_host
            if not host or ("://" not in text and any(c in text for c in "/@ \t\r\n")):
                raise ValueError(f"{entry!r} is neither a URL, a host, an address nor a network")
            try:
                networks.append(ipaddress.ip_network(bare(host)))
            except ValueError:
                hosts.add(bare(host))
        return AddressPolicy(frozenset(hosts), tuple(networks))

    def refusal(self, host: str, ip: str) -> str | None:
        """Why `ip`, that `host` stands for, may not be connected to; None when it may."""
        if bare(host) in self.hosts:
            return None
        try:
            address = ipaddress.ip_address(ip.strip("[]"))
        except ValueError:
            return "what was named is not an IP address"
        if any(candidate in network for candidate in (address, _embedded(address)) if candidate for network in self.networks):
            return None
        kind = special(address)
        return None if kind is None else f"{address} is {kind} and not on the allow list"

    def check(self, host: str, ip: str, phase: Phase = Phase.CONNECT) -> None:
        """Raises Failure(phase, address_refused) where `refusal` has a reason."""
        why = self.refusal(host, ip)
        if why is not None:
            raise Failure(phase, "address_refused", why)
