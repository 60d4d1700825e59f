"""The command line: the only printer, and where verdicts become exit codes."""

from probe.cli.app import main

__all__ = ["main"]
