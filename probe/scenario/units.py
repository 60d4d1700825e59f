"""Quantities carry their unit, in the file and in the type.

`5` seconds, milliseconds or attempts look alike in a file and differ by a thousand in a verdict, so a bare number is
refused with the remedy. A duration becomes ns, a rate bit/s, a ratio 0..1.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_DURATION_UNITS = {"d": 86_400 * 10**9, "h": 3_600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3}
_RATE_UNITS = {"bps": 1, "kbps": 10**3, "mbps": 10**6, "gbps": 10**9}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|us|[dhms])", re.ASCII)
_RATE = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)([kMGm]?bps)", re.ASCII)
_SIZE_UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)([kKMG]i?B)", re.ASCII)
_RATIO = re.compile(r"(\d{1,3}(?:\.\d{1,9})?)%", re.ASCII)
DURATION_PATTERN = r"^(\d+(\.\d+)?(d|h|ms|m|us|s))+$"


def parse_duration(text: str) -> int:
    """`1m30s` → ns. Units d, h, m, s, ms, us, each at most once and the largest first. Raises ValueError."""
    parts = _PART.findall(text)
    order = [list(_DURATION_UNITS).index(unit) for _, unit in parts]
    if not parts or "".join(n + u for n, u in parts) != text or order != sorted(set(order)):
        raise ValueError(f"{text!r} is not a duration; write for example 5s, 1m30s or 250ms")
    return int(sum(Decimal(n) * _DURATION_UNITS[u] for n, u in parts))


def format_duration(ns: int) -> str:
    """A text that parses to the same ns: 90 s → `1m30s`."""
    out, rest = "", ns
    for unit, size in list(_DURATION_UNITS.items())[:-1]:
        count, rest = divmod(rest, size)
        if count:
            out += f"{count}{unit}"
    if rest:
        out += f"{Decimal(rest) / 1000:f}us"
    return out or "0s"


def parse_rate(text: str) -> int:
    """`800kbps` → bit/s. Units bps, kbps, Mbps, Gbps. Raises ValueError."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a bitrate; write for example 800kbps or 2.5Mbps")
    return int(Decimal(match[1]) * _RATE_UNITS[match[2].lower()])


def format_rate(rate: int) -> str:
    """A text that parses to the same bit/s: 400,000 → `400kbps`."""
    unit = next((u for u in ("Gbps", "Mbps", "kbps") if rate >= _RATE_UNITS[u.lower()]), "bps")
    return f"{(Decimal(rate) / _RATE_UNITS[unit.lower()]).normalize():f}{unit}"


def parse_size(text: str) -> int:
    """`256MB` → bytes. Units kB, MB, GB and KiB, MiB, GiB. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size; write for example 256MB or 1GiB")
    return int(Decimal(match[1]) * _SIZE_UNITS[match[2].lower()])


def parse_ratio(text: str) -> float:
    """`99.5%` → 0.995. Raises ValueError outside 0..100 %."""
    match = _RATIO.fullmatch(text)
    if match is None or Decimal(match[1]) > 100:
        raise ValueError(f"{text!r} is not a ratio from 0% to 100%; write for example 99.5%")
    return float(Decimal(match[1]) / 100)


def format_ratio(value: float) -> str:
    """0.995 → `99.5%`."""
    return f"{(Decimal(repr(value)) * 100).normalize():f}%"


def _bare(value: Any, unit: str, what: str) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{value} has no unit; write {value}{unit} if {what}")
    if not isinstance(value, str):
        raise ValueError(f"expected text such as 5{unit}, got {describe(value)}")


def describe(value: Any) -> str:
    """What a value of the file is, for an error message; never prints a long one whole."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…" + text[-1]


def _duration(value: Any) -> int:
    _bare(value, "s", "seconds are meant")
    return parse_duration(value)


def _positive(value: Any) -> int:
    ns = _duration(value)
    if ns <= 0:
        raise ValueError(f"{value!r} must be longer than nothing")
    return ns


def _rate(value: Any) -> int:
    _bare(value, "kbps", "kilobits a second are meant")
    if (rate := parse_rate(value)) <= 0:
        raise ValueError(f"{value!r} must be more than nothing")
    return rate


def _size(value: Any) -> int:
    _bare(value, "MB", "megabytes are meant")
    if (size := parse_size(value)) <= 0:
        raise ValueError(f"{value!r} must be more than nothing")
    return size


def _ratio(value: Any) -> float:
    _bare(value, "%", "percent are meant")
    return parse_ratio(value)


def _schema(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


Duration = Annotated[int, BeforeValidator(_duration), _schema(DURATION_PATTERN, "0s", "1m30s")]
PositiveDuration = Annotated[int, BeforeValidator(_positive), _schema(DURATION_PATTERN, "5s", "1m30s", "250ms")]
Rate = Annotated[int, BeforeValidator(_rate), _schema(r"^\d+(\.\d+)?([kMG]?bps)$", "800kbps", "2.5Mbps")]
Size = Annotated[int, BeforeValidator(_size), _schema(r"^\d+(\.\d+)?([kKMG]i?B)$", "256MB", "1GiB")]
Ratio = Annotated[float, BeforeValidator(_ratio), _schema(r"^\d+(\.\d+)?%$", "99.5%")]
