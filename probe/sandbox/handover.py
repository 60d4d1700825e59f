"""From a transcoder's thread to the loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


def on_loop(act: Callable[P, None]) -> Callable[P, None]:
    """`act`, for other threads to call: it runs on this loop, soon; nowhere, once the loop is closed."""
    loop = asyncio.get_running_loop()

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: act(*args, **kwargs))

    return call
