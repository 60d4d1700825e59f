"""Short-lived bearer tokens: claims and an HMAC-SHA256 over them, both base64url.

Not JWT: there is one issuer, one reader and one algorithm. The key lives in the store, so a restart keeps tokens valid;
a generation number there lets the admin end all of them at once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets

from probe.model.clock import NS, Clock
from probe.sandbox.store import Store


class BadToken(Exception):
    """`reason` is `expired` or `invalid`."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Tokens:
    """Issues and checks. `lifetime` in seconds."""

    def __init__(self, store: Store, clock: Clock, lifetime: int) -> None:
        self._store = store
        self._clock = clock
        self.lifetime = lifetime
        if store.get("token_key") is None:
            store.set("token_key", secrets.token_hex(32))
        self._key = bytes.fromhex(store.get("token_key") or "")
        self._generation = int(store.get("token_generation") or 0)

    def issue(self, user: str, lifetime: int | None = None) -> str:
        """A token good for `lifetime` seconds (default: the usual; not above 0: born expired)."""
        now = self._clock.wall().unix_ns
        ends = now // NS + (self.lifetime if lifetime is None else lifetime)
        claims = json.dumps([user, ends, self._generation, now, secrets.token_hex(4)]).encode()
        return f"{_encode(claims)}.{_encode(self._sign(claims))}"

    def user(self, token: str, since: int = 0) -> str:
        """Whose token this is, good if issued at `since` (Unix ns) or later. Raises BadToken."""
        try:
            claims, signature = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
        except (ValueError, binascii.Error):
            raise BadToken("invalid") from None
        if not hmac.compare_digest(signature, self._sign(claims)):
            raise BadToken("invalid")
        user, ends, generation, issued, _ = json.loads(claims)
        if issued < since or generation != self._generation or ends <= self._clock.wall().unix_ns // NS:
            raise BadToken("expired")
        return str(user)

    def expire_all(self) -> None:
        self._generation += 1
        self._store.set("token_generation", str(self._generation))

    def _sign(self, claims: bytes) -> bytes:
        return hmac.digest(self._key, claims, hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
