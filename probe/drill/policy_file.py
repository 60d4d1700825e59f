"""A policy file → a PolicyFile, or every mistake in it at once; and which file it is.

The command line's `--policy`, else $PROBE_DRILL_POLICY, else /etc/stream-probe/drill-policy.yaml: whoever looks after a machine
says it there once. Where there is none, the built-in policy allows nothing but what the command itself started and its own
clients. Chosen not to: a file beside the drill, which would be its author's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from probe.drill.core.campaigns import Campaigns
from probe.drill.core.policy import BUILT_IN, Policy, PolicyFile, Stretch
from probe.drill.mapping_file import load_mapping, refused
from probe.scenario.text import Document

VARIABLE = "PROBE_DRILL_POLICY"
INSTALLED = Path("/etc/stream-probe/drill-policy.yaml")


def find_policy(given: Path | None, env: Mapping[str, str], installed: Path = INSTALLED) -> PolicyFile:
    """The policy in force. Raises ConfigError with all mistakes, also where a file that was named is not there."""
    if given is None and env.get(VARIABLE):
        given = Path(env[VARIABLE])
    if given is None and installed.exists():
        given = installed
    return BUILT_IN if given is None else load_policy(given, env=env)


def load_policy(path: Path, *, env: Mapping[str, str]) -> PolicyFile:
    """Read a policy, and the campaigns that it names. Raises ConfigError with all mistakes."""
    policy, document = load_mapping(path, Policy, "drill_policy", env)
    if not policy.allow:
        message = "allows nothing, so that no drill could run; write for example allow: [{targets: [clients:*]}]"
        document.mistake(("allow",), message, "allow")
        raise refused(document)
    lines = {place: found.line for place, found in (*document.values.items(), *document.keys.items())}
    return PolicyFile(policy, str(path), lines, _nights(path, policy, document, env))


def _nights(path: Path, policy: Policy, document: Document, env: Mapping[str, str]) -> tuple[Stretch, ...]:
    said = policy.campaigns
    if said is None:
        return ()
    file = path.parent / said.file
    if not os.path.exists(file):
        document.mistake(("campaigns", "file"), f"{file} is not there", "campaigns.file")
        raise refused(document)
    campaigns, _ = load_mapping(file, Campaigns, "calendar", env)
    return tuple(
        Stretch(one.begins - said.before, one.ends + said.after, f"campaign {name}", ("campaigns",))
        for name, one in campaigns.campaigns.items()
    )
