"""From a name to the addresses that may be connected to.

One rule for everything the probe opens, whether aiohttp does it or a protocol's own socket: look the name up, leave out the
family that was not asked for, leave out what the address policy refuses, and keep a handful. Every new connection looks its
name up again: a probe wants to see the lookup. A pinned name is not looked up at all, as with curl's `--resolve`: its address
was found before, and looking again could only answer something else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass

from probe.errors import Failure
from probe.model.stage import Phase
from probe.net import errors
from probe.net.addresses import AddressPolicy, bare

Found = list[tuple[str, int]]
_FAMILIES = {"ipv4": ("IPv4", 4), "ipv6": ("IPv6", 6)}
ADDRESSES = 8  # of one name that are tried


def family_of(ip: str) -> str:
    """`ipv4` or `ipv6`."""
    return "ipv6" if ":" in ip else "ipv4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """`family`: any, ipv4 or ipv6. `pin`: the only address of the host `pinned`, or of every host where that is empty."""

    allow: AddressPolicy
    family: str = "any"
    pin: str = ""
    pinned: str = ""

    async def addresses(
        self, host: str, port: int, *, phase: Phase, looking: Callable[[], None] = lambda: None, most: int = ADDRESSES
    ) -> Found:
        """(ip, port) of `host`, at most `most`, in the order of the resolver. `looking` is called where a lookup begins.

        Raises Failure: resolve/not_found, timeout or failed; (phase, address_refused)."""
        every = await self._every(host, port, looking)
        own = [(ip, port) for ip in every if self.family in ("any", family_of(ip))]
        if not own:
            wanted = _FAMILIES[self.family][0]
            raise Failure(Phase.RESOLVE, "not_found", f"the host has no {wanted} address, {len(every)} of the other family")
        allowed = [(ip, port) for ip, port in own if self.allow.refusal(host, ip) is None]
        if not allowed:
            self.allow.check(host, own[0][0], phase)
        return allowed[:most]

    def pin_of(self, host: str) -> str:
        """The one address it may stand for; empty: any."""
        return self.pin if self.pinned in ("", bare(host)) else ""

    async def _every(self, host: str, port: int, looking: Callable[[], None]) -> list[str]:
        if pin := self.pin_of(host):
            return [pin]
        try:
            ipaddress.ip_address(host)
            return [host]
        except ValueError:
            pass
        looking()
        # Without a family the resolver leaves out what this machine has no route for; with one, that is to be seen.
        flags = socket.AI_ADDRCONFIG if self.family == "any" else 0
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
        except (OSError, UnicodeError) as error:
            raise errors.of_resolving(error) from error
        if not found:
            raise Failure(Phase.RESOLVE, "not_found", "the name has no address")
        return list(dict.fromkeys(str(address[0]) for *_, address in found))
