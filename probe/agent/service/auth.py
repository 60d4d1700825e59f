"""Who asks: a password, a certificate, or somebody on this machine.

A password is checked by bcrypt, which is slow by design: in a thread, one at a time, and remembered under a keyed digest that
leaves with the process. What is remembered as right cannot be pushed out by guesses; guesses wait in a short line of their own.

Without authentication anybody may read, and only this machine may set something going. "This machine" is a loopback address
without a proxy's headers, asked for by a loopback name: a page in a browser here that has its own name point to 127.0.0.1, or
sends a form to us, is not it.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
import ipaddress
import secrets
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

import bcrypt
from aiohttp import web

from probe.agent.service.answer import Refuse
from probe.agent.service.web_config import Web

KNOWN = web.RequestKey("known", bool)  # whether whoever asks may be told everything
_REMEMBERED = 256  # right ones, and as many wrong ones
_LINE = 16
_NOBODY = "$2b$10$sHTKkAUmxQaG4kIr5hUrkecc5g.pUPAf56/eue.6BT40sOnHgvpcq"  # costs an unknown user what a known one costs
_PROXIED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


class Door:
    """`web` says what is in force now."""

    def __init__(self, web: Callable[[], Web]) -> None:
        self._web = web
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._one = asyncio.Lock()
        self._waiting = 0

    async def knows(self, request: web.Request) -> bool:
        """Whether this is somebody we know. Raises Refuse where too many wait to be asked for their passwords."""
        users = self._web().users
        if not users:
            return bool(request.transport and request.transport.get_extra_info("peercert"))
        user, password = _credentials(request.headers.get("Authorization", ""))
        if user is None:
            return False
        return await self._checked(user, password, users.get(user))

    def asks(self) -> bool:
        """Whether one must be known to read."""
        return bool(self._web().users)

    async def _checked(self, user: str, password: str, hashed: str | None) -> bool:
        key = self._digest(user, password, hashed or "")
        if key in self._right:
            self._right.move_to_end(key)
            return True
        if key in self._wrong:
            return False
        if self._waiting >= _LINE:
            raise Refuse(503, "too many wait to be let in; ask again", {"Retry-After": "1"})
        self._waiting += 1
        try:
            async with self._one:
                if key not in self._right and key not in self._wrong:
                    right = await asyncio.to_thread(_matches, password, hashed or _NOBODY) and hashed is not None
                    _remember(self._right if right else self._wrong, key)
        finally:
            self._waiting -= 1
        return key in self._right

    def _digest(self, *parts: str) -> bytes:
        digest = hashlib.blake2b(key=self._key)
        for part in parts:
            data = part.encode(errors="surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.digest()


def _remember(known: OrderedDict[bytes, None], key: bytes) -> None:
    known[key] = None
    if len(known) > _REMEMBERED:
        known.popitem(last=False)


def _matches(password: str, hashed: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode(errors="surrogatepass"), hashed.encode())
    except ValueError:  # a NUL, or more than the 72 bytes that bcrypt takes
        return False


def _credentials(header: str) -> tuple[str | None, str]:
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "basic":
        return None, ""
    try:
        user, colon, password = b64decode(rest.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None, ""
    return (user, password) if colon else (None, "")


def user_of(request: web.Request) -> str:
    """Whose password came with it, of a request that was let in; empty where none did."""
    return _credentials(request.headers.get("Authorization", ""))[0] or ""


def from_here(request: web.Request) -> bool:
    """Whether it comes from this machine, by a loopback name."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    if not isinstance(peer, tuple) or not is_loopback(str(peer[0])) or any(name in request.headers for name in _PROXIED):
        return False
    try:
        host = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    except ValueError:
        return False
    return host == "localhost" or is_loopback(host)


def from_another_site(request: web.Request) -> bool:
    """Whether a browser says that a page of somebody else's asks."""
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return True
    origin = request.headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("Host")


def is_loopback(host: str) -> bool:
    """Of an address as text, an IPv4 one inside IPv6 included."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
