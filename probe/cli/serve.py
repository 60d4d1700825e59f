"""`probe sandbox`: the embedded platform in the foreground."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rich.console import Console

from probe.cli.signals import until_signalled
from probe.sandbox.launch import Sandbox


def environment(sandbox: Sandbox) -> dict[str, str]:
    """The variables that scenarios/ ask for, as this sandbox answers them."""
    return {
        "PLATFORM_URL": sandbox.url,
        "RTMP_URL": sandbox.rtmp_url,
        "BROADCASTER_PASSWORD": sandbox.accounts["probe"],
        "VIEWER_PASSWORD": sandbox.accounts["viewer"],
        "SANDBOX_ADMIN_URL": sandbox.admin_url,
        "SANDBOX_ADMIN_TOKEN": sandbox.admin_token,
    }


async def serve_sandbox(console: Console, port: int, state: Path | None) -> int:
    """Print the variables a scenario needs, one export a line, and stay until a signal."""
    async with Sandbox.start(state, port=port) as sandbox:
        console.print(
            f"# the sandbox is at {sandbox.url}; these are what scenarios/ need (test accounts of this sandbox only):",
            soft_wrap=True,
        )
        for name, value in environment(sandbox).items():
            console.print(f"export {name}={value}", soft_wrap=True, markup=False)
        for way, address in sandbox.ways().items():
            console.print(f"# {way:<9}{address}", soft_wrap=True, markup=False, highlight=False)
        console.print("# Ctrl-C ends it", soft_wrap=True)
        await until_signalled(asyncio.Event().wait())
    return 0
