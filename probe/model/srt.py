"""What an SRT caller can say of itself (draft-sharabayko-srt-01): known to whoever reads scenarios and to whoever speaks it."""

from __future__ import annotations

from probe.model.text import quoted

PASSPHRASE = range(10, 80)  # bytes
LATENCY = range(65_536)  # ms, in 16 bits


def passphrase_misfit(value: str) -> str | None:
    """What is wrong with a passphrase, and nothing more of it."""
    if (size := len(value.encode("utf-8", "replace"))) in PASSPHRASE:
        return None
    word = "short" if size < PASSPHRASE[0] else "long"
    return f"too {word} for SRT, whose passphrases have {PASSPHRASE[0]} to {PASSPHRASE[-1]} bytes"


def latency_misfit(text: str) -> str | None:
    """What is wrong with an address's `latency=`, in ms."""
    if text.isascii() and text.isdigit() and len(text) < 10 and int(text) in LATENCY:
        return None
    return f"latency={quoted(text, 20)}: SRT's is a number of ms of at most {LATENCY[-1]}; write for example latency=200"
