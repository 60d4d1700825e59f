"""One child process that runs Chaos Toolkit activities with its own library, so that they mean here what they mean there.

Order on stdin, one JSON object: {"activities": [...], "configuration": {...}, "secrets": {...}}; on stdout one JSON object:
{"runs": [{"name", "status": succeeded | failed, "met": true | false | absent, "error"}]}. In order, and no further than the first
action that failed. A process of its own because their code is anybody's: it may hang, exit, or print secrets; stdout is kept for
the answer, what they print goes nowhere.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Any

MOST = 1024 * 1024  # bytes of an order


def main() -> int:
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        from chaoslib.configuration import load_configuration
        from chaoslib.secret import load_secrets
    except ImportError:
        answer.write(json.dumps({"missing": "chaostoolkit-lib is not installed here: pip install 'stream-probe[chaostoolkit]'"}))
        return 0
    logging.disable(logging.CRITICAL)
    order = json.loads(sys.stdin.buffer.read(MOST))
    configuration = load_configuration(order.get("configuration") or {})
    secrets = load_secrets(order.get("secrets") or {}, configuration)
    runs: list[dict[str, Any]] = []
    for activity in order["activities"]:
        runs.append(_run(activity, configuration, secrets))
        if runs[-1]["status"] == "failed" and activity["type"] == "action":
            break
    answer.write(json.dumps({"runs": runs}))
    answer.close()
    return 0


def _run(activity: dict[str, Any], configuration: Any, secrets: Any) -> dict[str, Any]:
    from chaoslib.activity import run_activity
    from chaoslib.hypothesis import within_tolerance

    told: dict[str, Any] = {"name": activity["name"], "status": "succeeded"}
    pauses = activity.get("pauses") or {}
    time.sleep(_seconds(pauses.get("before")))
    try:
        output = run_activity(activity, configuration, secrets)
        if "tolerance" in activity:
            met = within_tolerance(activity["tolerance"], output, configuration=configuration, secrets=secrets)
            told["met"] = bool(met)
        elif activity["type"] == "action" and (said := _refusal(output)):
            told |= {"status": "failed", "error": said}
    except Exception as error:
        # The kind alone: their messages quote addresses and arguments, which may hold secrets.
        told |= {"status": "failed", "error": type(error).__name__}
    else:
        time.sleep(_seconds(pauses.get("after")))
    return told


def _refusal(output: Any) -> str:
    """What an action's own answer says against it; the toolkit warns of these and goes on as if it had worked."""
    status = output.get("status") if isinstance(output, dict) else None
    if isinstance(status, bool) or not isinstance(status, int):
        return ""
    if "stdout" in output:
        return f"exit code {status}" if status else ""
    return f"HTTP {status}" if status >= 400 else ""


def _seconds(pause: Any) -> float:
    return min(60.0, max(0.0, float(pause))) if isinstance(pause, int | float) and not isinstance(pause, bool) else 0.0


if __name__ == "__main__":
    sys.exit(main())
