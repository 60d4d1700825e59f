"""Telling whoever is to know that a drill begins and how it ended: a post to a webhook, bounded in time.

Before anything is touched that must have worked, or nothing is touched: a drill nobody was told of is an incident for those who
see it. How it ended is told as well as can be. The body is JSON with `text`, as chat systems take it, and the same as fields.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from probe.decide.asking import Away, ask, session
from probe.drill.core.facts import Verdict
from probe.drill.core.file import Drill
from probe.net.redact import Redactor
from probe.net.secret import revealed

_log = logging.getLogger(__name__)
_SECONDS = 5.0
_MOST = 64 * 1024


async def begins(drill: Drill, run: str, targets: tuple[str, ...], redactor: Redactor) -> str:
    """Why nobody could be told; empty: they were, or nobody is to be."""
    words = drill.comms.announce or f"Drill {drill.drill} begins"
    _log.info("announced: %s", words)
    about = {"phase": "begins", "targets": list(targets), "lasts_seconds": drill.broken / 1e9}
    return await _post(drill, run, f"{words} (owner: {drill.owner})", about, redactor)


async def ended(drill: Drill, run: str, verdict: Verdict, reason: str, redactor: Redactor) -> str:
    """As `begins`, that it is over."""
    about = {"phase": "ended", "verdict": str(verdict), "reason": reason}
    return await _post(drill, run, f"Drill {drill.drill} is over: {verdict}: {reason}", about, redactor)


async def _post(drill: Drill, run: str, text: str, about: dict[str, Any], redactor: Redactor) -> str:
    hook = drill.comms.webhook
    if hook is None:
        return ""
    body = {"text": text, "drill": drill.drill, "run": run, "owner": drill.owner, "channel": drill.comms.channel, **about}
    try:
        url = hook if isinstance(hook, str) else await asyncio.to_thread(revealed, hook.source, redactor)
        clean = redactor.redact(json.dumps(body))
        async with session() as client:
            reply = await ask(client, "POST", url, {"Content-Type": "application/json"}, _SECONDS, clean.encode(), _MOST)
    except OSError as error:
        return f"the webhook: {error.strerror or error}"
    except Away as away:
        return f"the webhook: {redactor.redact(str(away))}"
    return "" if 200 <= reply.status < 300 else f"the webhook answered {reply.status}"
