"""What SRT cannot say, told before anything runs: a latency beyond its 16 bits in an address, a passphrase of another length.

A passphrase is a secret, so its length is known here only where the secret is a variable of the environment; those of files and
commands are told when a run reads them (`run/vars`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from probe.model.srt import latency_misfit, passphrase_misfit
from probe.scenario.check import Entry, Finding, view_path
from probe.scenario.steps import Publish, View
from probe.scenario.text import Path

_SECRET = re.compile(r"\$\{secret\.([^{}]+)\}")
_LATENCY = re.compile(r"[?&]latency=([^&${}]*)(?=&|$)")


def srt_findings(entries: list[Entry], data: Mapping[str, Any], env: Mapping[str, str]) -> Iterator[Finding]:
    platform = data.get("platform")
    secrets = platform.get("secrets") if isinstance(platform, dict) else None
    known = secrets if isinstance(secrets, dict) else {}
    for entry in entries:
        for path, url, passphrase in _sessions(entry):
            for value in _LATENCY.findall(url):
                if message := latency_misfit(value):
                    yield Finding((*path, "url"), message)
            name = match[1] if (match := _SECRET.fullmatch(passphrase)) else ""
            variable = known[name].get("env") if isinstance(known.get(name), dict) else None
            word = env.get(variable, "") if isinstance(variable, str) else ""
            if word and (message := passphrase_misfit(word)):
                yield Finding((*path, "passphrase"), f"environment variable {variable} is {message}")


def _sessions(entry: Entry) -> Iterator[tuple[Path, str, str]]:
    """(path, url, passphrase) of what goes over SRT."""
    model = entry.model
    if isinstance(model, Publish) and model.publish == "srt":
        yield entry.path, model.url, model.passphrase
    for i, view in enumerate(model.view if isinstance(model, View) else ()):
        if view.via == "srt":
            yield view_path(entry, i), view.url or "", view.passphrase
