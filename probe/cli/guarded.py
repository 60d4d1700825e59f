"""Work on a loop of its own; what goes wrong becomes one clear text and the contract's exit code."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from probe.cli import exits
from probe.cli.signals import Interrupted
from probe.errors import ConfigError, ProbeError


def guarded(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """The exit code that it comes to."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return exits.BAD_CONFIGURATION
    except Interrupted as interrupted:
        return exits.of_signal(interrupted.signal)
    except ProbeError as error:
        print(f"probe: {error}", file=sys.stderr)
        return exits.INTERNAL_ERROR
    except Exception:
        logging.getLogger("probe").exception("internal error")
        return exits.INTERNAL_ERROR
