"""Where a command prints."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from rich.console import Console

from probe.cli.guarded import guarded
from probe.cli.options import Options


def on_console(work: Callable[[Console], Coroutine[Any, Any, int]], options: Options) -> int:
    """Run it on a loop of its own; errors become one clear text and the contract's exit code. JSON has stdout for itself."""
    console = Console(stderr=options.json, highlight=False)
    return guarded(lambda: work(console))
