"""`Link` header fields (RFC 8288 §3), as far as WHIP and WHEP use them: ICE servers (RFC 9725 §4.6).

    Link: <turn:turn.example.net?transport=udp>; rel="ice-server"; username="u"; credential="p"; credential-type="password"

The grammar is walked, not split at commas: URLs and quoted strings hold commas. What does not parse ends the walk with
what was found before it, and everything is bounded; a server's header is never a reason to fail by itself. Addresses
are for AddressPolicy to judge, once resolved.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_MOST_LINKS = 32
_MOST_PARAMETERS = 16
_LONGEST_FIELD = 16 * 1024
_LONGEST_SERVER = 512

_TARGET = re.compile(r"[\s,]*<([^<>\s]*)>")
_PARAMETER = re.compile(r"""\s*;\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s";,]+)))?""", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_SERVER = re.compile(
    r"(stun|stuns|turn|turns):(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Link:
    """One link: its target as written, and its parameters, names in lower case, the first of each name."""

    target: str
    parameters: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def relations(self) -> frozenset[str]:
        return frozenset(self.parameters.get("rel", "").lower().split())


@dataclass(frozen=True, slots=True, kw_only=True)
class IceServer:
    """One STUN (RFC 7064) or TURN (RFC 7065) server. `host` is a name or address without brackets."""

    url: str
    scheme: str
    host: str
    port: int
    transport: str
    username: str | None = None
    credential: str | None = field(default=None, repr=False)
    credential_type: str = "password"

    @property
    def origin(self) -> str:
        """As a secret is bound to it: `turn://host:port`."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse(values: Iterable[str]) -> list[Link]:
    """The links of all `Link` fields of a message, in order, at most 32."""
    links: list[Link] = []
    for value in values:
        for link in _links(value[:_LONGEST_FIELD]):
            links.append(link)
            if len(links) == _MOST_LINKS:
                return links
    return links


def ice_servers(values: Iterable[str]) -> list[IceServer]:
    """The ICE servers among the links; targets that are no STUN or TURN URI are left out."""
    found: list[IceServer] = []
    for link in parse(values):
        if "ice-server" not in link.relations:
            continue
        server = ice_server(
            link.target,
            link.parameters.get("username"),
            link.parameters.get("credential"),
            link.parameters.get("credential-type", "password").lower(),
        )
        if server is not None:
            found.append(server)
    return found


def ice_server(url: str, username: str | None, credential: str | None, credential_type: str = "password") -> IceServer | None:
    """A server by its URI; None where that is none. Without a port 3478, or 5349 for the secure schemes; `turns` is TLS over
    TCP."""
    match = _SERVER.fullmatch(url[:_LONGEST_SERVER])
    if match is None:
        return None
    scheme, host, port, transport = match.groups()
    scheme = scheme.lower()
    secure = scheme.endswith("s")
    number = int(port) if port else (5349 if secure else 3478)
    if not 0 < number < 65536:
        return None
    return IceServer(
        url=url,
        scheme=scheme,
        host=host.strip("[]").lower(),
        port=number,
        transport=(transport or ("tcp" if secure else "udp")).lower(),
        username=username,
        credential=credential,
        credential_type=credential_type,
    )


def _links(text: str) -> Iterator[Link]:
    at = 0
    while match := _TARGET.match(text, at):
        at = match.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(text, at):
            at = parameter.end()
            name, quoted, bare = parameter.groups()
            value = _ESCAPED.sub(r"\1", quoted) if quoted is not None else bare or ""
            if len(parameters) < _MOST_PARAMETERS:
                parameters.setdefault(name.lower(), value)
        yield Link(match[1], parameters)
