"""A drill → a Chaos Toolkit experiment that `chaos run` runs, and `probe drill run` reads back as the drill it was.

Their runner does not undo when it is killed, and is content where an action fails; so nothing is injected by it. Its one action
runs the drill as we run it, under ledger and watchdog; its hypothesis asks before whether one may begin, and after whether the
drill passed, so that what is no pass deviates, and `chaos run` ends with 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probe.drill.toolkit.experiment import NAME

MODULE = "probe.drill.toolkit.extension"
WEAKNESS, NOT_RESTORED = "weakness", "NOT RESTORED"  # words by which its action fails


def experiment(drill: Mapping[str, Any], scenario: str) -> dict[str, Any]:
    """`drill`: the mapping of its file, as it stood there. `scenario`: where that file's scenario is found from anywhere."""
    drill = {**drill, "scenario": scenario}
    name = str(drill["drill"])
    title = str(drill.get("description") or name)
    return {
        "version": "1.0.0",
        "title": name,
        "description": title,
        "tags": [*drill.get("tags", ()), NAME],
        "steady-state-hypothesis": {
            "title": "nothing is left broken before, and the drill passed after",
            "probes": [
                {
                    "type": "probe",
                    "name": "drill-is-well",
                    "tolerance": True,
                    "provider": {"type": "python", "module": MODULE, "func": "well", "arguments": {"drill": name}},
                }
            ],
        },
        "method": [
            {
                "type": "action",
                "name": "run-drill",
                "provider": {"type": "python", "module": MODULE, "func": "run", "arguments": {"drill": drill}},
            }
        ],
        "rollbacks": [
            {
                "type": "action",
                "name": "put-back-what-is-left",
                "provider": {"type": "python", "module": MODULE, "func": "recover"},
            }
        ],
        "extensions": [{"name": NAME, "drill": drill}],
    }
