"""Which traces are sent: every one that somebody may ask about, and a share of the others.

The share is drawn from the trace id's own 56 random bits (W3C Trace Context level 2, section 2.2.4; OpenTelemetry's consistent
probability sampling), so that agents, and a collector that samples by the same rule, choose the same traces without asking each
other.
"""

from __future__ import annotations

from probe.model.outcome import Aborted, Failed
from probe.model.verdict import RunResult, SessionResult, Verdict

_BITS = 56


def notable(result: RunResult, verdict: Verdict, crashed: str = "") -> bool:
    """Whether a run's trace is kept whatever the share: it did not pass, something in it failed (an optional step too), the
    probe was unwell, or it crashed."""
    return (
        verdict is not Verdict.PASS
        or bool(crashed)
        or isinstance(result.outcome, Failed | Aborted)
        or bool(result.taints)
        or any(step.taints or isinstance(step.outcome, Failed | Aborted) for step in result.steps)
        or any(_suffered(session) for session in result.sessions)
    )


def drawn(trace_id: str, share: float) -> bool:
    """Whether a trace (32 hex digits) is among the `share` (0 to 1) of all: the same answer everywhere, and whoever is among a
    smaller share is among every larger one."""
    return int(trace_id[-_BITS // 4 :], 16) >= round((1 - share) * (1 << _BITS))


def _suffered(session: SessionResult) -> bool:
    return (
        bool(session.taints)
        or isinstance(session.outcome, Failed | Aborted)
        or session.ending == "crashed"
        or any(cut.taints or cut.failure is not None for cut in session.cuts)
    )
