"""Quoting what others said, in so many characters.

A secret that lies across the place where a text is cut would leave its first half behind, unknown to whoever takes secrets out
later. Those who cut cannot all know the secrets (a parser is pure), so a cut is marked instead: `net/redact` takes out what
begins like a secret and ends at a mark. Whoever shows what somebody else wrote cuts it here and nowhere else.
"""

from __future__ import annotations

CUT = "…"


def quoted(text: str, most: int) -> str:
    """`text` in at most `most` characters, the last of them a mark where something was left out."""
    return text if len(text) <= most else text[: most - len(CUT)] + CUT


def beginning(data: bytes | bytearray | memoryview) -> str:
    """Its first eight bytes in hexadecimal digits."""
    return bytes(data[:8]).hex() + CUT
