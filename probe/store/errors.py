"""What a store says when it cannot: in words, with what to do about it, and without a password."""

from __future__ import annotations

from probe.errors import ProbeError


class StoreError(ProbeError):
    """The records cannot be reached now. What is put meanwhile waits in the outbox."""


class StoreRefused(StoreError):
    """No waiting will heal it: an address that is none, a library that is missing, a database newer than this program."""
