"""SRT's encryption (draft-sharabayko-srt-01 sections 3.2.2 and 6): key material, and AES-CTR of payloads.

A stream encrypting key per parity (even, odd) comes wrapped (RFC 3394) in a key encrypting key, which PBKDF2 makes of the
passphrase. The caller makes the first; either side may send new ones at any time. Ours is never renewed: a session of 2^24
packets would last two days. Not attempted: AES-GCM, which the draft does not have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from probe.wire.srt.packets import Malformed

EVEN, ODD = 1, 2
UNSECURED, SECURING, SECURED, NO_SECRET, BAD_SECRET = range(5)  # states that an answer of one word names
_HEAD = bytes([0x12, 0x20, 0x29])
_ROUNDS = 2048
_SALT = 16


class WrongSecret(Exception):
    """The key was not wrapped with this passphrase."""


class Keys:
    """Those of one direction, or of both as they begin."""

    def __init__(self, passphrase: str) -> None:
        self._passphrase = passphrase.encode()
        self._salt = b""
        self._keys: dict[int, bytes] = {}
        self._wrapping: tuple[tuple[bytes, int], bytes] | None = None

    def make(self, size: int, random: Callable[[int], bytes]) -> bytes:
        """A first (even) key of `size` bytes; returns the key material that tells it."""
        self._salt = random(_SALT)
        self._keys = {EVEN: random(size)}
        wrapped = aes_key_wrap(self._wrap_key(self._salt, size), self._keys[EVEN])
        return _material(EVEN, size, self._salt, wrapped)

    def copy(self) -> Keys:
        other = Keys(self._passphrase.decode())
        other._salt, other._keys, other._wrapping = self._salt, dict(self._keys), self._wrapping
        return other

    def learn(self, material: bytes) -> None:
        """Take the keys that key material tells. Raises Malformed, WrongSecret."""
        if len(material) < 16 + _SALT or material[:3] != _HEAD:
            raise Malformed("no key material")
        which, cipher, size = material[3] & 3, material[8], material[15] * 4
        if not which or cipher != 2 or material[14] * 4 != _SALT or size not in (16, 24, 32):
            raise Malformed(f"key material of another kind: cipher {cipher}, {size} bytes")
        salt = material[16 : 16 + _SALT]
        count = 2 if which == EVEN | ODD else 1
        wrapped = material[16 + _SALT : 16 + _SALT + 8 + count * size]
        if len(wrapped) < 8 + count * size:
            raise Malformed("key material that ends too early")
        try:
            plain = aes_key_unwrap(self._wrap_key(salt, size), wrapped)
        except InvalidUnwrap as error:
            raise WrongSecret from error
        self._salt = salt
        if which & EVEN:
            self._keys[EVEN] = plain[:size]
        if which & ODD:
            self._keys[ODD] = plain[-size:]

    def knows(self, key: int) -> bool:
        return key in self._keys

    def crypt(self, key: int, sequence: int, payload: bytes) -> bytes:
        """Encrypt or decrypt a payload: in counter mode they are the same."""
        vector = bytearray(16)
        vector[10:14] = sequence.to_bytes(4, "big")
        for at in range(14):
            vector[at] ^= self._salt[at]
        return Cipher(AES(self._keys[key]), CTR(bytes(vector))).encryptor().update(payload)

    def _wrap_key(self, salt: bytes, size: int) -> bytes:
        if self._wrapping is None or self._wrapping[0] != (salt, size):
            key = hashlib.pbkdf2_hmac("sha1", self._passphrase, salt[8:], _ROUNDS, size)
            self._wrapping = ((salt, size), key)
        return self._wrapping[1]


def _material(which: int, size: int, salt: bytes, wrapped: bytes) -> bytes:
    return _HEAD + bytes([which, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, len(salt) // 4, size // 4]) + salt + wrapped
